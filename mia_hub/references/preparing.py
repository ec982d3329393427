"""Known images before they are scored: read once, without copies and unreadable ones, with their dates checked."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
from tqdm.auto import tqdm

from mia_hub.errors import AttackError, ImageError, SplitError
from mia_hub.images.captions import require_complete
from mia_hub.images.formats import FORMATS
from mia_hub.images.image import InputImage, encoded_file
from mia_hub.images.sequences import ConcatenatedSequence
from mia_hub.models.protocol import ModelInfo
from mia_hub.references.record import SourceRecord
from mia_hub.references.scoring import LabelledImages
from mia_hub.references.source import KnownImages

COPY, UNREADABLE, TOO_OLD = "copies", "that can't be read", "older than the stated date"
# EXIF: DateTimeOriginal and DateTimeDigitized in the Exif part, DateTime in the main one.
_EXIF_PART, _EXIF_DATES, _MAIN_DATE = 0x8769, (0x9003, 0x9004), 0x0132


@dataclass(frozen=True)
class PreparedImages:
    """Different readable images of known membership, members first.

    Attributes:
        known: the images.
        ids: their content ids.
        origin, members_origin: where the non-members and the members come from.
        problems: messages about the first images that were left out.
    """

    known: LabelledImages
    ids: list[str]
    origin: SourceRecord
    members_origin: SourceRecord | None
    problems: tuple[str, ...]

    def notes(self) -> tuple[str, ...]:
        """Return the notes on files of the sources that were not used."""
        return (*self.origin.notes, *(self.members_origin.notes if self.members_origin else ()))


def prepare(
    info: ModelInfo,
    nonmembers: KnownImages,
    members: KnownImages | None = None,
    *,
    captions: Any = None,
    made_after: date | None = None,
    progress: bool = True,
) -> PreparedImages:
    """Read known images, and leave out copies and unreadable ones.

    Args:
        info: of the model that will be queried.
        nonmembers, members: the images.
        captions: True for the source's own captions or classes, one text or class for all images, or None for empty ones.
        made_after: the date after which all non-members were made; one whose own metadata say otherwise is left out.
        progress: shows progress bars.

    Raises:
        SplitError: if an image is on both sides, a source has no captions where they are needed, or nothing is left.
        AttackError: for captions of a model that takes none.
    """
    if captions is not None and info.conditioning == "none":
        raise AttackError(f"The model {info.id} is conditioned on nothing, so it takes no captions; leave them out.")
    sides = [_readable(nonmembers, "non-members", progress, made_after)]
    if members is not None:
        sides.insert(0, _readable(members, "members", progress, None))
        both = set(sides[0].ids) & set(sides[1].ids)
        if both:
            raise SplitError(
                f"{len(both):,} images are both among the members ({sides[0].known.origin.description}) and the non-members "
                f"({sides[1].known.origin.description}); each can be on one side only. Remove them from one."
            )
    conditions = _conditions(info, [side.known for side in sides], captions)
    images: Sequence[InputImage] = sides[0].known.images
    if len(sides) == 2:
        images = ConcatenatedSequence(images, sides[1].known.images)
    labels = np.repeat(np.array([1, 0][-len(sides) :], np.int8), [len(side.ids) for side in sides])
    return PreparedImages(
        LabelledImages(images, labels, conditions),
        [sample for side in sides for sample in side.ids],
        sides[-1].known.origin,
        sides[0].known.origin if len(sides) == 2 else None,
        tuple(problem for side in sides for problem in side.problems),
    )


@dataclass(frozen=True)
class _Side:
    known: KnownImages
    ids: list[str]
    problems: tuple[str, ...]


def _readable(known: KnownImages, what: str, progress: bool, made_after: date | None) -> _Side:
    first: dict[str, int] = {}
    left_out: Counter[str] = Counter()
    problems: list[str] = []
    dated = 0
    for row in tqdm(range(len(known.images)), desc=f"reading {what}", unit="image", delay=1.0, disable=not progress):
        try:
            sample = known.images[row].id
        except ImageError as error:
            left_out[UNREADABLE] += 1
            problems += [str(error)] if len(problems) < 3 else []
            continue
        if sample in first:
            left_out[COPY] += 1
            continue
        if made_after is not None:
            dates = stated_dates(encoded_file(known.images, row))
            if any(date is not None and date <= made_after for date in dates):
                left_out[TOO_OLD] += 1
                continue
            dated += dates.taken is not None
        first[sample] = row
    if not first:
        raise SplitError(f"No image is left of {known.origin.description}{_counts(left_out)}. {' '.join(problems)}".rstrip())
    stated = {"made_after": made_after.isoformat(), "dated": dated} if made_after else {}
    merged = dict(Counter(known.origin.left_out) + left_out)
    description = known.origin.description + _counts(left_out)
    origin = known.origin.model_copy(update=stated | {"left_out": merged, "description": description})
    rows = list(first.values())
    chosen = known if len(rows) == len(known.images) else known.select(rows)
    return _Side(replace(chosen, origin=origin), list(first), tuple(problems))


def _counts(left_out: Counter[str]) -> str:
    return f", {' and '.join(f'{count:,} {reason}' for reason, count in sorted(left_out.items()))} left out" if left_out else ""


def _conditions(info: ModelInfo, sides: list[KnownImages], captions: Any) -> Any:
    if captions is not True:
        return captions
    return [value for known in sides for value in source_captions(known, info.conditioning)]


def source_captions(known: KnownImages, conditioning: str) -> Sequence[Any]:
    """Return the captions or classes that a source has for its images.

    Raises:
        SplitError: if it has none, or not for all.
    """
    what = "class" if conditioning == "class" else "caption"
    own = known.conditions(conditioning)
    if own is None:
        raise SplitError(
            f"{known.origin.description} has no {what} for its images. Name the column with --{what}-column, give one {what} for all "
            "with --caption, or leave --captions out."
        )
    return require_complete(own, what, known.origin.description)


class StatedDates(NamedTuple):
    """Dates in an image's own metadata; None where they state none.

    Attributes:
        taken: at which it was taken or scanned.
        changed: at which the file was last changed: the image is no newer, and may be older.
    """

    taken: date | None
    changed: date | None


def stated_dates(content: bytes | None) -> StatedDates:
    """Return the dates in the EXIF metadata of an image's file.

    Args:
        content: the file, or None.
    """
    if content is None:
        return StatedDates(None, None)
    try:
        with PIL.Image.open(io.BytesIO(content), formats=FORMATS) as image:
            exif = image.getexif()
            part = exif.get_ifd(_EXIF_PART)
            taken, changed = [part.get(tag) for tag in _EXIF_DATES], exif.get(_MAIN_DATE)
    except Exception:  # damaged metadata state nothing
        return StatedDates(None, None)
    return StatedDates(next(filter(None, map(_date, taken)), None), _date(changed))


def _date(value: Any) -> date | None:
    try:
        return date.fromisoformat(str(value)[:10].replace(":", "-"))
    except ValueError:
        return None
