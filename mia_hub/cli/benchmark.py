"""``mia-hub benchmark list | show NAME | run NAME``: published settings, and their rows computed here."""

from __future__ import annotations

import argparse
from pathlib import Path

from mia_hub.cli.options import Commands, add_query_options, add_quiet_option, add_seed_option
from mia_hub.cli.output import report_files, report_interruption, write_comparison
from mia_hub.system.files import make_output_folder, write_output


def add_command(commands: Commands) -> None:
    """Add ``benchmark`` to the commands of mia-hub."""
    parser = commands.add_parser(
        "benchmark", help="published settings: list them, show one, compute its row", description="Published settings, one file each."
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", help="all settings in one table", description="Lists the settings.")
    show = actions.add_parser("show", help="one setting, as Markdown", description="Shows one setting as a page of Markdown.")
    compute = actions.add_parser("run", help="compute one setting's row", description="Computes one setting's row.")
    for action in (show, compute):
        action.add_argument("name", metavar="NAME", help="name, or a .json file of your own")
    compute.add_argument(
        "--model", help="in place of the setting's own; needed where that isn't public. Trained on exactly the setting's members"
    )
    compute.add_argument("--limit", type=int, metavar="N", help="at most N members and N non-members, the first of each draw")
    add_seed_option(compute)
    add_query_options(compute)
    compute.add_argument(
        "--out",
        metavar="FOLDER",
        help="write what 'compare --out' writes, and benchmark.json and .md; the same command resumes an interrupted run",
    )
    compute.add_argument(
        "--cache", metavar="FOLDER", help="where drawn images are cached (default: mia_hub/benchmarks in the Hub's cache folder)"
    )
    add_quiet_option(compute)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """List the settings, show one, or compute its row."""
    return {"list": _list, "show": _show, "run": _compute}[args.action](args)


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


def _compute(args: argparse.Namespace) -> int:
    from mia_hub.auditing.published_settings.pages import run_markdown
    from mia_hub.auditing.published_settings.run import benchmark_run

    out = Path(args.out) if args.out else None
    if out:
        make_output_folder(out)
    options = {name: getattr(args, name) for name in ("model", "revision", "limit", "seed", "batch_size", "device", "dtype", "cache")}
    try:
        result = benchmark_run(args.name, folder=out, progress=not args.quiet, **options)
    except KeyboardInterrupt:
        finished = f"finished work is in {out}, and " if out else ""
        return report_interruption(f"{finished}fetched images stay in the cache")
    comparison, text = result.comparison, run_markdown(result)
    if out:
        write_comparison(out, comparison)
        write_output(out / "benchmark.md", text)
    print(f"{text}\n\n{comparison.to_markdown()}")
    if out:
        report_files(out, ("benchmark.json", ".md", "comparison.json", ".md", ".html", ".svg", "and scores-….parquet for each attack"))
    return 0
