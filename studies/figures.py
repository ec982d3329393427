"""The figure that most studies need: estimates with their intervals over one quantity, a line for each series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mia_hub.drawing import COLOURS, DASHES, GREY, add_legend, new_figure, to_svg

# A value with its 95 % interval: (x, value, low, high).
Point = tuple[float, float, float, float]


def lines_svg(
    series: Mapping[str, Sequence[Point]],
    *,
    heading: str,
    x_label: str,
    description: str,
    chance: float | None = None,
    log_x: bool = False,
    ticks: Mapping[float, str] | None = None,
    height: int = 250,
    y_limits: tuple[float, float] | None = None,
) -> str:
    """One ``<svg>``: each series a line through its values, with a bar for each interval.

    Args:
        series: name to its points, which are joined in their order.
        heading: what the vertical axis shows, above it.
        chance: where guessing stands; drawn as a dashed line.
        ticks: places on the horizontal axis and their names, instead of numbers.
    """
    figure, axes = new_figure(height + 15 * (len(series) + (chance is not None)), heading)
    legend = []
    for i, (name, points) in enumerate(series.items()):
        x, value, low, high = zip(*points)
        colour = COLOURS[i % len(COLOURS)]
        (line,) = axes.plot(
            x, value, color=colour, linestyle=DASHES[i // len(COLOURS) % len(DASHES)], linewidth=1.7, marker="o", markersize=3.6, zorder=4
        )
        axes.vlines(x, low, high, color=colour, linewidth=1, alpha=0.55, zorder=3)
        legend.append((line, name))
    if chance is not None:
        legend.append((axes.axhline(chance, color=GREY, linewidth=1.1, linestyle=(0, (4, 3)), zorder=2), f"chance: {chance:g}"))
    axes.set_xlabel(x_label)
    if log_x:
        axes.set_xscale("log")
    if ticks:
        axes.set_xticks(list(ticks), list(ticks.values()))
        axes.minorticks_off()
    if y_limits:
        axes.set_ylim(*y_limits)
    add_legend(figure, legend)
    return to_svg(figure, description)
