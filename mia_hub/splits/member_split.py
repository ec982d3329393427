"""Members and non-members of a model's training set: the ground truth that an attack is measured against."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mia_hub.errors import AttackError, SplitError, integer_at_least
from mia_hub.images.captions import complete_values, select_rows
from mia_hub.images.image import InputImage
from mia_hub.images.sequences import ConcatenatedSequence, SelectedSequence
from mia_hub.images.sources import as_images, left_out_of
from mia_hub.splits.coins import CoinDraw
from mia_hub.splits.origins import Origin

MEMBER_NAMES = ("member", "members")
NONMEMBER_NAMES = ("nonmember", "nonmembers", "non-member", "non-members", "non_member", "non_members")
CAPTION_SOURCES = ("split", "empty")
# A content id, a blank, a label and a line break.
LINE_BYTES = 35


@dataclass(frozen=True, eq=False)
class MemberSplit:
    """Images known to be in a training set, and images known not to be.

    Attributes:
        name: "demo", a folder, or a Hub id.
        members, nonmembers: lazy sequences of `InputImage`; nothing is decoded before it is needed.
        captions: one per image, members first, or None.
        revision: commit hash on the Hub, or None.
        classes: class index of each image, members first, or None.
        notes: what the reader of a result must know of the split, one sentence each.
        coins: the draw, if each image was in or out by its own fair coin; None for a split of any other kind, such as a part of one.
        origins: where the images come from, as far as the split's record or its data set states it: one source of all, or that of the
            members and that of the non-members.
    """

    name: str
    members: Sequence[InputImage]
    nonmembers: Sequence[InputImage]
    captions: Sequence[Any] | None = None
    revision: str | None = None
    classes: Sequence[Any] | None = None
    notes: tuple[str, ...] = ()
    coins: CoinDraw | None = None
    origins: tuple[Origin, ...] = ()

    def conditioned_on(self, conditioning: str, source: str = "split") -> MemberSplit:
        """Return the split with the conditions of a model as its `captions`, and a note if only some of these are empty texts.

        Args:
            conditioning: the model's: with "text" they are the captions, with "class" the classes, with "none" there are none.
            source: "split" (those of the split, if it has any) or "empty".

        Raises:
            SplitError: for another source; if only some images have a caption, which could give the members away; or if classes are not
                integers.
        """
        if source not in CAPTION_SOURCES:
            raise SplitError(f"captions must be {' or '.join(map(repr, CAPTION_SOURCES))}; got {source!r}.")
        conditions = {"text": self.captions, "class": self.classes}.get(conditioning) if source == "split" else None
        if conditions is None:
            return replace(self, captions=None)
        conditions, empty = complete_values(conditions, "caption" if conditioning == "text" else "class", self.name)
        return replace(self, captions=conditions, notes=tuple(dict.fromkeys((*self.notes, *self._notes_on_empty(empty)))))

    def _notes_on_empty(self, rows: list[int]) -> list[str]:
        """Return a note where only some captions are empty: unlike missing ones they may be those of the training set."""
        if len(rows) in (0, len(self.images)):
            return []
        members = sum(row < len(self.members) for row in rows)
        sides = ((members, len(self.members), "members"), (len(rows) - members, len(self.nonmembers), "non-members"))
        counts = " and ".join(f"{count:,} of the {total:,} {side}" for count, total, side in sides)
        return [f"The captions of {counts} are empty; an attack may tell them apart by that alone."]

    @cached_property
    def images(self) -> Sequence[InputImage]:
        """All images, members first."""
        return ConcatenatedSequence(self.members, self.nonmembers)

    @cached_property
    def is_member(self) -> npt.NDArray[np.int8]:
        """int8 ``[N]``, 1 = member, in the order of `images`."""
        return np.repeat(np.array([1, 0], dtype=np.int8), [len(self.members), len(self.nonmembers)])

    @cached_property
    def hash(self) -> str:
        """Identity of the split by content, independent of order, names and storage. Decodes every image once."""
        return split_hash((image.id for image in self.images), self.is_member)

    def limited(self, limit: int | None, seed: int = 0) -> MemberSplit:
        """Return at most ``limit`` members and at most ``limit`` non-members, by a seeded draw.

        If any are left out, the split is no longer one of independent coins: the numbers on its sides are fixed.

        Raises:
            SplitError: if ``limit`` is below 2.
        """
        if limit is None:
            return self
        drawn = drawn_rows([len(part) for part in (self.members, self.nonmembers)], limit, seed)
        members, nonmembers = (SelectedSequence(part, rows) for part, rows in zip((self.members, self.nonmembers), drawn))
        rows = np.concatenate([drawn[0], drawn[1] + len(self.members)])
        captions, classes = (select_rows(values, rows) for values in (self.captions, self.classes))
        coins = self.coins if len(rows) == len(self.images) else None
        return replace(self, members=members, nonmembers=nonmembers, captions=captions, classes=classes, coins=coins)


def drawn_rows(sizes: Sequence[int], limit: int, seed: int = 0) -> list[npt.NDArray[np.int64]]:
    """Return the rows of each of several parts that a seeded draw of at most ``limit`` takes, increasing.

    Raises:
        SplitError: if ``limit`` is below 2, or ``seed`` below 0.
    """
    integer_at_least("limit", limit, 2, SplitError)
    integer_at_least("seed", seed, 0, SplitError)
    rng = np.random.default_rng(seed)
    return [np.sort(rng.permutation(size)[:limit]) for size in sizes]


def split_hash(ids: Iterable[str], is_member: Iterable[int]) -> str:
    """Return ``sha256:…`` over the sorted (id, label) pairs."""
    lines = (f"{sample} {int(label)}\n".encode() for sample, label in zip(ids, is_member))
    # As one array: a million Python strings would take three times the memory.
    ordered = np.sort(np.fromiter(_checked_lines(lines), dtype=f"S{LINE_BYTES}"))
    digest = hashlib.sha256()
    for line in ordered:
        digest.update(line)
    return "sha256:" + digest.hexdigest()


def captions_hash(ids: Iterable[str], captions: Iterable[Any]) -> str:
    """Return ``sha256:…`` over the sorted (id, caption) pairs."""
    pairs = sorted(f"{sample}\t{caption}\n" for sample, caption in zip(ids, captions))
    return "sha256:" + hashlib.sha256("".join(pairs).encode()).hexdigest()


def _checked_lines(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines, which must not be longer than `LINE_BYTES`: NumPy would cut them."""
    for line in lines:
        if len(line) > LINE_BYTES:
            raise SplitError(f"{line.decode()!r} begins with no content id, which is at most 32 characters long.")
        yield line


