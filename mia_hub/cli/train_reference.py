"""``mia-hub train-reference``: a small denoiser of other images of the kind, which serves as ``--base``."""

from __future__ import annotations

import argparse

from mia_hub.cli.options import Commands, add_quiet_option
from mia_hub.cli.output import message, report_interruption


def add_command(commands: Commands) -> None:
    """Add ``train-reference`` to the commands of mia-hub."""
    parser = commands.add_parser(
        "train-reference",
        help="train a small reference denoiser on other images of the kind, for --base or --reference-model",
        description="Trains a small denoiser that serves as the base of a model which has none, or as a reference model. The same command "
        "resumes an interrupted run. Its images must not be among the known non-members, nor among the images in question.",
    )
    parser.add_argument("--images", required=True, metavar="FOLDER", help="images of the same kind: hundreds, better thousands")
    parser.add_argument("--like", default="demo", metavar="MODEL", help="the model that will be audited (default: demo)")
    parser.add_argument("--out", metavar="FOLDER", help="where it is written (default: a folder of its own in the home folder)")
    parser.add_argument("--steps", type=int, default=3000, metavar="N", help="training steps, of 32 images each (default: 3000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, batches and draws (default: 0)")
    parser.add_argument("--revision", help="branch, tag or commit of the model on the Hub")
    parser.add_argument("--device", help="cpu, cuda, mps (default: the best one present)")
    add_quiet_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the folder of the denoiser."""
    from mia_hub.denoisers.reference_denoiser import train_reference

    try:
        folder = train_reference(
            args.images, args.like, args.out, steps=args.steps, seed=args.seed, device=args.device, revision=args.revision,
            progress=not args.quiet,
        )  # fmt: skip
    except KeyboardInterrupt:
        return report_interruption("what was trained is kept")
    message(f"use it as --base or --reference-model {folder}")
    print(folder)
    return 0
