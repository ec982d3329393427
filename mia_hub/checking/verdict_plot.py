"""What a verdict is made of, as SVG text: the verdict's own score of an image among those of known images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mia_hub.metrics.p_values import ALPHA, FALSE_DISCOVERY_RATE
from mia_hub.references.verdict_scores import VerdictScores
from mia_hub.rendering.numbers import p_text
from mia_hub.rendering.svg import (
    FONT_SIZE,
    GREY,
    INK,
    MEMBERS,
    NONMEMBERS,
    LegendEntry,
    add_legend,
    new_figure,
    short_label,
    to_svg,
)
from mia_hub.rendering.text import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEADING = "Share of known images"
# Of several images, a small p is not enough.
Q_TOO = f"evidence takes q ≤ {p_text(FALSE_DISCOVERY_RATE)}, too"
SCORE = "The verdict's score (higher = more like a training image)"
# The name of an image, and its score.
Mark = tuple[str, float]
# Rows of more images would be thinner than their names.
MOST_STRIPS = 40
STRIP = 30
# Of an attack in a heading, in characters.
LONGEST_NAME = 30
HISTOGRAM = 210


def verdict_svg(known: VerdictScores, marks: Sequence[Mark], *, attack: str, title: str | None = None, selected: Mark | None = None) -> str:
    """Draw the verdict's scores of known images, the line of p = .01, and the scores of the images in question.

    Args:
        known: the scores of known images.
        marks: ``(name, score)`` of each image; several images get one strip each, the highest score first, at most `MOST_STRIPS` of them.
        attack: short name of the attack that gives the verdict.
        title: a line above.
        selected: the one of several images that is shown in detail; its strip is emphasised, and never left out.

    Returns:
        One ``<svg>`` element that takes the width of its container.
    """
    strips = _strips(marks, selected) if len(marks) > 1 else []
    lines = 2 + (known.members is not None) + (known.critical is not None)
    figure, axes = new_figure(HISTOGRAM + STRIP * len(strips) + 15 * lines, _heading(HEADING, attack), title)
    legend = _histograms(axes, known)
    if known.critical is not None:
        line = axes.axvline(known.critical, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=3)
        legend.append((line, f"p = {p_text(ALPHA)}: {Q_TOO if strips else 'evidence begins here'}"))
    if strips:
        legend.insert(0, _add_strips(axes, strips, selected, len(marks)))
    else:
        legend.insert(0, _add_mark(axes, marks[0][1]))
    axes.set_xlabel(SCORE)
    add_legend(figure, legend)
    return to_svg(figure, _description(known, marks))


def _heading(text: str, attack: str) -> str:
    """Return what is drawn and by which attack, on one line of a figure."""
    return f"{text}, by {shorten(attack, LONGEST_NAME, end=12)}"


def _strips(marks: Sequence[Mark], selected: Mark | None) -> list[Mark]:
    """Return the images that get a strip, the highest score first."""
    ordered = sorted(marks, key=lambda mark: -mark[1])
    if selected in ordered[MOST_STRIPS:]:
        ordered = [*ordered[: MOST_STRIPS - 1], selected]
    return ordered[:MOST_STRIPS]


def set_svg(scores: Sequence[float], known: VerdictScores, *, attack: str, title: str | None = None) -> str:
    """Draw the distribution of a set's scores against that of the known non-members.

    Args:
        scores: of the set's images.
        known: the scores of known images.
        attack, title: as for `verdict_svg`.
    """
    figure, axes = new_figure(HISTOGRAM + 15 * (2 + (known.members is not None)), _heading("Share of images", attack), title)
    legend = _histograms(axes, known)
    values, edges = np.asarray(scores), np.asarray(known.edges)
    # In the bins of the known images; what lies beyond them stands in the first and in the last.
    counts = np.histogram(values.clip(edges[0], edges[-1]), edges)[0]
    legend.insert(0, (_steps(axes, edges, counts / len(values), INK, "solid", filled=False), f"the {len(values):,} images of the set"))
    axes.set_ylim(top=max(axes.get_ylim()[1], 1.08 * counts.max() / len(values)))
    axes.plot([values.mean()], [0], "^", color=INK, markersize=8, clip_on=False, zorder=6)
    axes.set_xlabel(SCORE)
    add_legend(figure, legend)
    mean = f"The mean score of the {len(values):,} images of the set is {values.mean():.3g}, marked by a triangle."
    return to_svg(figure, f"{mean} {_known_text(known)} Higher is more like a training image.")


def _histograms(axes: Axes, known: VerdictScores) -> list[LegendEntry]:
    """Draw the known images; return their legend entries."""
    legend: list[LegendEntry] = []
    edges = np.asarray(known.edges)
    for counts, name, colour, dashes in (
        (known.members, "members", MEMBERS, (0, (5, 2))),
        (known.nonmembers, "non-members", NONMEMBERS, "solid"),
    ):
        if counts is not None:
            n = sum(counts)
            handle = _steps(axes, edges, np.asarray(counts) / max(n, 1), colour, dashes)
            legend.append((handle, f"{n:,} known {name}"))
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.set_ylim(bottom=0)
    return legend


def _steps(axes: Axes, edges: Any, shares: Any, colour: str, dashes: Any, *, filled: bool = True) -> Any:
    """Draw one histogram; return its legend handle."""
    outline = axes.stairs(shares, edges, color=colour, linestyle=dashes, linewidth=1.5, zorder=3)
    return (axes.stairs(shares, edges, color=colour, alpha=0.16, fill=True, zorder=2), outline) if filled else outline


def _add_mark(axes: Axes, score: float) -> LegendEntry:
    """Mark the score of the only image; return its legend entry."""
    axes.axvline(score, color=INK, linewidth=1.6, zorder=5)
    style: dict[str, Any] = {"markersize": 8, "markeredgecolor": INK, "markeredgewidth": 2}
    (handle,) = axes.plot([score], [0], "o", color="white", clip_on=False, zorder=6, **style)
    return handle, "this image"


def _add_strips(axes: Axes, strips: Sequence[Mark], selected: Mark | None, in_all: int) -> LegendEntry:
    """Mark the score of each image in a strip of its own below the histogram; return the legend entry."""
    from matplotlib.ticker import MaxNLocator

    _, top = axes.get_ylim()
    strip = top * STRIP / (HISTOGRAM - 60)
    handle = None
    for row, mark in enumerate(strips):
        y, chosen = -strip * (row + 0.5), mark == selected
        axes.axhline(y - strip / 2, color=GREY, linewidth=0.3, zorder=1)
        # The name in the upper half of a strip, the mark in the lower one.
        (handle,) = axes.plot([mark[1]], [y - 0.2 * strip], "o", color=INK, markersize=8 if chosen else 5.5, zorder=7)
        axes.annotate(
            short_label(mark[0]), (0, y + 0.22 * strip), (4, 0), xycoords=axes.get_yaxis_transform(), textcoords="offset points",
            va="center", size=FONT_SIZE - 1.5, weight="bold" if chosen else "normal", color=INK, zorder=6, parse_math=False,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4, "alpha": 0.8},
        )  # fmt: skip
    axes.set_yticks([tick for tick in MaxNLocator(4).tick_values(0, top) if 0 <= tick <= top])
    axes.set_ylim(bottom=-strip * len(strips), top=top)
    if in_all == len(strips):
        return handle, f"the {in_all:,} images"
    return handle, f"{len(strips):,} of {in_all:,} images: the highest" + (", the selected one" if selected else "")


def _description(known: VerdictScores, marks: Sequence[Mark]) -> str:
    """Return the figure in words, for those who can't see it."""
    if len(marks) == 1:
        text = f"The verdict's score of this image is {marks[0][1]:.4g}."
    else:
        highest = max(marks, key=lambda mark: mark[1])
        text = f"The verdict's scores of {len(marks):,} images; the highest is {highest[1]:.4g}."
    return f"{text} {_known_text(known, several=len(marks) > 1)} Higher is more like a training image."


def _known_text(known: VerdictScores, *, several: bool = False) -> str:
    lines = [_range_text(known.edges, known.nonmembers, "non-members")]
    if known.members is not None:
        lines.append(_range_text(known.edges, known.members, "members"))
    if known.critical is not None:
        begins = f"begins above {known.critical:.4g}"
        lines.append(f"p ≤ {p_text(ALPHA)} {begins}; {Q_TOO}." if several else f"Evidence (p ≤ {p_text(ALPHA)}) {begins}.")
    return " ".join(lines)


def _range_text(edges: Sequence[float], counts: Sequence[int], name: str) -> str:
    cumulated = np.cumsum(counts) / sum(counts)
    low, high = (edges[int(np.searchsorted(cumulated, share)) + end] for share, end in ((0.05, 0), (0.95, 1)))
    return f"Nine in ten known {name} lie between {low:.3g} and {high:.3g}."
