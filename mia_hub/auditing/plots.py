"""The plots of reports and comparisons, as SVG text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mia_hub.metrics.estimates import Estimate
from mia_hub.rendering.numbers import share
from mia_hub.rendering.svg import (
    COLOURS,
    DASHES,
    FONT_SIZE,
    GREY,
    INK,
    MEMBERS,
    NONMEMBERS,
    RULE,
    WIDTH,
    LegendEntry,
    add_band,
    add_legend,
    add_mark,
    new_figure,
    percent_ticks,
    set_style,
    short_label,
    timestep_axis,
    to_svg,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mia_hub.auditing.comparison import ComparedAttack
    from mia_hub.auditing.report import AuditReport

TPR_LABEL = "Members recognised (true-positive rate)"


def roc_svg(roc: Mapping[str, Sequence[float]], *, auc: Estimate, tpr_at_fpr: Mapping[float, Estimate]) -> str:
    """Draw the ROC curve on logarithmic axes, where the low false-positive rates that matter can be seen.

    Args:
        roc: ``fpr`` and ``tpr`` of its corners.
        auc: area under it; its ``n_nonmembers`` says which rates are resolved.
        tpr_at_fpr: true-positive rates, drawn with their intervals.

    Returns:
        One ``<svg>`` element that takes the width of its container.
    """
    figure, axes = new_figure(262 + 15 * (3 + len(tpr_at_fpr)), TPR_LABEL)
    lowest, chance, unresolved = _roc_axes(axes, auc.n_nonmembers)
    curve = _roc_curve(axes, roc, lowest, color=NONMEMBERS, linewidth=1.8)
    legend: list[LegendEntry] = [(curve, f"the attack: AUC {auc}"), chance]
    for (rate, tpr), marker in zip(sorted(tpr_at_fpr.items(), reverse=True), "osD^v<>ph*" * 10):
        legend.append((_point(axes, rate, tpr, lowest, marker), f"{tpr.percent(rate)} at {share(rate)} false positives"))
    legend.append(unresolved)
    add_legend(figure, legend)
    points = "".join(f" {tpr.percent(rate)} of members at {share(rate)} false positives." for rate, tpr in tpr_at_fpr.items())
    return to_svg(figure, f"ROC curve of the attack on logarithmic axes. AUC {auc}; 0.5 is chance.{points}")


def _roc_axes(axes: Axes, n_nonmembers: int) -> tuple[float, LegendEntry, LegendEntry]:
    """Prepare logarithmic axes for ROC curves.

    Returns:
        The lowest rate that is drawn, and legend entries of the line of chance and of the rates that can't be measured.
    """
    resolved = 1 / n_nonmembers
    lowest = min(resolved / 2, 0.05)
    axes.set(xscale="log", yscale="log", xlim=(lowest, 1), ylim=(lowest, 1.15), xlabel="Non-members called members (false-positive rate)")
    percent_ticks(axes, lowest)
    unresolved = axes.axvspan(lowest, resolved, color=RULE, alpha=0.65, linewidth=0)
    (chance,) = axes.plot([lowest, 1], [lowest, 1], color=GREY, linewidth=1.1, linestyle=(0, (4, 3)))
    return lowest, (chance, "chance"), (unresolved, f"less than 1 of {n_nonmembers:,} non-members: unmeasured")


def _roc_curve(axes: Axes, roc: Mapping[str, Sequence[float]], lowest: float, **style: Any) -> Any:
    """Draw a curve; return its legend handle."""
    return axes.plot(*([max(rate, lowest) for rate in roc[key]] for key in ("fpr", "tpr")), **style)[0]


def _point(axes: Axes, rate: float, tpr: Estimate, lowest: float, marker: str) -> Any:
    """Draw a measured rate with its interval; return its legend handle."""
    value, low, high = (max(part, lowest) for part in (tpr.value, tpr.low, tpr.high))
    axes.plot([rate, rate], [low, high], color=INK, linewidth=1.4, zorder=4)
    return axes.plot([rate], [value], color=INK, marker=marker, markersize=6, linestyle="", markeredgecolor="white", zorder=5)[0]


def timesteps_svg(report: AuditReport) -> str:
    """Draw the attack's AUC with its interval at every timestep, beside chance and the blind classifier.

    Returns:
        One ``<svg>`` element that takes the width of its container.
    """
    rows = report.per_timestep
    figure, axes = new_figure(236 + 15 * (2 + (report.blind_auc is not None)), "AUC of the attack (higher = leaks more)")
    x = [row.timestep for row in rows]
    middle, low, high = ([getattr(row.auc, part) for row in rows] for part in ("value", "low", "high"))
    band = add_band(axes, x, low, middle, high, NONMEMBERS, "solid", marker="o", markersize=3.6)
    legend: list[LegendEntry] = [(band, "the attack, with its 95 % interval")]
    chance = axes.axhline(0.5, color=GREY, linewidth=1.1, linestyle=(0, (4, 3)), zorder=2)
    if report.blind_auc is not None:
        blind = axes.axhline(report.blind_auc.value, color=MEMBERS, linewidth=1.5, linestyle=(0, (1.2, 1.6)), zorder=2)
        legend.append((blind, f"blind classifier, without the model: {report.blind_auc.value:.3f}"))
    legend.append((chance, "chance: 0.5"))
    add_mark(axes, report.timestep, f"t = {report.timestep}: selected")
    timestep_axis(axes, x)
    low_end, high_end = axes.get_ylim()
    axes.set_ylim(max(-0.02, min(low_end, 0.47)), min(1.02, max(high_end, 0.53)))
    add_legend(figure, legend)
    best = report.auc
    return to_svg(
        figure,
        f"AUC of the attack at {len(rows)} timesteps from t = {x[0]} to {x[-1]}, between {min(middle):.3f} and {max(middle):.3f}; "
        f"{best} at the selected t = {report.timestep}. Chance is 0.5.",
    )


def comparison_svg(rows: Sequence[ComparedAttack]) -> str:
    """Draw AUC and the rate of recognised members of several attacks as dots with their 95 % intervals, above all their ROC curves.

    A curve has the colour and the line style that stand before its attack's name.

    Returns:
        One ``<svg>`` element that takes the width of its container.
    """
    first = rows[0].report
    rate = min(first.tpr_at_fpr, key=lambda rate: abs(math.log(rate / 0.01)), default=None)
    canvas = _Canvas(len(rows))
    blind = _draw_panels(canvas, rows, rate)
    _draw_names(canvas, rows)
    canvas.heading(6, canvas.curves_top - 20, TPR_LABEL)
    axes = canvas.axes(52, canvas.curves_top, 286, canvas.CURVES)
    lowest, chance, unresolved = _roc_axes(axes, first.auc.n_nonmembers)
    for row, (colour, dashes) in zip(rows, canvas.styles):
        _roc_curve(axes, row.report.roc, lowest, color=colour, linestyle=dashes, linewidth=1.5)
    add_legend(canvas.figure, [chance, *blind, unresolved])
    figures = "".join(
        f" {row.label}: {row.report.auc}" + ("." if rate is None else f", {row.report.tpr_at_fpr[rate].percent(rate)}.") for row in rows
    )
    recognised = "" if rate is None else f" and members recognised at {share(rate)} false positives"
    return to_svg(
        canvas.figure, f"{len(rows)} attacks compared: AUC{recognised}, and ROC curves on logarithmic axes. 0.5 is chance.{figures}"
    )


class _Canvas:
    """A figure with places in units of the viewBox. From the top: headings, two lines for each attack, ticks; then the curves.

    Args:
        n: number of attacks.
    """

    TOP, LINE, TICKS, CURVES, BELOW = 24, 31, 22, 270, 86

    def __init__(self, n: int):
        from matplotlib.figure import Figure

        self.rows_height = self.LINE * n
        self.curves_top = self.TOP + self.rows_height + self.TICKS + 30
        self.height = self.curves_top + self.CURVES + self.BELOW
        self.figure = Figure(figsize=(WIDTH / 72, self.height / 72), dpi=72, facecolor="white")
        self.styles = [(COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)]) for i in range(n)]

    def axes(self, left: float, upper: float, width: float, tall: float) -> Axes:
        """Add axes at a place."""
        place = (left / WIDTH, 1 - (upper + tall) / self.height, width / WIDTH, tall / self.height)
        axes = self.figure.add_axes(place, facecolor="white")
        set_style(axes)
        return axes

    def heading(self, left: float, upper: float, text: str) -> None:
        """Write a text at a place."""
        self.figure.text(left / WIDTH, 1 - upper / self.height, text, size=FONT_SIZE, color=INK, va="top", parse_math=False)


def _draw_panels(canvas: _Canvas, rows: Sequence[ComparedAttack], rate: float | None) -> list[LegendEntry]:
    """Draw each attack's AUC and its true-positive rate at a false-positive rate; return the legend entry of the blind AUC, if any."""
    first, top, tall = rows[0].report, canvas.TOP, canvas.rows_height
    panel = canvas.axes(8, top, 344 if rate is None else 150, tall)
    canvas.heading(8, 5, "AUC (higher = leaks more)")
    _draw_panel(panel, [row.report.auc for row in rows], 0.5, canvas.styles)
    if rate is not None:
        other = canvas.axes(192, top, 150, tall)
        other.xaxis.set_major_formatter(lambda value, _: share(value))
        canvas.heading(192, 5, f"Recognised at {share(rate)} FPR")
        _draw_panel(other, [row.report.tpr_at_fpr[rate] for row in rows], rate, canvas.styles)
    if first.blind_auc is None:
        return []
    line = panel.axvline(first.blind_auc.value, color=MEMBERS, linewidth=1.5, linestyle=(0, (1.2, 1.6)), zorder=2)
    return [(line, f"blind classifier, without the model: AUC {first.blind_auc.value:.3f}")]


