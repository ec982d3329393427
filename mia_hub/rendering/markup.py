"""What every text is put together from: words, Markdown, a page, an answer on a page, lines for a terminal."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

TERMINAL_WIDTH = 88
MISSING = "—"
UNRECORDED = "not recorded"

Rows = list[list[str]]


# Words and figures, however they are shown.


def sentence(text: str) -> str:
    """With a capital first letter, unless that letter is the symbol t."""
    return text if text.startswith("t = ") else text[:1].upper() + text[1:]


def quantity(value: float | None, unit: str = "") -> str:
    """A measured figure, with three significant digits below 100."""
    if value is None:
        return UNRECORDED
    return (f"{value:,.0f}" if value >= 100 else f"{float(f'{value:.3g}'):.10g}") + unit


def plain(value: Any) -> str:
    """A recorded value of any kind; not yet escaped."""
    if value is None or value == "":
        return UNRECORDED
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return " × ".join(map(plain, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) and value >= 10_000 else str(value)


# Markdown.


def marked(text: object) -> str:
    """Text from outside, so that Markdown shows it and does not obey it."""
    return re.sub(r"([\\`*_<>|]|(?<=\])\()", r"\\\1", " ".join(str(text).split()))


def code(text: object) -> str:
    """Text from outside, letter by letter."""
    return "`" + " ".join(str(text).split()).replace("`", "'").replace("|", "\\|") + "`"


def markdown_table(headers: Sequence[str], rows: Rows, *, raw: bool = False) -> str:
    """A table in GitHub's Markdown; ``raw``: the cells are Markdown already."""
    cell = str if raw else marked
    rule = ["---", *["--:" if len(headers) > 2 else "---"] * (len(headers) - 1)]
    lines = [headers, rule, *([cell(c) for c in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# A page of its own.

PAGE_STYLE = """
:root { color-scheme: light dark; --paper: #fcfbf9; --ink: #1d2024; --soft: #5a6069; --rule: #dfdcd5; --accent: #8a5300; --card: #ffffff;
  --serif: Charter, "Bitstream Charter", "Sitka Text", Cambria, Georgia, "Liberation Serif", serif;
  --sans: system-ui, -apple-system, "Segoe UI", "Helvetica Neue", "Liberation Sans", Arial, sans-serif; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16181b; --ink: #e9e6e0; --soft: #a3a8b0; --rule: #34383e; --accent: #e8b368; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1.0625rem/1.6 var(--serif); overflow-wrap: break-word; }
main { max-width: 58rem; margin: 0 auto; padding: clamp(2rem, 7vw, 5.5rem) clamp(1.25rem, 5vw, 3rem) 5rem; }
p, ul, dl { max-width: 41rem; margin: 0 0 1em; }
.over { font: 500 .875rem/1.5 var(--sans); color: var(--soft); margin: 0 0 1.1rem; }
h1 { font-size: clamp(1.5rem, 1.1rem + 1.9vw, 2.125rem); line-height: 1.3; font-weight: 500; letter-spacing: -.008em; margin: 0 0 1.6rem;
  max-width: 48rem; text-wrap: pretty; }
h2 { font-size: 1.25rem; line-height: 1.35; font-weight: 600; margin: 3.5rem 0 .9rem; }
h3 { font: 600 .9375rem/1.45 var(--sans); margin: 0 0 .35rem; }
.number { white-space: nowrap; }
.flags { border-left: 3px solid var(--accent); padding: .1rem 0 .1rem 1.4rem; margin: 2.2rem 0; max-width: 43rem; }
.flags h2 { margin: 0 0 1rem; color: var(--accent); }
.flags section + section { margin-top: 1.4rem; }
.flags p { margin: 0 0 .3rem; }
.label { color: var(--soft); font-style: italic; }
.scroll { overflow-x: auto; margin: 0 0 1rem; }
.scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 3px; }
table { border-collapse: collapse; font: .9063rem/1.45 var(--sans); font-variant-numeric: tabular-nums lining-nums; min-width: 100%; }
th, td { text-align: right; padding: .5rem 0 .5rem 1.6rem; border-bottom: 1px solid var(--rule); white-space: nowrap;
  vertical-align: baseline; }
th:first-child, td:first-child, .pairs td { text-align: left; }
th:first-child, td:first-child { padding-left: 0; }
thead th { font-weight: 500; color: var(--soft); border-bottom-color: var(--soft); vertical-align: bottom; }
tbody th { font-weight: 400; }
tr.chosen > * { font-weight: 650; }
.pairs { min-width: 0; width: 100%; }
.pairs th { color: var(--soft); width: 15rem; white-space: normal; }
.pairs td { white-space: normal; overflow-wrap: anywhere; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1.5rem; align-items: start;
  margin: 2rem 0; }
figure { margin: 0; background: var(--card); border-radius: 6px; padding: .75rem; border: 1px solid var(--rule); max-width: 34rem; }
figcaption { font: .875rem/1.45 var(--sans); color: #1c1f23; padding: 0 .35rem .6rem; }
dt { font-weight: 600; }
dd { margin: 0 0 .8rem; }
footer { border-top: 1px solid var(--rule); margin-top: 4rem; padding-top: 1rem; color: var(--soft); font: .875rem/1.5 var(--sans); }
@media (max-width: 34rem) {
  th, td { padding-left: 1rem; } th:first-child { white-space: normal; }
  figure { margin: 0 -.85rem; padding: .75rem .25rem; max-width: none; }
  .pairs th { width: 40%; } .pairs th, .pairs td { padding-right: .2rem; } .pairs td { padding-left: .8rem; } }
@media print { :root { --paper: #fff; --ink: #000; --soft: #444; --rule: #bbb; --accent: #6b4200; } body { font-size: 10.5pt; }
  main { padding: 0; max-width: none; } .scroll { overflow: visible; } figure, tr, .flags section, dt { break-inside: avoid; }
  h2 { break-after: avoid; margin-top: 2rem; } table { font-size: 8.5pt; } th, td { padding-left: .7rem; white-space: normal; } }
"""
# Nothing may be fetched or run, whoever opens the page and wherever it lies.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(title: str, body: str) -> str:
    """One self-contained page: no script, no request to anywhere; light and dark, on paper and on a phone.

    Args:
        title: plain text.
        body: HTML.
    """
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{PAGE_STYLE}</style></head>\n"
        f"<body><main>\n{body}\n</main></body></html>\n"
    )


def section(title: str, *parts: str) -> str:
    """A heading, and HTML below it."""
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def prose(text: str) -> str:
    """Escaped text in which a value stays on one line with its unit and its interval."""
    text = re.sub(r"(?<=\d) (?=%)|(?<=\b[tpq]) (?==)|(?<=\b[tpq] =) (?=\d)", "\N{NO-BREAK SPACE}", escape(text))
    return re.sub(r"(?:AUC )?[\d.]+(?:\s%)? \[[^\]]*\]", lambda found: f'<span class="number">{found[0]}</span>', text)


def html_table(headers: Sequence[str], rows: Rows, *, label: str, chosen: str | None = None) -> str:
    """A table that scrolls by itself where it is too wide; ``chosen``: the first cell of the row that stands out."""
    head = "".join(f'<th scope="col">{escape(h)}</th>' for h in headers)
    body = "".join(
        f'<tr{" class=chosen" if chosen == first else ""}><th scope="row">{escape(first)}</th>'
        f"{''.join(f'<td>{escape(cell)}</td>' for cell in rest)}</tr>"
        for first, *rest in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def pairs(rows: Iterable[Sequence[str]]) -> str:
    """A table of names and values."""
    return f'<div class="scroll"><table class="pairs"><tbody>{_named(rows)}</tbody></table></div>'


def _named(rows: Iterable[Sequence[str]]) -> str:
    return "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in rows)


def definitions(entries: Iterable[tuple[str, str]]) -> str:
    """Terms and what they mean."""
    return f"<dl>{''.join(f'<dt>{escape(term)}</dt><dd>{prose(sentence(text))}</dd>' for term, text in entries)}</dl>"


# Fragments of an answer, styled by ``ui/style.css``.


def answer(verdict_class: str, verdict: str, text: str) -> str:
    """Verdict and sentence; a ``text`` that begins with the verdict doesn't say it twice."""
    return (
        f'<div class="mia-answer mia-{escape(verdict_class)}" role="status"><p class="mia-verdict">{verdict}.</p>'
        f'<p class="mia-sentence">{prose(sentence(text.removeprefix(f"{verdict}: ")))}</p></div>'
    )


def figures(rows: Rows, notes: Iterable[str]) -> str:
    """The table of an answer's figures, and notes below it."""
    said = "".join(f"<p>{escape(note)}</p>" for note in notes)
    said = f'<div class="mia-notes">{said}</div>' if said else ""
    return f'<div class="mia-figures"><table class="mia-table"><tbody>{_named(rows)}</tbody></table>{said}</div>'


# Lines for a terminal.


def wrapped(text: str, indent: str = "") -> list[str]:
    """A paragraph."""
    return textwrap.wrap(text, TERMINAL_WIDTH, initial_indent=indent, subsequent_indent=indent) or [indent]


def items(lines: Iterable[str]) -> list[str]:
    """A list with dashes."""
    return [part for line in lines for part in textwrap.wrap(line, TERMINAL_WIDTH, initial_indent="  - ", subsequent_indent="    ")]


def aligned(rows: Rows) -> list[str]:
    """Names and values in two columns."""
    width = max(len(name) for name, _ in rows)
    return [
        line
        for name, value in rows
        for line in textwrap.wrap(value, TERMINAL_WIDTH, initial_indent=f"  {name:<{width}}  ", subsequent_indent=" " * (width + 4))
    ]
