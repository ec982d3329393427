"""The figures of reports, checks and comparisons, as SVG text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mia_hub.metrics.estimates import Estimate
from mia_hub.rendering.svg import (
    INK,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def percent(estimate: Estimate, rate: float = 0.01) -> str:
    """An estimate in per cent with its interval: "18.2 % [15.1, 21.6]"; more decimals for one at a rate below 1 %."""
    decimals = max(1, round(-math.log10(rate)) - 1)
    value, low, high = (f"{part * 100:.{decimals}f}" for part in (estimate.value, estimate.low, estimate.high))
    return f"{value} % [{low}, {high}]"


def _point(axes: Axes, rate: float, found: Estimate, lowest: float, marker: str):
    """A measured rate with its interval; returns a legend handle."""
    value, low, high = (max(part, lowest) for part in (found.value, found.low, found.high))
    axes.plot([rate, rate], [low, high], color=INK, linewidth=1.4, zorder=4)
    return axes.plot([rate], [value], color=INK, marker=marker, markersize=6, linestyle="", markeredgecolor="white", zorder=5)[0]
