"""Members and non-members drawn at random from one source, so that only their use in training distinguishes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tqdm.auto import tqdm

from mia_hub.errors import ImageError, SplitError, integer_at_least
from mia_hub.images.image import InputImage
from mia_hub.images.sequences import ConcatenatedSequence, SelectedSequence
from mia_hub.splits.coins import CoinDraw, toss
from mia_hub.splits.member_split import MemberSplit, split_hash
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
        left_out: numbers of images that were left out, by reason.
        example: the message about the first image that can't be read; "" if there is none.
        copies: the number of images that occur earlier on their own side.
    """

    split: MemberSplit
    ids: npt.NDArray[np.bytes_]
    left_out: Counter[str] = field(default_factory=Counter)
    example: str = ""
    copies: int = 0


class _Readable(NamedTuple):
    """Readable images of a source: their rows ``[n]``, and content ids ``[n]``."""

    rows: npt.NDArray[np.int64]
    ids: npt.NDArray[np.bytes_]


class _Reader:
    """Decodes images, and counts those that are left out.

    Args:
        progress: shows a progress bar.
        distinct: leaves out an image that was read before.
    """

    def __init__(self, progress: bool, *, distinct: bool):
        self.progress, self.distinct = progress, distinct
        self.left_out: Counter[str] = Counter()
        self.example = ""
        # 16 bytes each, in place of 32 characters.
        self.ids: set[bytes] = set()

    def read(self, images: Sequence[InputImage], rows: npt.NDArray[np.int64], what: str) -> _Readable:
        """Decode the images in some rows; return those that can be used."""
        usable, ids = np.zeros(len(rows), bool), np.zeros(len(rows), ID_TYPE)
        for place in tqdm(range(len(rows)), desc=f"reading {what}", unit="image", delay=1.0, disable=not self.progress):
            try:
                id = images[int(rows[place])].id
            except ImageError as error:
                self.left_out[UNREADABLE] += 1
                self.example = self.example or str(error)
                continue
            key = bytes.fromhex(id)
            if self.distinct and key in self.ids:
                self.left_out[COPY] += 1
                continue
            self.ids.add(key)
            usable[place], ids[place] = True, id
        return _Readable(rows[usable], ids[usable])


def draw_split(
    pool: Pool, members: int, nonmembers: int, *, seed: int = 0, other: Pool | None = None, progress: bool = True
) -> DecodedSplit:
    """Draw members and non-members at random.

    Different images are drawn first, and then divided: an image that occurs often in the source is as likely to be a member as a
    non-member, and never both.

    Args:
        pool: the source.
        members, nonmembers: the number of each, at least 2.
        seed: of the draw, with NumPy's ``default_rng``.
        other: another source of the non-members, which may then differ from the members by themselves.
        progress: shows progress bars.

    Raises:
        SplitError: for fewer than 2 of either, a seed below 0, or a source with too few images.
    """
    for what, count in (("members", members), ("nonmembers", nonmembers)):
        integer_at_least(what, count, FEWEST, SplitError)
    integer_at_least("seed", seed, 0, SplitError)
    rng, reader = np.random.default_rng(seed), _Reader(progress, distinct=True)
    if other is None:
        drawn = _collect(pool, members + nonmembers, rng, reader)
        mixed = rng.permutation(len(drawn.rows))
        places = [np.sort(mixed[:members]), np.sort(mixed[members:])]
        pools, sides = [pool, pool], [_Readable(drawn.rows[part], drawn.ids[part]) for part in places]
    else:
        pools, sides = [pool, other], [_collect(pool, members, rng, reader), _collect(other, nonmembers, rng, reader)]
    return _divided(pools, sides, reader)


def draw_by_coins(pool: Pool, images: int | None = None, *, seed: int = 0, progress: bool = True) -> DecodedSplit:
    """Draw images, and put each in or out by its own fair coin; see `mia_hub.splits.coins.coin`.

    The numbers on the two sides are left to chance, as a bound on ε from one training run needs it. An image that occurs often in the
    source has one coin.

    Args:
        pool: the source.
        images: the number to draw; None for all that can be read.
        seed: of the draw and of the coins.
        progress: shows progress bars.

    Raises:
        SplitError: for fewer than 4 images, a seed below 0, a source with too few images, or coins that leave a side with fewer than 2.
    """
    integer_at_least("seed", seed, 0, SplitError)
    reader = _Reader(progress, distinct=True)
    if images is None:
        drawn = reader.read(pool.images, np.arange(len(pool.images)), pool.origin.name)
    else:
        drawn = _collect(pool, integer_at_least("images", images, 2 * FEWEST, SplitError), np.random.default_rng(seed), reader)
    is_in = toss(seed, (id.decode() for id in drawn.ids))
    sides = [_Readable(drawn.rows[part], drawn.ids[part]) for part in (is_in, ~is_in)]
    for what, side in zip(("members", "non-members"), sides):
        if len(side.rows) < FEWEST:
            raise SplitError(
                f"The coins of {len(drawn.rows):,} images gave {len(side.rows)} {what}, and at least {FEWEST} are needed. Draw more "
                f"images, some hundreds to learn anything{left_out_text(reader.left_out)}."
            )
    divided = _divided([pool, pool], sides, reader)
    draw = CoinDraw(seed, split_hash((id.decode() for id in divided.ids), divided.split.is_member))
    return replace(divided, split=replace(divided.split, coins=draw))


