"""The report of a search for copies: what was called a copy, how surely, and what the reader must know."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from mia_hub.copying.known_figures import KnownFigures
from mia_hub.copying.statistic import Control, Share
from mia_hub.rendering.text import csv_cell

Verdict = Literal["copies", "no copies found", "cannot tell"]
COLUMNS = ("generated", "training", "training_id", "distance", "ratio", "p_value", "q_value", "is_copy")
# Pairs in the JSON and on the page beside those that are called copies; all of them are in `CopyReport.to_csv`.
LISTED = 20
MOST_LISTED = 1000


@dataclass(frozen=True)
class CopyPair:
    """A generated image and the training image nearest to it.

    Attributes:
        generated: name of the generated image.
        training, training_id: name and content id of the training image.
        distance: between them, in the embedder.
        ratio: the statistic; **lower = more like a copy**. See `mia_hub.copying.statistic.ratios`.
        p_value, q_value: None where no non-members are known.
        is_copy: whether it is called a copy.
        rows: of both among the generated and the training images.
    """

    generated: str
    training: str
    training_id: str
    distance: float
    ratio: float
    p_value: float | None
    q_value: float | None
    is_copy: bool
    rows: tuple[int, int] = field(default=(0, 0), repr=False, compare=False)


@dataclass(frozen=True)
class CopiedImage:
    """A training image that was copied.

    Attributes:
        training, training_id: its name and content id.
        copies: number of generated images that are called copies of it.
        repeats: how often it is among the training images.
    """

    training: str
    training_id: str
    copies: int
    repeats: int


@dataclass(frozen=True, kw_only=True)
class CopyReport:
    """Whether a model gives back its training images.

    Attributes:
        verdict: "copies", "no copies found" or "cannot tell".
        reason: why nothing can be told; empty otherwise.
        copies: the share of generated images that are called copies, with its interval over generated images.
        pairs: every generated image with its nearest training image, those most like copies first.
        copied: the training images that were copied, the one copied most first.
        control: the same search among images that were not trained on; None with too few non-members.
        figures: C_T, authenticity and coverage.
        rate: of false discoveries, among what is called a copy.
        fewest: number of copies among these generated images below which none could have been called; None without non-members.
        null_needed: number of non-members with which a single copy could be called one.
        neighbours: number of nearest training images in the statistic's mean.
        embedder: its identity.
        generated, training, nonmembers: what the images are, and how many: description, n, and of the last two n_distinct.
        model: `ModelInfo.to_dict`; None where images were generated elsewhere.
        notes: what the reader must know, one sentence each.
        provenance: versions, seed, steps, time.
        sheet: the most copy-like pairs side by side, a PNG; it is no part of `to_dict`.
    """

    verdict: Verdict
    reason: str
    copies: Share
    pairs: tuple[CopyPair, ...]
    copied: tuple[CopiedImage, ...]
    control: Control | None
    figures: KnownFigures
    rate: float
    fewest: int | None
    null_needed: int
    neighbours: int
    embedder: str
    generated: dict[str, Any]
    training: dict[str, Any]
    nonmembers: dict[str, Any]
    model: dict[str, Any] | None
    notes: tuple[str, ...]
    provenance: dict[str, Any]
    sheet: bytes = field(default=b"", repr=False, compare=False)

    def listed(self) -> tuple[CopyPair, ...]:
        """Return the pairs that are listed: the copies, and the `LISTED` pairs most like one; at most `MOST_LISTED`."""
        return self.pairs[: min(MOST_LISTED, max(LISTED, self.copies.count))]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values, with the pairs of `listed`."""
        values = asdict(replace(self, pairs=self.listed(), sheet=b""))
        del values["sheet"]
        for pair in values["pairs"]:
            del pair["rows"]
        values["copies"] |= {"value": self.copies.value}
        if self.control is not None:
            values["control"] |= {"fits": self.control.fits}
        return values

    def to_json(self) -> str:
        """Return `to_dict` as JSON."""
        return json.dumps(self.to_dict(), indent=2)

    def to_csv(self) -> str:
        """Return all pairs as a table."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(COLUMNS)
        rows.writerows([csv_cell(getattr(pair, name)) for name in COLUMNS] for pair in self.pairs)
        return text.getvalue()

    def to_markdown(self) -> str:
        """Return the report as Markdown with GitHub's tables."""
        from mia_hub.copying.report_pages import copies_markdown

        return copies_markdown(self)

    def to_html(self) -> str:
        """Return a self-contained page: no script, no request to anywhere."""
        from mia_hub.copying.report_pages import copies_html

        return copies_html(self)
