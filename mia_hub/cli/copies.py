"""``mia-hub copies``: does a model give its training images back?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mia_hub.cli.options import Commands, add_condition_columns, add_query_options, add_quiet_option
from mia_hub.cli.output import output_folder, report_files, report_interruption
from mia_hub.cli.reference import SOURCES
from mia_hub.errors import MiaHubError
from mia_hub.system.files import write_output, write_output_bytes

FILES = ("copies.json", "copies.md", "copies.html", "pairs.csv", "pairs.png")


def add_command(commands: Commands) -> None:
    """Add ``copies`` to the commands of mia-hub."""
    parser = commands.add_parser(
        "copies",
        help="does a model give its training images back?",
        description="Generates images, and finds those that are copies of training images: nearer to one than images are that were not "
        "trained on. Prints the report.",
    )
    parser.add_argument("--model", default="demo", help="'demo', a folder, a Hub id, or 'base + lora' (default: demo)")
    parser.add_argument("--training", metavar="SOURCE", help=f"the training images: {SOURCES} (default for the demo: those of its split)")
    parser.add_argument(
        "--nonmembers",
        metavar="SOURCE",
        help="images certainly not in the training set, of the same kind, that copies are told from; the same forms (default: the "
        "non-members of the split that is given as --training)",
    )
    parser.add_argument("-n", "--images", type=int, metavar="N", help="number of images to generate (default: 200)")
    parser.add_argument("--generated", metavar="FOLDER", help="images that were generated elsewhere; then none is generated")
    parser.add_argument(
        "--embedder",
        default="pixels",
        help="what distances are measured in: pixels, features, denoiser, or transformers:ID for a vision model, such as "
        "transformers:facebook/dinov2-small (default: pixels)",
    )
    parser.add_argument("--neighbours", type=int, metavar="K", help="nearest training images in the mean of the ratio (default: 50)")
    parser.add_argument("--rate", type=float, metavar="Q", help="false-discovery rate among what is called a copy (default: 0.05)")
    parser.add_argument("--steps", type=int, metavar="N", help="steps of DDIM sampling (default: 50)")
    parser.add_argument("--guidance", type=float, metavar="W", help="classifier-free guidance (default: 7.5 for Stable Diffusion, else 1)")
    parser.add_argument(
        "--prompts",
        metavar="captions|empty|FILE",
        help="for a model conditioned on text or classes: those of the training images, empty ones, or the lines of a text file (default: "
        "captions)",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="at most N training images and N non-members, by a seeded draw")
    parser.add_argument("--seed", type=int, help="seed of the noise, the prompts and the draws (default: 0)")
    parser.add_argument("--image-column", metavar="NAME", help="where it isn't image")
    add_condition_columns(parser)
    parser.add_argument(
        "--out", metavar="FOLDER", help=f"write {', '.join(FILES)} and the generated images there; the same command resumes a search"
    )
    add_query_options(parser)
    add_quiet_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the report, and write it into the folder of ``--out``."""
    from mia_hub.copying.finding import find_copies

    out = Path(args.out) if args.out else None
    names = (
        "generated", "embedder", "neighbours", "rate", "steps", "guidance", "limit", "image_column", "caption_column", "class_column",
        "seed", "batch_size", "device", "dtype", "revision",
    )  # fmt: skip
    given: dict[str, Any] = {name: getattr(args, name) for name in names} | {"n": args.images, "prompts": _prompts(args.prompts)}
    options = {name: value for name, value in given.items() if value is not None}
    try:
        with output_folder(out):
            report = find_copies(args.model, args.training, args.nonmembers, folder=out, progress=not args.quiet, **options)
    except KeyboardInterrupt:
        if not out:
            raise
        return report_interruption(f"finished work is in {out}")
    if out:
        texts = (report.to_json(), report.to_markdown(), report.to_html(), report.to_csv().rstrip("\n"))
        for name, text in zip(FILES, texts):
            write_output(out / name, text)
        write_output_bytes(out / FILES[-1], report.sheet)
    print(report.to_markdown())
    if out:
        report_files(out, FILES)
    return 0


def _prompts(name: str | None) -> Any:
    """Return the prompts that --prompts names: the lines of a file."""
    from mia_hub.prompts.reading import read_prompts

    if name is None or name in ("captions", "empty"):
        return name
    if not Path(name).exists():
        raise MiaHubError(f"--prompts takes 'captions', 'empty', or a text file with one prompt per line, and there is no file {name}.")
    return read_prompts(name)
