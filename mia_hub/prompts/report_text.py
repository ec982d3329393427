"""A report on prompts in words, for a terminal."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from mia_hub.checking.verdicts import CANNOT_TELL, EVIDENCE, NO_NULL
from mia_hub.metrics.p_values import ALPHA, FALSE_DISCOVERY_RATE
from mia_hub.rendering.numbers import p_text, quantity
from mia_hub.rendering.terminal import bullets, columns, paragraph, table
from mia_hub.rendering.text import MISSING, one_line

if TYPE_CHECKING:
    from mia_hub.prompts.report import PromptReport, PromptScore

PROMPT_WIDTH = 44
VERDICTS = {EVIDENCE: "evidence", CANNOT_TELL: "cannot tell", NO_NULL: "no verdict"}
CAVEATS = (
    "A strong pull is not proof of a copy: a prompt that leaves little open, such as one for a flat colour, scores high, too. Sample the "
    "model with the prompt, and compare with the training images.",
    "A prompt without evidence is not cleared.",
)
P_VALUES = (
    "p-values hold for prompts that are like the unmemorised ones in length, language and style, on average over such sets of prompts.",
    f"Evidence is p ≤ {ALPHA:g} for a single prompt, and q ≤ {FALSE_DISCOVERY_RATE:g} for several: on average over such lists, at most "
    f"{FALSE_DISCOVERY_RATE:.0%} of the prompts with evidence are not memorised. p above {ALPHA:g} counts as 1 in q.",
)
NO_VERDICT = (
    "Without prompts that the model has certainly not memorised there is no verdict, only a rank. Give 99 or more of the same kind as "
    "unmemorised prompts, such as captions that were held out."
)


def report_text(report: PromptReport, most: int | None = None) -> str:
    """Return the answers as text.

    Args:
        report: what a detector says.
        most: number of prompts that are listed, those of the highest scores; None for all.
    """
    shown = report.prompts if most is None else report.prompts[:most]
    lines = table([["prompt", "verdict", "p", "q", "score", "±"], *map(_row, shown)], left=2)
    hidden = len(report.prompts) - len(shown)
    if hidden:
        lines.append(f"… and {hidden:,} more with lower scores")
    counts = Counter(VERDICTS[answer.verdict] for answer in report.prompts)
    tally = ", ".join(f"{counts[verdict]:,} {verdict}" for verdict in VERDICTS.values() if counts[verdict])
    lines += ["", *paragraph(f"{len(report.prompts):,} prompts: {tally}."), "", *columns(_figures(report))]
    caveats = [*(P_VALUES if report.unmemorised else [NO_VERDICT]), *CAVEATS]
    lines += ["", "How to read this", *bullets(caveats)]
    return "\n".join([*lines, *(["", "Notes", *bullets(report.notes)] if report.notes else [])]) + "\n"


def _row(answer: PromptScore) -> list[str]:
    p, q = (MISSING if value is None else p_text(value) for value in (answer.p_value, answer.q_value))
    error = MISSING if answer.standard_error is None else f"{answer.standard_error:.2g}"
    return [one_line(answer.prompt, PROMPT_WIDTH), VERDICTS[answer.verdict], p, q, f"{answer.score:.4g}".replace("-", "−"), error]


def _figures(report: PromptReport) -> list[list[str]]:
    rows = [
        ["Model", str(report.model["id"])],
        ["Detector", f"{report.detector}; {report.paper}"],
        ["Score", f"higher = more likely memorised; at t = {report.timestep}; ± is the standard error over {report.draws} draws of noise"],
        [
            "Cost",
            f"{report.queries:,} queries, {report.queries_per_prompt} a prompt; {quantity(report.seconds)} seconds on {report.device}",
        ],
    ]
    if report.unmemorised:
        rows.append(["Compared with", f"{len(report.unmemorised):,} unmemorised prompts"])
    if report.auc is not None:
        rows.append(["AUC on known prompts", f"{report.auc}, {report.auc.n_members:,} memorised, {report.auc.n_nonmembers:,} not"])
    rows += [[f"Detected at {rate:.1%} false", estimate.percent(rate)] for rate, estimate in (report.tpr_at_fpr or {}).items()]
    return rows
