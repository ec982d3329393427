"""Shared parts of all plots: one palette, one style, and SVG that is the same for the same input.

Plots may be drawn in several threads at once, and can stand inside a page. matplotlib takes a second to import, so it is imported only
when a figure is drawn; pyplot, which keeps global state, never is.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mia_hub.rendering.html import render
from mia_hub.rendering.numbers import share
from mia_hub.rendering.text import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito's palette, told apart by the colour-blind; line styles differ too, for print in grey.
INK, GREY, RULE, MEMBERS, NONMEMBERS = "#1c1f23", "#5b626b", "#d9dbde", "#D55E00", "#0072B2"
# A handle, as matplotlib draws it, and its label.
LegendEntry = tuple[Any, str]
Floats = Sequence[float]
# In units of the viewBox, which is 360 wide: a phone shows the figures at about this size in pixels.
WIDTH, FONT_SIZE = 360, 11.5
FONTS = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
LABEL_CHARACTERS = 46
# Okabe & Ito's without their yellow, too pale for a line; with the line styles, 21 attacks can be told apart.
COLOURS = (NONMEMBERS, MEMBERS, "#009E73", "#CC79A7", INK, "#56B4E9", "#E69F00")
DASHES = ("solid", (0, (4, 1.6)), (0, (1.2, 1.4)))

SCORE_LABEL = "Membership score (higher = more like a training image)"
TIMESTEP_LABEL = "Diffusion timestep t"

# rcParams are global; only these are touched, for the time of writing, by one thread at a time.
_WRITING = threading.Lock()


def new_figure(height: float, heading: str, title: str | None = None) -> tuple[Figure, Axes]:
    """Return a figure with one set of axes. The vertical axis is named above, to be read without tilting one's head."""
    from matplotlib.figure import Figure

    # Two lines stand above the axes: the axis's name and the marks; a title takes one more.
    above = 36 + 18 * bool(title)
    height += above - 36
    figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72, facecolor="white")
    figure.set_layout_engine("constrained", rect=(0, 0, 1, 1 - 21 / height - (above - 36) / height), w_pad=5 / 72, h_pad=4 / 72)
    axes = figure.add_subplot(facecolor="white")
    if title:
        figure.text(6 / WIDTH, 1 - 7 / height, short_label(title), size=12, weight="bold", color=INK, va="top", parse_math=False)
    figure.text(6 / WIDTH, 1 - (above - 36 + 7) / height, heading, size=FONT_SIZE, color=INK, va="top", parse_math=False)
    set_style(axes)
    axes.locator_params(axis="y", nbins=6)
    axes.margins(y=0.08)
    return figure, axes


def set_style(axes: Axes) -> None:
    """Give axes the style of all plots."""
    axes.tick_params(labelsize=FONT_SIZE, labelcolor=GREY, color=RULE, length=3)
    axes.grid(color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.xaxis.label.set(size=FONT_SIZE, color=INK)
    for name, spine in axes.spines.items():
        spine.set(visible=name in ("left", "bottom"), color=GREY, linewidth=0.8)


def short_label(text: str) -> str:
    """Return as much of a text as fits beside or above a plot."""
    return shorten(text, LABEL_CHARACTERS, end=12)


def add_band(
    axes: Axes,
    x: Sequence[float],
    low: Sequence[float],
    middle: Sequence[float],
    high: Sequence[float],
    colour: str,
    dashes: Any,
    **line: Any,
) -> tuple[Any, Any]:
    """Draw a shaded band and its middle line; return both, as one legend handle."""
    if len(x) == 1:  # a band needs a width
        x, low, middle, high = (x[0] - 0.5, x[0] + 0.5), *(part * 2 for part in map(tuple, (low, middle, high)))
    area = axes.fill_between(x, low, high, color=colour, alpha=0.16, linewidth=0, zorder=2)
    for edge in (low, high):
        axes.plot(x, edge, color=colour, linewidth=0.6, alpha=0.55, zorder=2)
    (middle_line,) = axes.plot(x, middle, color=colour, linestyle=dashes, linewidth=1.7, zorder=3, **line)
    return area, middle_line


def add_mark(axes: Axes, timestep: int, label: str) -> None:
    """Draw a vertical line at a timestep, named above the axes, where it can't cover data."""
    axes.axvline(timestep, color=INK, linewidth=0.9, alpha=0.75, zorder=1)
    left, right = axes.get_xlim()
    place = (timestep - left) / (right - left)
    side = "left" if place < 0.3 else "right" if place > 0.7 else "center"
    axes.annotate(
        label, (timestep, 1), (0, 3), xycoords=axes.get_xaxis_transform(), textcoords="offset points", ha=side, size=FONT_SIZE, color=INK
    )  # fmt: skip


def timestep_axis(axes: Axes, timesteps: Sequence[int]) -> None:
    """Name the horizontal axis and set its ticks."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel(TIMESTEP_LABEL)
    if len(timesteps) == 1:
        axes.set_xticks(timesteps)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=9, steps=[1, 2, 2.5, 5, 10], integer=True))


def percent_ticks(axes: Axes, lowest: float) -> None:
    """Set the ticks of both axes at powers of ten, in percent, which needs no superscripts."""
    rates = [10.0**-k for k in range(12) if 10.0**-k >= lowest]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(rates, [share(rate) for rate in rates])
        axis.minorticks_off()


def add_legend(figure: Figure, entries: Sequence[LegendEntry]) -> None:
    """Add a legend below the axes, with one entry a line."""
    from matplotlib.legend_handler import HandlerTuple

    handles, labels = zip(*entries)
    figure.legend(
        handles, labels, loc="outside lower left", frameon=False, fontsize=FONT_SIZE, labelcolor=INK, handlelength=2.2, labelspacing=0.28,
        handletextpad=0.6, borderpad=0, borderaxespad=0.5, handler_map={tuple: HandlerTuple(ndivide=1, pad=0)},
    )  # fmt: skip


def to_svg(figure: Figure, description: str) -> str:
    """Return a figure as one SVG element: it scales with its container, has a description, and leaves the page around it alone."""
    import io

    import matplotlib

    settings = {"svg.fonttype": "none", "svg.hashsalt": description}
    buffer = io.StringIO()
    with _WRITING, warnings.catch_warnings():
        before = {name: matplotlib.rcParams[name] for name in settings}
        matplotlib.rcParams.update(settings)
        try:
            # Text stays text: the reader's fonts have the letters that are missing here.
            warnings.filterwarnings("ignore", "Glyph", UserWarning)
            figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
        finally:
            matplotlib.rcParams.update(before)
    return _embeddable(buffer.getvalue(), description)


def _embeddable(svg: str, description: str) -> str:
    """Return an SVG element without a prologue, style rules that reach beyond it, or ids that a second plot has too."""
    from markupsafe import Markup

    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>", "", svg, count=1, flags=re.S)
    svg = re.sub(r"<defs>\s*</defs>", "", svg, flags=re.S)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"font-family: [^;\"]+", f"font-family: {FONTS}", svg)
    (box,) = re.findall(r'viewBox="([^"]*)"', svg)
    return render(
        "mia_hub/rendering/templates/plot.svg", box=box, description=description, content=Markup(svg[svg.index(">") + 1 :].strip())
    )
