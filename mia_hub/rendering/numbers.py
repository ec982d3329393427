"""Wording of numbers: the same value reads the same in a sentence, a table, a plot and a caveat."""

from __future__ import annotations

import math

from mia_hub.rendering.text import UNRECORDED


def with_interval(value: float, low: float, high: float, *, decimals: int = 3, unit: str = "") -> str:
    """Return a value with its interval: "0.953 [0.937, 0.968]"."""
    return f"{value:.{decimals}f}{unit} [{low:.{decimals}f}, {high:.{decimals}f}]"


def percent_with_interval(value: float, low: float, high: float, *, rate: float = 0.01) -> str:
    """Return a share in percent with its interval: "18.2 % [15.1, 21.6]".

    Args:
        value, low, high: shares in [0, 1].
        rate: the false-positive rate that the share belongs to; below 1 % the share gets more decimals.
    """
    decimals = max(1, round(-math.log10(rate)) - 1)
    return with_interval(value * 100, low * 100, high * 100, decimals=decimals, unit=" %")


def quantity(value: float | None, unit: str = "") -> str:
    """Return a measured quantity, with three significant digits below 100."""
    if value is None:
        return UNRECORDED
    return (f"{value:,.0f}" if value >= 100 else f"{float(f'{value:.3g}'):.10g}") + unit


def p_text(value: float) -> str:
    """Return a p- or q-value with three significant digits and no power of ten, so that 0.00999 and 0.0105 don't both read 0.01."""
    digits = max(0, 2 - math.floor(math.log10(value))) if value > 0 else 2
    return f"{value:.{digits}f}".rstrip("0").rstrip(".") or "0"


def share(value: float) -> str:
    """Return a share in percent, with three significant digits: "1 %", "18.2 %"."""
    return f"{float(f'{value * 100:.3g}'):.10g} %"


def in_ten(value: float) -> str:
    """Return a share in words: "about 3 in 10"; near 0 or 1 in percent."""
    tenths = round(value * 10)
    return f"about {tenths} in 10" if 0 < tenths < 10 else share(value)


def floored_percent(value: float) -> float:
    """Return a share in percent with one decimal, rounded down: 99.96 % must not be called 100."""
    return math.floor(value * 1000 + 1e-9) / 10


def duration(seconds: float) -> str:
    """Return an estimated time in words, rounded: "9 minutes"."""
    for size, unit in ((3600.0, "hour"), (60.0, "minute"), (1.0, "second")):
        if seconds >= 1.5 * size:
            count = seconds / size
            text = f"{count:.1f}".removesuffix(".0") if unit == "hour" and count < 10 else f"{count:,.0f}"
            return f"{text} {unit}s"
    return "a second"
