"""``mia-hub compare``: several attacks side by side on one split."""

from __future__ import annotations

import argparse
from pathlib import Path

from mia_hub.cli.fail_above import add_fail_above, check_rates, limits_from, status_of
from mia_hub.cli.options import Commands, add_measuring_options, add_model_options, model_from, split_from
from mia_hub.cli.output import report_files, report_interruption, write_comparison
from mia_hub.system.files import make_output_folder
from mia_hub.system.processes import joined_processes


def add_command(commands: Commands) -> None:
    """Add ``compare`` to the commands of mia-hub."""
    parser = commands.add_parser(
        "compare",
        help="compare several attacks on one split",
        description="Runs several attacks on one split and reports their figures side by side.",
        epilog="An attack is written as NAME or NAME:PARAMETER=VALUE,…, such as sima-mc:draws=30,timesteps=50,100; "
        "a combination as its parts with a plus sign between them, such as sima+pia:timesteps=200.",
    )
    parser.add_argument("--attacks", nargs="+", metavar="ATTACK", help="default: all that can run on this model and split")
    parser.add_argument(
        "--combine",
        nargs="+",
        default=[],
        metavar="ATTACK+ATTACK",
        help="logistic combinations; each gets a row, and so does each part alone at as many queries",
    )
    add_measuring_options(parser)
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        help="write comparison.json, .md, .html and .svg and a scores-….parquet for each attack there; the same command resumes an "
        "interrupted comparison",
    )
    add_fail_above(parser)
    add_model_options(parser)
    parser.set_defaults(run=run, shares_work=True)


def run(args: argparse.Namespace) -> int:
    """Print the comparison, and write it into the folder of ``--out``."""
    from mia_hub.attacks.spelling import parse_attack, parse_parts
    from mia_hub.auditing.compare import compare

    attacks = None if args.attacks is None else [parse_attack(text) for text in args.attacks]
    combine, limits = [parse_parts(text) for text in args.combine], limits_from(args)
    out = Path(args.out) if args.out else None
    if out:
        make_output_folder(out)
    try:
        with joined_processes() as processes:
            split = split_from(args)
            check_rates(limits, split, selection=args.selection)
            comparison = compare(
                model_from(args), split, attacks, combine=combine, selection=args.selection, fprs=args.fpr,
                batch_size=args.batch_size, base=args.base, reference_models=args.reference_models, seed=args.seed, captions=args.captions,
                shift_check=not args.no_shift_check, folder=out, progress=not args.quiet and processes.is_first,
            )  # fmt: skip
    except KeyboardInterrupt:
        if not out:
            raise
        return report_interruption(f"finished work is in {out}")
    if not processes.is_first:
        return 0
    if out:
        write_comparison(out, comparison)
    print(comparison.to_markdown())
    if out:
        report_files(out, ("comparison.json", ".md", ".html", ".svg", "and scores-….parquet for each attack"))
    return status_of(limits, [(f"{row.label}: ", row.report) for row in comparison.rows])
