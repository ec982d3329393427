"""Splits whose images are in or out by independent fair coins, which a bound on ε from one training run needs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mia_hub.errors import SplitError


@dataclass(frozen=True)
class CoinDraw:
    """A draw in which each image was in or out by its own fair coin.

    Attributes:
        seed: of the coins; see `coin`.
        hash: of the split that they gave, see `mia_hub.MemberSplit.hash`. It covers the side of every image.
    """

    seed: int
    hash: str

    def check(self, split_hash: str, ids: Sequence[str], is_member: Iterable[int]) -> None:
        """Refuse images that aren't those of the draw, or on other sides than their coins say.

        Args:
            split_hash: of these images.
            ids: their content ids.
            is_member: 1 or 0 for each.

        Raises:
            SplitError: with what differs.
        """
        if split_hash != self.hash:
            raise SplitError(
                f"The split's record says that coins gave the split {self.hash}, and its images are those of {split_hash}: some were "
                "added, left out or changed, so the sides are no longer independent. Use the split as it was written."
            )
        wrong = sum(int(coin(self.seed, id)) != int(label) for id, label in zip(ids, is_member))
        if wrong:
            raise SplitError(
                f"The split's record says that coins with seed {self.seed} drew it, and {wrong:,} of {len(ids):,} images are on the other "
                "side. Draw the split anew with mia-hub make-split --coin-flip."
            )


def coin(seed: int, id: str) -> bool:
    """Return whether an image is in: a bit of SHA-256 of the seed and the image's content id, so that anyone can toss it again."""
    return bool(hashlib.sha256(f"coin:{seed}:{id}".encode()).digest()[0] & 1)


def toss(seed: int, ids: Iterable[str]) -> npt.NDArray[np.bool_]:
    """Return `coin` of each image, bool ``[N]``."""
    return np.array([coin(seed, id) for id in ids], dtype=bool)


def stated_draw(record: Mapping[str, Any]) -> CoinDraw | None:
    """Return the draw that a split's record states, which anyone may have written: `CoinDraw.check` compares it with the images.

    Args:
        record: as `mia_hub.splits.record_beside.record_beside` reads it.

    Returns:
        The draw; None where the record states none of coins.
    """
    seed, hash = record.get("seed"), record.get("hash")
    if record.get("coins") is not True or not isinstance(seed, int) or isinstance(seed, bool) or not isinstance(hash, str):
        return None
    return CoinDraw(seed, hash)
