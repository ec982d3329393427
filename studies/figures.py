"""Figures of the studies: lines, dots and tables of estimates with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mia_hub.rendering.svg import COLOURS, DASHES, FONT_SIZE, GREY, INK, add_legend, new_figure, to_svg

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
    """Return one ``<svg>``: each series is a line through its values, with a bar for each interval.

    Args:
        series: name: points, joined in their order.
        heading: the vertical axis' label, above the figure.
        chance: the value of guessing, drawn as a dashed line.
        ticks: position on the horizontal axis: label, instead of numbers.
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


def scatter_svg(
    series: Mapping[str, Sequence[tuple[Sequence[float], Sequence[float]]]],
    *,
    heading: str,
    x_label: str,
    description: str,
    chance: float | None = None,
    ticks: Sequence[float] = (),
    height: int = 290,
) -> str:
    """Return one ``<svg>``: each series is dots with the intervals of both quantities, joined in their order by a thin line.

    Args:
        series: name: points, ``([x, low, high], [y, low, high])`` each.
        heading, x_label: labels of the axes.
        chance: the value of guessing on the vertical axis.
        ticks: ticks of a logarithmic horizontal axis; a linear axis without them.
    """
    figure, axes = new_figure(height + 15 * (len(series) + (chance is not None)), heading)
    legend = []
    for i, (name, points) in enumerate(series.items()):
        across, up = (list(zip(*part)) for part in zip(*points))
        colour, marker = COLOURS[i % len(COLOURS)], "osD^vPX"[i % 7]
        axes.hlines(up[0], across[1], across[2], color=colour, linewidth=1, alpha=0.5, zorder=3)
        axes.vlines(across[0], up[1], up[2], color=colour, linewidth=1, alpha=0.5, zorder=3)
        (dots,) = axes.plot(across[0], up[0], color=colour, marker=marker, markersize=6, linewidth=0.8, markeredgecolor="white", zorder=4)
        legend.append((dots, name))
    if chance is not None:
        legend.append((axes.axhline(chance, color=GREY, linewidth=1.1, linestyle=(0, (4, 3)), zorder=2), f"chance: {chance:g}"))
    axes.set_xlabel(x_label)
    if ticks:
        axes.set_xscale("log")
        axes.set_xticks(list(ticks), [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    add_legend(figure, legend)
    return to_svg(figure, description)


def heat_svg(
    cells: Sequence[Sequence[float | None]], *, rows: Sequence[str], columns: Sequence[str], heading: str, description: str
) -> str:
    """Return one ``<svg>``: a table of AUCs as coloured cells, white at chance and darker towards 1 or 0; empty where nothing was measured.

    Args:
        cells: one list of values in [0, 1] for each of ``rows``.
        rows, columns: names; those of columns are short.
    """
    from matplotlib.colors import LinearSegmentedColormap

    scale = LinearSegmentedColormap.from_list("leak", ["#7FB8DA", "#ffffff", "#F4A66B", "#D55E00"])
    figure, axes = new_figure(64 + 19 * len(rows), heading)
    axes.grid(False)
    axes.set(xlim=(0, len(columns)), ylim=(len(rows), 0))
    for i, line in enumerate(cells):
        for j, value in enumerate(line):
            if value is not None:
                # White, at a third of the scale, is chance: most AUCs lie between there and 1.
                place = value / 1.5 if value < 0.5 else 1 / 3 + (value - 0.5) * 4 / 3
                axes.fill_between([j + 0.03, j + 0.97], i + 0.05, i + 0.95, color=scale(place), linewidth=0)
            label = "–" if value is None else f"{value:.2f}".lstrip("0")
            axes.text(j + 0.5, i + 0.5, label, ha="center", va="center", size=FONT_SIZE - 1, color=INK if value is not None else GREY)
    axes.set_xticks([j + 0.5 for j in range(len(columns))], columns)
    axes.set_yticks([i + 0.5 for i in range(len(rows))], rows)
    axes.tick_params(length=0, labelcolor=INK)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return to_svg(figure, description)
