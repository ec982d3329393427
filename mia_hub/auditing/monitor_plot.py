"""The curve of a training monitor, as SVG text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mia_hub.rendering.svg import GREY, NONMEMBERS, LegendEntry, add_band, add_legend, new_figure, to_svg

if TYPE_CHECKING:
    from mia_hub.auditing.monitor_log import MonitoredStep


def monitor_svg(steps: Sequence[MonitoredStep]) -> str:
    """Draw the AUC with its interval at every step of a training run, beside chance.

    Args:
        steps: at least one.

    Returns:
        One ``<svg>`` element that takes the width of its container.
    """
    figure, axes = new_figure(236 + 15 * 2, "AUC of the attack (higher = leaks more)")
    x = [step.step for step in steps]
    middle, low, high = ([getattr(step.auc, part) for step in steps] for part in ("value", "low", "high"))
    band = add_band(axes, x, low, middle, high, NONMEMBERS, "solid", marker="o", markersize=3.6)
    chance = axes.axhline(0.5, color=GREY, linewidth=1.1, linestyle=(0, (4, 3)), zorder=2)
    legend: list[LegendEntry] = [(band, "the attack, with its 95 % interval"), (chance, "chance: 0.5")]
    axes.set_xlabel("Step of training")
    low_end, high_end = axes.get_ylim()
    axes.set_ylim(max(-0.02, min(low_end, 0.47)), min(1.02, max(high_end, 0.53)))
    add_legend(figure, legend)
    first, last = steps[0], steps[-1]
    return to_svg(
        figure,
        f"AUC of the attack at {len(steps)} steps of training: {first.auc} at step {first.step:,}, {last.auc} at step {last.step:,}. "
        "Chance is 0.5.",
    )
