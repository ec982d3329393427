"""Members and non-members drawn at random from one source, so that nothing but their use in training tells them apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from tqdm.auto import tqdm

from mia_hub.errors import ImageError, SplitError, integer_at_least
from mia_hub.images.image import InputImage
from mia_hub.images.sequences import ConcatenatedSequence, SelectedSequence
from mia_hub.splits.member_split import MemberSplit
from mia_hub.splits.sources import Pool

UNREADABLE = "unreadable"
COPY = "duplicate"
FEWEST = 2
ID_TYPE = "S32"


@dataclass(frozen=True, eq=False)
class DecodedSplit:
    """A split whose images were each decoded once.

    Attributes:
        split: of readable images.
        ids: their content ids, members first; bytes ``[N]``.
        left_out: how many images were left out, by reason.
        example: what is wrong with the first image that can't be read; "" if there is none.
        copies: images that occur more than once on their side, counted without the first of each.
    """

    split: MemberSplit
    ids: np.ndarray
    left_out: Counter[str] = field(default_factory=Counter)
    example: str = ""
    copies: int = 0


class _Reader:
    """Decodes images, and keeps count of those that are left out.

    Args:
        distinct: whether an image that was seen before is left out.
    """

    def __init__(self, progress: bool, *, distinct: bool):
        self.progress, self.distinct = progress, distinct
        self.left_out: Counter[str] = Counter()
        self.example = ""
        # 16 bytes each in place of 32 characters.
        self.seen: set[bytes] = set()

    def read(self, images: Sequence[InputImage], rows: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
        """The rows with an image that can be used, and their ids."""
        kept, ids = np.zeros(len(rows), bool), np.zeros(len(rows), ID_TYPE)
        for place in tqdm(range(len(rows)), desc=f"reading {what}", unit="image", delay=1.0, disable=not self.progress):
            try:
                id = images[int(rows[place])].id
            except ImageError as error:
                self.left_out[UNREADABLE] += 1
                self.example = self.example or str(error)
                continue
            key = bytes.fromhex(id)
            if self.distinct and key in self.seen:
                self.left_out[COPY] += 1
                continue
            self.seen.add(key)
            kept[place], ids[place] = True, id
        return rows[kept], ids[kept]


def draw_split(
    pool: Pool, members: int, nonmembers: int, *, seed: int = 0, other: Pool | None = None, progress: bool = True
) -> DecodedSplit:
    """Draws members and non-members at random.

    Different images are drawn, and only then which of them are members: an image that occurs often in the source is as likely to be a
    member as a non-member, and never both.

    Args:
        pool: the source.
        members, nonmembers: how many of each.
        seed: of the draw, with NumPy's ``default_rng``.
        other: another source of the non-members. They may then differ from the members by themselves.
        progress: shows progress bars.

    Raises:
        SplitError: for fewer than 2 of either, a seed below 0, or a source that has fewer images than are asked for.
    """
    for what, count in (("members", members), ("nonmembers", nonmembers)):
        integer_at_least(what, count, FEWEST, SplitError)
    integer_at_least("seed", seed, 0, SplitError)
    rng, reader = np.random.default_rng(seed), _Reader(progress, distinct=True)
    if other is None:
        rows, ids = _collect(pool, members + nonmembers, rng, reader)
        mixed = rng.permutation(len(rows))
        parts = [np.sort(mixed[:members]), np.sort(mixed[members:])]
        found = [(pool, rows[part], ids[part]) for part in parts]
    else:
        found = [(each, *_collect(each, count, rng, reader)) for each, count in ((pool, members), (other, nonmembers))]
    split = MemberSplit(
        pool.origin.name,
        *(SelectedSequence(each.images, rows) for each, rows, _ in found),
        captions=_both([(each.captions, rows) for each, rows, _ in found]),
        revision=pool.origin.revision,
        classes=_both([(each.classes, rows) for each, rows, _ in found]),
    )
    return DecodedSplit(split, np.concatenate([ids for *_, ids in found]), reader.left_out, reader.example)


def _collect(pool: Pool, count: int, rng: np.random.Generator, reader: _Reader) -> tuple[np.ndarray, np.ndarray]:
    """Rows of ``count`` different readable images, increasing, and their ids."""
    order, tried, rows, ids = rng.permutation(len(pool.images)), 0, np.zeros(0, np.int64), np.zeros(0, ID_TYPE)
    while tried < len(order) and len(rows) < count:
        # In the order of the source, which lies in row groups.
        batch = np.sort(order[tried : tried + count - len(rows)])
        tried += len(batch)
        found = reader.read(pool.images, batch, pool.origin.name)
        rows, ids = np.concatenate([rows, found[0]]), np.concatenate([ids, found[1]])
    if len(rows) < count:
        raise SplitError(
            f"{pool.origin.name} has {len(rows):,} different images that can be used, and {count:,} are asked for"
            f"{left_out_text(reader.left_out)}. Ask for fewer, or give a larger source."
        )
    ordered = np.argsort(rows)
    return rows[ordered], ids[ordered]


def _both(given: list[tuple[Sequence | None, np.ndarray]]) -> Sequence | None:
    """Captions or classes of both sides, where both have them."""
    if any(values is None for values, _ in given):
        return None
    return ConcatenatedSequence(*(SelectedSequence(values, rows) for values, rows in given))


def left_out_text(left_out: Counter[str]) -> str:
    """In brackets, what was left out; "" for nothing."""
    counts = ", ".join(f"{count:,} {reason}" for reason, count in sorted(left_out.items()))
    return f" (left out: {counts})" if counts else ""


def decode_split(split: MemberSplit, *, progress: bool = True) -> DecodedSplit:
    """A split that is there already, without the images that can't be read.

    Raises:
        SplitError: if an image is on both sides, or a side has fewer than 2 images that can be read.
    """
    reader, found, copies, sides = _Reader(progress, distinct=False), [], 0, []
    for what, part in (("members", split.members), ("non-members", split.nonmembers)):
        rows, ids = reader.read(part, np.arange(len(part)), what)
        if len(rows) < FEWEST:
            raise SplitError(f"{split.name} has {len(rows)} {what} that can be read, and {FEWEST} are needed at least. {reader.example}")
        copies += len(rows) - len(reader.seen)
        sides.append(reader.seen)
        reader.seen = set()
        found.append((rows, ids))
    both = len(sides[0] & sides[1])
    if both:
        raise SplitError(
            f"{both:,} images of {split.name} are both members and non-members; each must be on one side only. Take them out of the "
            "non-members, or check how the split was made."
        )
    (members, first), (nonmembers, second) = found
    rows = np.concatenate([members, nonmembers + len(split.members)])
    captions, classes = (None if given is None else SelectedSequence(given, rows) for given in (split.captions, split.classes))
    readable = MemberSplit(
        split.name,
        SelectedSequence(split.members, members),
        SelectedSequence(split.nonmembers, nonmembers),
        captions,
        split.revision,
        classes,
        split.notes,
    )
    return DecodedSplit(readable, np.concatenate([first, second]), reader.left_out, reader.example, copies)
