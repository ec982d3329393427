"""The figures of reports, checks and comparisons, as SVG text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

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


def roc_svg(roc: Mapping[str, Sequence[float]], *, auc: Estimate, tpr_at_fpr: Mapping[float, Estimate]) -> str:
    """The ROC curve on logarithmic axes, where the low false-positive rates that matter can be seen.

    Args:
        roc: ``fpr`` and ``tpr`` of its corners.
        auc: area under it; its ``n_nonmembers`` says which rates are resolved.
        tpr_at_fpr: true-positive rates, drawn with their intervals.

    Returns:
        One ``<svg>`` element that takes the width of its container.
    """
    resolved = 1 / auc.n_nonmembers
    lowest = min(resolved / 2, 0.05)
    figure, axes = new_figure(262 + 15 * (3 + len(tpr_at_fpr)), "Members recognised (true-positive rate)")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set(xlim=(lowest, 1), ylim=(lowest, 1.15), xlabel="Non-members called members (false-positive rate)")
    percent_ticks(axes, lowest)
    unresolved = axes.axvspan(lowest, resolved, color=RULE, alpha=0.65, linewidth=0)
    (chance,) = axes.plot([lowest, 1], [lowest, 1], color=GREY, linewidth=1.1, linestyle=(0, (4, 3)))
    (curve,) = axes.plot([max(x, lowest) for x in roc["fpr"]], [max(y, lowest) for y in roc["tpr"]], color=NONMEMBERS, linewidth=1.8)
    legend = [(curve, f"the attack: AUC {auc}"), (chance, "chance")]
    for (rate, found), marker in zip(sorted(tpr_at_fpr.items(), reverse=True), "osD^v<>ph*" * 10):
        legend.append((_point(axes, rate, found, lowest, marker), f"{found.percent(rate)} at {share(rate)} false positives"))
    legend.append((unresolved, f"less than 1 of {auc.n_nonmembers:,} non-members: unmeasured"))
    add_legend(figure, legend)
    points = "".join(f" {found.percent(rate)} of members at {share(rate)} false positives." for rate, found in tpr_at_fpr.items())
    return to_svg(figure, f"ROC curve of the attack on logarithmic axes. AUC {auc}; 0.5 is chance.{points}")


def timesteps_svg(report: AuditReport) -> str:
    """The attack's AUC with its interval at every timestep, beside chance and the blind classifier.

    Returns:
        One ``<svg>`` element that takes the width of its container.
    """
    rows = report.per_timestep
    figure, axes = new_figure(236 + 15 * (2 + (report.blind_auc is not None)), "AUC of the attack (higher = leaks more)")
    x = [row.timestep for row in rows]
    middle, low, high = ([getattr(row.auc, part) for row in rows] for part in ("value", "low", "high"))
    band = add_band(axes, x, low, middle, high, NONMEMBERS, "solid", marker="o", markersize=3.6)
    legend = [(band, "the attack, with its 95 % interval")]
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
    """AUC and the rate of recognised members of several attacks as dots with their 95 % intervals, above all their ROC curves.

    A curve has the colour and the line style that stand before its attack's name.

    Returns:
        One ``<svg>`` element that takes the width of its container.
    """
    from matplotlib.figure import Figure

    # In units of the viewBox, from the top: headings, two lines for each attack, ticks; then the curves.
    top, line, ticks, curves, below = 24, 31, 22, 270, 86
    height = top + line * len(rows) + ticks + 30 + curves + below
    figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72, facecolor="white")

    def place(left: float, upper: float, width: float, tall: float) -> Axes:
        axes = figure.add_axes((left / WIDTH, 1 - (upper + tall) / height, width / WIDTH, tall / height), facecolor="white")
        set_style(axes)
        return axes

    def heading(left: float, upper: float, text: str) -> None:
        figure.text(left / WIDTH, 1 - upper / height, text, size=FONT_SIZE, color=INK, va="top", parse_math=False)

    first = rows[0].report
    rate = min(first.tpr_at_fpr, key=lambda rate: abs(math.log(rate / 0.01)), default=None)
    width = 344 if rate is None else 150
    styles = [(COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)]) for i in range(len(rows))]
    panels = [(place(8, top, width, line * len(rows)), [row.report.auc for row in rows], 0.5)]
    heading(8, 5, "AUC (higher = leaks more)")
    if rate is not None:
        panels.append((place(192, top, width, line * len(rows)), [row.report.tpr_at_fpr[rate] for row in rows], rate))
        panels[1][0].xaxis.set_major_formatter(lambda value, _: share(value))
        heading(192, 5, f"Recognised at {share(rate)} FPR")
    for axes, found, chance in panels:
        axes.set(ylim=(len(rows), 0), yticks=[])
        axes.spines["left"].set_visible(False)
        axes.axvline(chance, color=GREY, linewidth=1.1, linestyle=(0, (4, 3)), zorder=2)
        for i, (one, (colour, _)) in enumerate(zip(found, styles)):
            axes.plot([one.low, one.high], [i + 0.7] * 2, color=colour, linewidth=1.6, zorder=3, solid_capstyle="butt")
            axes.plot([one.value], [i + 0.7], "o", color=colour, markersize=6, markeredgecolor="white", markeredgewidth=0.8, zorder=4)
        low, high = (edge([getattr(one, part) for one in found] + [chance]) for edge, part in ((min, "low"), (max, "high")))
        axes.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
        axes.locator_params(axis="x", nbins=4)
    if first.blind_auc is not None:
        blind = panels[0][0].axvline(first.blind_auc.value, color=MEMBERS, linewidth=1.5, linestyle=(0, (1.2, 1.6)), zorder=2)
    # Names stand across both panels, and so on axes of their own above them.
    names = place(8, top, 344, line * len(rows))
    names.set(xlim=(0, 344), ylim=(len(rows), 0))
    names.set_axis_off()
    for i, (row, (colour, dashes)) in enumerate(zip(rows, styles)):
        names.plot([0, 24], [i + 0.27] * 2, color=colour, linestyle=dashes, linewidth=1.8)
        background = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
        names.text(30, i + 0.27, short_label(row.label), size=FONT_SIZE, color=INK, va="center", parse_math=False, bbox=background)

    upper = top + line * len(rows) + ticks + 30
    heading(6, upper - 20, "Members recognised (true-positive rate)")
    axes = place(52, upper, 286, curves)
    resolved = 1 / first.auc.n_nonmembers
    lowest = min(resolved / 2, 0.05)
    axes.set(xscale="log", yscale="log", xlim=(lowest, 1), ylim=(lowest, 1.15), xlabel="Non-members called members (false-positive rate)")
    percent_ticks(axes, lowest)
    unresolved = axes.axvspan(lowest, resolved, color=RULE, alpha=0.65, linewidth=0)
    (guess,) = axes.plot([lowest, 1], [lowest, 1], color=GREY, linewidth=1.1, linestyle=(0, (4, 3)))
    for row, (colour, dashes) in zip(rows, styles):
        x, y = ([max(value, lowest) for value in row.report.roc[key]] for key in ("fpr", "tpr"))
        axes.plot(x, y, color=colour, linestyle=dashes, linewidth=1.5)
    legend = [(guess, "chance"), (unresolved, f"less than 1 of {first.auc.n_nonmembers:,} non-members: unmeasured")]
    if first.blind_auc is not None:
        legend.insert(1, (blind, f"blind classifier, without the model: AUC {first.blind_auc.value:.3f}"))
    add_legend(figure, legend)
    found = ""
    for row in rows:
        found += f" {row.label}: {row.report.auc}" + ("." if rate is None else f", {row.report.tpr_at_fpr[rate].percent(rate)}.")
    recognised = "" if rate is None else f" and members recognised at {share(rate)} false positives"
    return to_svg(figure, f"{len(rows)} attacks compared: AUC{recognised}, and ROC curves on logarithmic axes. 0.5 is chance.{found}")


def _point(axes: Axes, rate: float, found: Estimate, lowest: float, marker: str):
    """A measured rate with its interval; returns a legend handle."""
    value, low, high = (max(part, lowest) for part in (found.value, found.low, found.high))
    axes.plot([rate, rate], [low, high], color=INK, linewidth=1.4, zorder=4)
    return axes.plot([rate], [value], color=INK, marker=marker, markersize=6, linestyle="", markeredgecolor="white", zorder=5)[0]
