"""GitHub's Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mia_hub.rendering.text import Rows


def escape_markdown(text: object) -> str:
    """Return a text as one line that Markdown shows as it is."""
    return re.sub(r"([\\`*_<>|]|(?<=\])\()", r"\\\1", " ".join(str(text).split()))


def code_span(text: object) -> str:
    """Return a text as one line of code."""
    return "`" + " ".join(str(text).split()).replace("`", "'").replace("|", "\\|") + "`"


def markdown_table(headers: Sequence[str], rows: Rows, *, raw: bool = False) -> str:
    """Return a table, whose cells are escaped unless they are ``raw`` Markdown."""
    cell = str if raw else escape_markdown
    rule = ["---", *["--:" if len(headers) > 2 else "---"] * (len(headers) - 1)]
    lines = [headers, rule, *([cell(c) for c in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
