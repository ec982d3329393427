"""The scores of prompts among those of known ones, as SVG text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mia_hub.metrics.p_values import ALPHA
from mia_hub.rendering.numbers import p_text
from mia_hub.rendering.svg import INK, MEMBERS, NONMEMBERS, LegendEntry, add_legend, new_figure, to_svg

if TYPE_CHECKING:
    from mia_hub.prompts.report import PromptReport

BINS = 30
HEIGHT = 210
STYLES = ((MEMBERS, (0, (5, 2))), (NONMEMBERS, "solid"), (INK, (0, (1.2, 1.4))))


def prompts_svg(report: PromptReport) -> str:
    """Draw the scores of the prompts of a report among those of the known ones; see `scores_svg`."""
    kinds = {
        "memorised prompts": report.memorised,
        "unmemorised prompts": report.unmemorised,
        "prompts in question": [answer.score for answer in report.prompts],
    }
    return scores_svg(kinds, report.name, report.critical)


def scores_svg(kinds: Mapping[str, Sequence[float]], name: str, critical: float | None) -> str:
    """Draw the distribution of the scores of each kind of prompts, and the line of p = .01 where there is one.

    Args:
        kinds: the scores by the kind's label, at most three kinds; one without scores is left out.
        name: of the detector.
        critical: the score above which a prompt by itself gets evidence.

    Returns:
        One ``<svg>`` element that takes the width of its container.
    """
    present = [(label, np.asarray(scores), style) for (label, scores), style in zip(kinds.items(), STYLES) if len(scores)]
    figure, axes = new_figure(HEIGHT + 15 * (len(present) + (critical is not None)), f"Share of prompts, by {name}")
    edges = np.histogram_bin_edges(np.concatenate([scores for _, scores, _ in present]), bins=BINS)
    legend: list[LegendEntry] = []
    for label, scores, (colour, dashes) in present:
        legend.append((_steps(axes, edges, np.histogram(scores, edges)[0] / len(scores), colour, dashes), f"{len(scores):,} {label}"))
    if critical is not None:
        line = axes.axvline(critical, color=INK, linewidth=0.9, zorder=3)
        legend.append((line, f"p = {p_text(ALPHA)}"))
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("Score (higher = more likely memorised)")
    add_legend(figure, legend)
    medians = ", ".join(f"{np.median(scores):.3g} of the {len(scores):,} {label}" for label, scores, _ in present)
    return to_svg(figure, f"Scores of prompts by {name}. Medians: {medians}. Higher is more likely memorised.")


def _steps(axes: Any, edges: Any, shares: Any, colour: str, dashes: Any) -> Any:
    """Draw one histogram; return its legend handle."""
    outline = axes.stairs(shares, edges, color=colour, linestyle=dashes, linewidth=1.5, zorder=3)
    return axes.stairs(shares, edges, color=colour, alpha=0.16, fill=True, zorder=2), outline
