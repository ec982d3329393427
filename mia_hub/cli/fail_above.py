"""``--fail-above``: limits on the figures of ``audit`` and ``compare``, for use in CI."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mia_hub.cli.output import EXIT_ABOVE_LIMIT, message

if TYPE_CHECKING:
    from mia_hub.auditing.limits import Limit
    from mia_hub.auditing.report import AuditReport
    from mia_hub.splits.member_split import MemberSplit


def add_fail_above(parser: argparse.ArgumentParser) -> None:
    """Add the limits above which a command exits with `EXIT_ABOVE_LIMIT`."""
    parser.add_argument(
        "--fail-above",
        nargs="+",
        default=[],
        metavar="FIGURE=LIMIT",
        help="exit with status 3 where a figure is surely above a limit: the lower end of its 95 %% interval is; auc=.6, asr=.6 or "
        "tpr@.01=.05 (at a false-positive rate of 1 %%)",
    )


def limits_from(args: argparse.Namespace) -> tuple[Limit, ...]:
    """Return the limits of ``--fail-above``.

    Raises:
        MetricError: for a limit of another form, or on a rate that ``--fpr`` leaves out.
    """
    from mia_hub.auditing.limits import parse_limits

    return parse_limits(args.fail_above, args.fpr)


def check_rates(limits: Iterable[Limit], split: MemberSplit, *, selection: str, timestep: int | None = None, fitted: bool = False) -> None:
    """Refuse a limit on a false-positive rate that the split can't resolve, before the model is queried.

    Args:
        limits: those of ``--fail-above``.
        split: the split that is audited.
        selection, timestep, fitted: see `mia_hub.auditing.measurement.check_plan`.

    Raises:
        MetricError: with the number of non-members that are needed.
    """
    from mia_hub.auditing.measurement import check_plan

    rates = [limit.rate for limit in limits if limit.rate is not None]
    if rates:
        steps = () if timestep is None else (timestep,)
        sizes = len(split.members), len(split.nonmembers)
        check_plan(*sizes, steps, selection=selection, timestep=timestep, fprs=rates, fitted=fitted)


def status_of(limits: Iterable[Limit], reports: Iterable[tuple[str, AuditReport]]) -> int:
    """Return the exit status of a command whose reports are finished, and name each figure above its limit.

    Args:
        limits: those of ``--fail-above``.
        reports: each with the words that its messages begin with, such as "sima: ".
    """
    above = [f"{label}{text}" for label, report in reports for limit in limits if (text := limit.excess(report))]
    for text in above:
        message(f"{text}.")
    return EXIT_ABOVE_LIMIT if above else 0