def distinct(images: Sequence[InputImage], captions: Any = None) -> tuple[Sequence[InputImage], Any, int]:
    """Return the images without copies, their captions, and the number of copies, which would make p-values too small.

    Args:
        images: to compare by content.
        captions: one per image, one for all, or None.

    Raises:
        AttackError: for another number of captions.
    """
    first: dict[str, int] = {}
    for row, image in enumerate(images):
        first.setdefault(image.id, row)
    if captions is not None and not isinstance(captions, (str, int)):
        if len(captions) != len(images):
            raise AttackError(f"There are {len(captions)} captions for {len(images)} images; one per image is needed.")
        captions = select_rows(captions, first.values())
    return SelectedSequence(images, list(first.values())), captions, len(images) - len(first)


def make_split(
    members: Any, nonmembers: Any, *, captions: Sequence[Any] | None = None, classes: Sequence[Any] | None = None, name: str = "custom"
) -> MemberSplit:
    """Make a split of images at hand.

    Args:
        members, nonmembers: anything `mia_hub.images.sources.as_images` takes.
        captions, classes: one per image, members first; for models conditioned on text, or on classes.
        name: as recorded in results.

    Raises:
        SplitError: if there are not as many captions or classes as images.
    """
    sides = as_images(members), as_images(nonmembers)
    split = MemberSplit(name, *sides, captions, None, classes, tuple(note for side in sides for note in left_out_of(side)))
    for what, values in (("captions", captions), ("classes", classes)):
        if values is not None and len(values) != len(split.images):
            raise SplitError(f"{what} has {len(values)} entries for {len(split.images)} images; one per image is needed, members first.")
    return split
