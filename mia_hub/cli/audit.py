"""``mia-hub audit``: how well one attack tells known members from known non-members."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mia_hub.cli.fail_above import add_fail_above, check_rates, limits_from, status_of
from mia_hub.cli.options import Commands, add_attack_options, add_measuring_options, add_model_options, model_from, split_from
from mia_hub.cli.output import hashes_of, output_folder, report_files, report_interruption, write_pdf
from mia_hub.system.files import write_output
from mia_hub.system.processes import joined_processes

if TYPE_CHECKING:
    from mia_hub.auditing.report import AuditReport


def add_command(commands: Commands) -> None:
    """Add ``audit`` to the commands of mia-hub."""
    parser = commands.add_parser(
        "audit",
        help="measure an attack on known members and non-members",
        description="Measures how well an attack tells members from non-members.",
    )
    parser.add_argument("--timestep", type=int, metavar="T", help="a timestep fixed beforehand, instead of choosing one")
    parser.add_argument(
        "--rank",
        type=int,
        metavar="N",
        help="list the N members that the attack finds first; report.html then holds small copies of them",
    )
    parser.add_argument(
        "--epsilon",
        choices=["auto", "one-run", "clopper-pearson", "none"],
        default="auto",
        help="lower bound on the ε of differential privacy; one-run needs a split drawn by 'make-split --coin-flip' (default: one-run "
        "where the split allows it, else clopper-pearson, which says less)",
    )
    add_measuring_options(parser)
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        help="write report.json, report.md, report.html, report.pdf (with the extra 'pdf') and scores.parquet there; the same command "
        "resumes an interrupted audit",
    )
    add_fail_above(parser)
    add_attack_options(parser, "sima")
    add_model_options(parser)
    parser.set_defaults(run=run, shares_work=True)


def run(args: argparse.Namespace) -> int:
    """Print the report, and write it into the folder of ``--out``."""
    from mia_hub.attacks import get_attack
    from mia_hub.attacks.spelling import parse_parameters
    from mia_hub.auditing.audit import audit
    from mia_hub.auditing.stored_scores import BATCHES

    attack, limits = get_attack(args.attack, **parse_parameters(args.set)), limits_from(args)
    out = Path(args.out) if args.out else None
    try:
        with joined_processes() as processes, output_folder(out):
            split = split_from(args)
            check_rates(limits, split, selection=args.selection, timestep=args.timestep, fitted=attack.needs_training)
            report = audit(
                model_from(args), attack, split, selection=args.selection, timestep=args.timestep, rank=args.rank, fprs=args.fpr,
                batch_size=args.batch_size, base=args.base, reference_models=args.reference_models, seed=args.seed, captions=args.captions,
                shift_check=not args.no_shift_check, folder=out, progress=not args.quiet and processes.is_first, epsilon=args.epsilon,
            )  # fmt: skip
    except KeyboardInterrupt:
        if not out or not (out / BATCHES).exists():
            raise
        return report_interruption(f"finished work is in {out}")
    if not processes.is_first:
        return 0
    written = [] if out is None else _write(out, report)
    print(report.to_markdown())
    if out:
        report_files(out, written)
    return status_of(limits, [("", report)])


def _write(out: Path, report: AuditReport) -> list[str]:
    """Write a report into a folder, beside its scores; return the names of all files."""
    from mia_hub.auditing.filing import audit_filing

    for name, text in (("report.json", report.to_json()), ("report.md", report.to_markdown()), ("report.html", report.to_html())):
        write_output(out / name, text)
    filed = hashes_of(out, ("report.json", "scores.parquet"))
    printed = write_pdf(out, "report.pdf", audit_filing(report, filed), page="filing.html")
    return ["report.json", "report.md", "report.html", *printed, "scores.parquet"]
