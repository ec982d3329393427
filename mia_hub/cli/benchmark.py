"""``mia-hub benchmark list | show NAME | run NAME``: thin sub-commands. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mia_hub.cli.output import INTERRUPTED, write_comparison
from mia_hub.system.files import make_output_folder, write_output


def add_command(commands: argparse._SubParsersAction) -> None:
    """Adds ``benchmark`` to the sub-commands of mia-hub."""
    parser = commands.add_parser(
        "benchmark", help="published settings: list them, show one, compute its row", description="Published settings, one file each."
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    what = "name, or a .json file of your own"

    listed = actions.add_parser("list", help="all settings in one table", description="Lists the settings.")
    listed.set_defaults(run=_list)

    show = actions.add_parser("show", help="one setting, as Markdown", description="Shows one setting as a page of Markdown.")
    show.add_argument("name", metavar="NAME", help=what)
    show.set_defaults(run=_show)

    run = actions.add_parser("run", help="compute one setting's row", description="Computes one setting's row.")
    run.add_argument("name", metavar="NAME", help=what)
    run.add_argument("--model", help="in place of the setting's own; needed where that isn't public. Trained on just the setting's members")
    run.add_argument("--revision", help="branch, tag or commit of the model on the Hub")
    run.add_argument("--limit", type=int, metavar="N", help="at most N members and N non-members, the first of each draw")
    run.add_argument("--seed", type=int, default=0, help="of noise, of the calibration part and of bootstrap intervals (default: 0)")
    run.add_argument("--batch-size", type=int, metavar="N", help="rows per forward pass; halved by itself when memory runs out")
    run.add_argument("--device", help="cpu, cuda, mps (default: the best one present)")
    run.add_argument("--dtype", choices=["float32", "float64", "bfloat16", "float16"], help="precision of the model (default: float32)")
    run.add_argument(
        "--out", metavar="FOLDER", help="write what 'compare --out' writes, and benchmark.json and .md; an interrupted run goes on"
    )
    run.add_argument(
        "--cache", metavar="FOLDER", help="where drawn images are kept (default: mia_hub/benchmarks in the Hub's cache folder)"
    )
    run.add_argument("--quiet", action="store_true", help="no progress bars")
    run.set_defaults(run=_run)


def _list(args: argparse.Namespace) -> int:
    from mia_hub.auditing.published_settings.pages import list_text
    from mia_hub.auditing.published_settings.setting import list_benchmarks, load_benchmark

    print(list_text([load_benchmark(name) for name in list_benchmarks()]))
    return 0


def _show(args: argparse.Namespace) -> int:
    from mia_hub.auditing.published_settings.pages import show_markdown
    from mia_hub.auditing.published_settings.setting import load_benchmark

    print(show_markdown(load_benchmark(args.name)))
    return 0


def _run(args: argparse.Namespace) -> int:
    from mia_hub.auditing.published_settings.pages import run_markdown
    from mia_hub.auditing.published_settings.run import run_and_tell

    out = Path(args.out) if args.out else None
    if out:
        make_output_folder(out)
    options = {name: getattr(args, name) for name in ("model", "revision", "limit", "seed", "batch_size", "device", "dtype", "cache")}
    try:
        done = run_and_tell(args.name, folder=out, progress=not args.quiet, **options)
    except KeyboardInterrupt:
        kept = f"what was finished is in {out}, and " if out else ""
        print(f"\nmia-hub: interrupted; {kept}images that were fetched are kept. The same command goes on from there.", file=sys.stderr)
        return INTERRUPTED
    comparison, said = done.comparison, run_markdown(done)
    if out:  # before anything is printed, which a reader like `head` may cut short
        write_comparison(out, comparison)
        write_output(out / "benchmark.md", said)
    print(f"{said}\n\n{comparison.to_markdown()}")
    if out:
        print(
            f"\nWritten to {out}: benchmark.json, .md, comparison.json, .md, .html, .svg, and scores-….parquet for each attack",
            file=sys.stderr,
        )
    return 0
