"""Figures beside what regulators ask, with the sentence that each can support and those that it can't.

The wording is in ``regulators.json``, in our own words. It is no legal advice, and says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

DATA = Path(__file__).with_name("regulators.json")


class Figure(NamedTuple):
    """A figure of a report.

    Attributes:
        key: its name in ``regulators.json``.
        value: as the report words it, with its interval.
        case: which of the sentences it supports; "" for the general one.
    """

    key: str
    value: str
    case: str = ""


class AskedFigure(NamedTuple):
    """A figure in the appendix.

    Attributes:
        title: its name in words.
        value: as the report words it.
        asked: short names of documents, each with what it asks for in this place.
        supports: the sentence that the figure can support.
        not_supported: those that it can't.
    """

    title: str
    value: str
    asked: tuple[tuple[str, str], ...]
    supports: str
    not_supported: tuple[str, ...]


@dataclass(frozen=True)
class Document:
    """A document of a regulator.

    Attributes:
        short: its name in a table.
        title: publisher, title and date.
        asks: what it asks, in our own words.
    """

    short: str
    title: str
    asks: str


@dataclass(frozen=True)
class Appendix:
    """The appendix of a document that is filed.

    Attributes:
        preface: what it is, and that it is no legal advice.
        figures: of the report, in its order.
        documents: those that the figures refer to.
    """

    preface: str
    figures: tuple[AskedFigure, ...]
    documents: tuple[Document, ...]


def make_appendix(figures: Iterable[Figure]) -> Appendix:
    """Return the appendix about the figures that a report has."""
    data = _data()
    entries = [(figure, data["figures"][figure.key]) for figure in figures]
    documents = {key: Document(**values) for key, values in data["documents"].items()}
    used = {key for _, entry in entries for key in entry["asked"]}
    return Appendix(
        data["preface"],
        tuple(_in_appendix(figure, entry, documents) for figure, entry in entries),
        tuple(document for key, document in documents.items() if key in used),
    )


def _in_appendix(figure: Figure, entry: dict[str, Any], documents: dict[str, Document]) -> AskedFigure:
    asked = tuple((documents[key].short, text) for key, text in entry["asked"].items())
    supports = entry["supports"][figure.case].format(value=figure.value)
    return AskedFigure(entry["title"], figure.value, asked, supports.strip(), tuple(entry["not_supported"]))


@cache
def _data() -> dict[str, Any]:
    values: dict[str, Any] = json.loads(DATA.read_text(encoding="utf-8"))
    return values