def _draw_panel(axes: Axes, estimates: Sequence[Estimate], chance: float, styles: Sequence[tuple[str, Any]]) -> None:
    """Draw one estimate per line, beside chance."""
    axes.set(ylim=(len(estimates), 0), yticks=[])
    axes.spines["left"].set_visible(False)
    axes.axvline(chance, color=GREY, linewidth=1.1, linestyle=(0, (4, 3)), zorder=2)
    for i, (estimate, (colour, _)) in enumerate(zip(estimates, styles)):
        axes.plot([estimate.low, estimate.high], [i + 0.7] * 2, color=colour, linewidth=1.6, zorder=3, solid_capstyle="butt")
        axes.plot([estimate.value], [i + 0.7], "o", color=colour, markersize=6, markeredgecolor="white", markeredgewidth=0.8, zorder=4)
    low, high = min([*(each.low for each in estimates), chance]), max([*(each.high for each in estimates), chance])
    axes.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
    axes.locator_params(axis="x", nbins=4)


def _draw_names(canvas: _Canvas, rows: Sequence[ComparedAttack]) -> None:
    """Write the attacks' names across both panels, and so on axes of their own above them."""
    names = canvas.axes(8, canvas.TOP, 344, canvas.rows_height)
    names.set(xlim=(0, 344), ylim=(len(rows), 0))
    names.set_axis_off()
    background = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
    for i, (row, (colour, dashes)) in enumerate(zip(rows, canvas.styles)):
        names.plot([0, 24], [i + 0.27] * 2, color=colour, linestyle=dashes, linewidth=1.8)
        names.text(30, i + 0.27, short_label(row.label), size=FONT_SIZE, color=INK, va="center", parse_math=False, bbox=background)
