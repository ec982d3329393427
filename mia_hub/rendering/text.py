"""Wording that terminal text, Markdown and HTML share."""

from __future__ import annotations

from typing import Any

MISSING = "—"
UNRECORDED = "not recorded"

Rows = list[list[str]]


def sentence_case(text: str) -> str:
    """Return a text with a capital first letter, unless that letter is the symbol t."""
    return text if text.startswith("t = ") else text[:1].upper() + text[1:]


def value_text(value: Any) -> str:
    """Return a recorded value of any kind as text, not escaped."""
    if value is None or value == "":
        return UNRECORDED
    if isinstance(value, dict):
        return ", ".join(f"{key} {value_text(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return " × ".join(map(value_text, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) and value >= 10_000 else str(value)


def shorten(text: str, longest: int, *, end: int = 0) -> str:
    """Return a text as one line of at most ``longest`` characters.

    Args:
        text: the text.
        longest: number of characters, the ellipsis included.
        end: how many of them are the text's last ones, which tell file names apart.
    """
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[: longest - end - 1]}…{text[len(text) - end :]}"


def one_line(text: object, longest: int = 500) -> str:
    """Return a stranger's text as one short line; control characters, which a terminal obeys, become spaces."""
    return shorten("".join(letter if letter.isprintable() else " " for letter in str(text)), longest)


def without_formula(text: str) -> str:
    """Return a cell that a spreadsheet takes for text, and never runs as a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def csv_cell(value: Any) -> Any:
    """Return a value as a cell of a CSV file: nothing for None, and a text as `without_formula` has it."""
    return "" if value is None else without_formula(value) if isinstance(value, str) else value
