"""How figures are written, in one place: the same value reads the same in a sentence, a table, a plot and a caveat."""

from __future__ import annotations

import math


def p_text(value: float) -> str:
    """A p- or q-value with three significant digits and no power of ten, so that 0.00999 and 0.0105 don't both read 0.01."""
    digits = max(0, 2 - math.floor(math.log10(value))) if value > 0 else 2
    return f"{value:.{digits}f}".rstrip("0").rstrip(".") or "0"


def share(value: float) -> str:
    """A share in per cent, with three significant digits: "1 %", "18.2 %"."""
    return f"{float(f'{value * 100:.3g}'):.10g} %"


def in_five(value: float) -> str:
    """A share in words: "about 4 in 5"; near 0 or 1 in per cent."""
    fifths = round(value * 5)
    return f"about {fifths} in 5" if 0 < fifths < 5 else share(value)


def floored_percent(value: float) -> float:
    """A share in per cent with one decimal, rounded down: 99.96 % must not be called 100."""
    return math.floor(value * 1000 + 1e-9) / 10
