"""Lines for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from mia_hub.rendering.text import Rows

WIDTH = 88


def paragraph(text: str, indent: str = "") -> list[str]:
    """Return the lines of a paragraph."""
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent) or [indent]


def bullets(entries: Iterable[str]) -> list[str]:
    """Return the lines of a list with dashes."""
    return [line for entry in entries for line in textwrap.wrap(entry, WIDTH, initial_indent="  - ", subsequent_indent="    ")]


def table(rows: Rows, *, left: int) -> list[str]:
    """Return the lines of a table whose first row has its headings.

    Args:
        rows: of as many cells each.
        left: number of columns, from the first, that are aligned to the left.
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(f"{cell:<{w}}" if i < left else f"{cell:>{w}}" for i, (cell, w) in enumerate(zip(row, widths))) for row in rows]
    return [lines[0], "  ".join("─" * w for w in widths), *lines[1:]]


def columns(rows: Rows) -> list[str]:
    """Return the lines of names and values in two columns."""
    width = max(len(name) for name, _ in rows)
    return [
        line
        for name, value in rows
        for line in textwrap.wrap(value, WIDTH, initial_indent=f"  {name:<{width}}  ", subsequent_indent=" " * (width + 4))
    ]
