"""Where known images come from: every form that ``--nonmembers`` takes, opened as images with their origin."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mia_hub.auditing.published_settings.setting import BENCHMARK, load_benchmark
from mia_hub.errors import SplitError, integer_at_least
from mia_hub.images.image import InputImage
from mia_hub.images.sequences import SelectedSequence
from mia_hub.images.sources import as_images, left_out_of
from mia_hub.references.record import SourceRecord
from mia_hub.splits.loading import load_split
from mia_hub.splits.member_split import MEMBER_NAMES, NONMEMBER_NAMES, MemberSplit
from mia_hub.splits.origins import Origin
from mia_hub.splits.split_part import ColumnNames, FetchOptions

Side = Literal["members", "nonmembers"]
_SIDES = {"members": "members", "nonmembers": "non-members"}
DEMO = "demo"
_DATASET = re.compile(r"(?P<name>[\w.-]+/[\w.-]+?)(:(?P<split>[\w.-]+))?")
FORMS = (
    "a folder of images, a Parquet file, a split, a data set on the Hub as 'owner/name' or 'owner/name:split', or 'benchmark:NAME' for a "
    "published setting"
)


@dataclass(frozen=True, eq=False)
class KnownImages:
    """Images of known membership, as a source holds them.

    Attributes:
        images: lazy; nothing is decoded before it is needed.
        captions, classes: one per image, or None.
        origin: where they come from, for answers.
        drawn_from: the one source of them that is stated; None where none is.
    """

    images: Sequence[InputImage]
    captions: Sequence[Any] | None
    classes: Sequence[Any] | None
    origin: SourceRecord
    drawn_from: Origin | None = None

    def conditions(self, conditioning: str) -> Sequence[Any] | None:
        """Return what a model is conditioned on: the captions, the classes, or nothing."""
        return {"text": self.captions, "class": self.classes}.get(conditioning)

    def limited(self, limit: int | None, seed: int) -> KnownImages:
        """Return at most ``limit`` images, by a seeded draw.

        Raises:
            SplitError: for a limit below 1, or a seed below 0.
        """
        if limit is None:
            return self
        integer_at_least("limit", limit, 1, SplitError)
        integer_at_least("seed", seed, 0, SplitError)
        return self.select(np.sort(np.random.default_rng(seed).permutation(len(self.images))[:limit]).tolist())

    def select(self, rows: list[int]) -> KnownImages:
        """Return the images in some rows."""
        captions, classes = (None if values is None else [values[row] for row in rows] for values in (self.captions, self.classes))
        return replace(self, images=SelectedSequence(self.images, rows), captions=captions, classes=classes)


def open_known_images(
    source: Any,
    side: Side = "nonmembers",
    *,
    columns: ColumnNames | None = None,
    revision: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> KnownImages:
    """Open a source of known images.

    Args:
        source: a folder of images, a Parquet file, a split (a folder or a data set with members and non-members; "demo"; a MemberSplit),
            a data set on the Hub as "owner/name" or "owner/name:split", "benchmark:NAME" for a published setting, or images at hand in any
            form that `mia_hub.images.sources.as_images` takes.
        side: which side of a split, or of a published setting, is meant.
        columns: of a data set or a Parquet file, where they don't have the usual names.
        revision: branch, tag or commit of a data set on the Hub.
        limit: at most this many images, by a seeded draw.
        seed: of that draw.
        progress: shows progress bars.

    Raises:
        SplitError: if it can't be opened.
        ImageError: for a folder without images.
    """
    if isinstance(source, KnownImages):
        return source.limited(limit, seed)
    if isinstance(source, MemberSplit):
        return _described(_side_of(source, side, _record_of(source.name, side)).limited(limit, seed), False)
    if not isinstance(source, (str, os.PathLike)):
        images = as_images(source)
        origin = SourceRecord(description=f"the {_SIDES[side]} given", notes=left_out_of(images))
        return KnownImages(images, None, None, origin).limited(limit, seed)
    text = os.fspath(source)
    if text.startswith(BENCHMARK):
        return _of_benchmark(text, side, limit, progress)
    opened = _of_split(text, side) if text == DEMO else _of_source(text, side, columns or ColumnNames(), revision)
    return _described(opened.limited(limit, seed), limit is not None and limit < len(opened.images))


def is_source(source: Any) -> bool:
    """Return whether a text names a source that is opened by its name, rather than images: no path of images, but a split, say."""
    if not isinstance(source, (str, os.PathLike)):
        return False
    path = Path(source)
    if path.is_dir():
        return bool({child.name.lower() for child in path.iterdir() if child.is_dir()} & {*MEMBER_NAMES, *NONMEMBER_NAMES})
    return path.suffix.lower() == ".parquet" or (isinstance(source, str) and not path.exists())


def check_no_members(folder: str | os.PathLike[str]) -> None:
    """Refuse a folder of non-members that has a folder of members somewhere in it.

    Raises:
        SplitError: with the first such folder.
    """
    for parent, folders, _ in os.walk(folder):
        wrong = next((name for name in sorted(folders) if name.lower() in MEMBER_NAMES), None)
        if wrong is not None:
            raise SplitError(
                f"{Path(parent, wrong)} is a folder of members, and all of {folder} would count as non-members. Give the folder of the "
                "non-members alone, or the folder of the split."
            )


def _described(known: KnownImages, drawn: bool) -> KnownImages:
    """Return the images with their number in the description."""
    count = f"{len(known.images):,} images" + (" drawn at random" if drawn else "")
    return replace(known, origin=known.origin.model_copy(update={"description": f"{count} of {known.origin.description}"}))


def _of_split(name: str, side: Side) -> KnownImages:
    return _side_of(load_split(name), side, _record_of(name, side).model_copy(update={"spelling": name}))


def _record_of(name: str, side: Side) -> SourceRecord:
    return SourceRecord(description=f"the {_SIDES[side]} of the split {name!r}")


def _side_of(split: MemberSplit, side: Side, origin: SourceRecord) -> KnownImages:
    first, images = (0, split.members) if side == "members" else (len(split.members), split.nonmembers)
    captions, classes = (
        None if values is None else SelectedSequence(values, range(first, first + len(images)))
        for values in (split.captions, split.classes)
    )
    origins = split.origins[:1] if side == "members" else split.origins[-1:]
    return KnownImages(images, captions, classes, origin, *origins)


def _of_source(text: str, side: Side, columns: ColumnNames, revision: str | None) -> KnownImages:
    """Open a folder, a Parquet file or a data set on the Hub."""
    from mia_hub.splits.sources import open_source

    match = None if Path(text).exists() else _DATASET.fullmatch(text)
    if match is None and not Path(text).exists():
        raise SplitError(f"There are no known images in {text!r}: it doesn't exist. Give {FORMS}.")
    name, wanted = (match["name"], match["split"]) if match else (text, None)
    opened, origin = open_source(name, revision=revision, source_split=wanted, columns=columns, fetching=FetchOptions())
    place = f"the folder {origin.name}" if Path(text).is_dir() else f"the file {origin.name}" if match is None else origin.name
    if origin.split and match:
        place += f", split {origin.split}"
    record = SourceRecord(description=place, spelling=text, revision=origin.revision, license=origin.license, notes=opened.notes)
    if isinstance(opened, MemberSplit):
        record = record.model_copy(update={"description": f"the {_SIDES[side]} of {place}"})
        return _side_of(opened, side, record)
    return KnownImages(opened.images, opened.captions, opened.classes, record, opened.origin)


def _of_benchmark(text: str, side: Side, limit: int | None, progress: bool) -> KnownImages:
    """Open the members or the non-members of a published setting."""
    from mia_hub.auditing.published_settings.image_source import DEMO as PACKAGED
    from mia_hub.auditing.published_settings.side import Side as Drawn

    setting = load_benchmark(text.removeprefix(BENCHMARK))
    source = setting.members if side == "members" else setting.nonmembers
    caveats = (setting.shift.note,) if setting.shift.known is not False and setting.shift.note else ()
    described = f"the {_SIDES[side]} of the published setting {setting.name} ({source.dataset}, split {source.split})"
    origin = SourceRecord(description=described, spelling=text, caveats=caveats)
    if source.dataset == PACKAGED:
        return _described(_side_of(load_split(DEMO), side, origin).limited(limit, 0), False)
    drawn = Drawn(source, setting.centre_crop, limit, None)
    draw = drawn.draw(progress=progress)
    if not draw.rows:
        raise SplitError(f"No image is left of {described}: {draw}. Give another source.")
    captions, classes = drawn.conditions(draw)
    origin = origin.model_copy(update={"revision": draw.commit, "left_out": dict(draw.missing)})
    return _described(KnownImages(drawn.images(draw), captions, classes, origin, drawn.origin), False)