def _divided(pools: list[Pool], sides: list[_Readable], reader: _Reader) -> DecodedSplit:
    """Return the split of members in the first of two sources, and non-members in the second."""
    pool = pools[0]
    split = MemberSplit(
        pool.origin.name,
        SelectedSequence(pools[0].images, sides[0].rows),
        SelectedSequence(pools[1].images, sides[1].rows),
        captions=_both([source.captions for source in pools], sides),
        revision=pool.origin.revision,
        classes=_both([source.classes for source in pools], sides),
        notes=tuple(dict.fromkeys(note for source in pools for note in source.notes)),
        origins=tuple(source.origin for source in pools),
    )
    return DecodedSplit(split, np.concatenate([side.ids for side in sides]), reader.left_out, reader.example)


def _collect(pool: Pool, count: int, rng: np.random.Generator, reader: _Reader) -> _Readable:
    """Draw ``count`` different readable images; their rows increase."""
    order, tried, rows, ids = rng.permutation(len(pool.images)), 0, np.zeros(0, np.int64), np.zeros(0, ID_TYPE)
    while tried < len(order) and len(rows) < count:
        # Read in the order of the source, which is stored in row groups.
        batch = np.sort(order[tried : tried + count - len(rows)])
        tried += len(batch)
        readable = reader.read(pool.images, batch, pool.origin.name)
        rows, ids = np.concatenate([rows, readable.rows]), np.concatenate([ids, readable.ids])
    if len(rows) < count:
        raise SplitError(
            f"{pool.origin.name} has {len(rows):,} different images that can be used, and {count:,} are needed"
            f"{left_out_text(reader.left_out)}. Ask for fewer, or give a larger source."
        )
    ordered = np.argsort(rows)
    return _Readable(rows[ordered], ids[ordered])


def _both(columns: list[Sequence[Any] | None], sides: list[_Readable]) -> Sequence[Any] | None:
    """Return captions or classes of both sides, if both have them."""
    members, nonmembers = columns
    if members is None or nonmembers is None:
        return None
    return ConcatenatedSequence(SelectedSequence(members, sides[0].rows), SelectedSequence(nonmembers, sides[1].rows))


def left_out_text(left_out: Counter[str]) -> str:
    """Return the numbers of images that were left out, in brackets; "" for none."""
    counts = ", ".join(f"{count:,} {reason}" for reason, count in sorted(left_out.items()))
    return f" (left out: {counts})" if counts else ""


def decode_split(split: MemberSplit, *, progress: bool = True) -> DecodedSplit:
    """Return an existing split without the images that can't be read.

    Raises:
        SplitError: if an image is on both sides, or a side has fewer than 2 images that can be read.
    """
    reader = _Reader(progress, distinct=False)
    sides: list[_Readable] = []
    ids: list[set[bytes]] = []
    copies = 0
    for what, images in (("members", split.members), ("non-members", split.nonmembers)):
        side = reader.read(images, np.arange(len(images)), what)
        if len(side.rows) < FEWEST:
            raise SplitError(
                f"{split.name} has {len(side.rows)} {what} that can be read, and at least {FEWEST} are needed. {reader.example}".rstrip()
            )
        copies += len(side.rows) - len(reader.ids)
        sides.append(side)
        ids.append(reader.ids)
        reader.ids = set()
    on_both_sides = len(ids[0] & ids[1])
    if on_both_sides:
        raise SplitError(
            f"{on_both_sides:,} images of {split.name} are both members and non-members; each must be on one side only. Remove them from "
            "the non-members, or check how the split was made."
        )
    members, nonmembers = sides
    rows = np.concatenate([members.rows, nonmembers.rows + len(split.members)])
    captions, classes = (None if values is None else SelectedSequence(values, rows) for values in (split.captions, split.classes))
    readable = MemberSplit(
        split.name,
        SelectedSequence(split.members, members.rows),
        SelectedSequence(split.nonmembers, nonmembers.rows),
        captions,
        split.revision,
        classes,
        split.notes,
        split.coins,
        split.origins,
    )
    return DecodedSplit(readable, np.concatenate([members.ids, nonmembers.ids]), reader.left_out, reader.example, copies)
