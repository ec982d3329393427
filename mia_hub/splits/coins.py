"""Splits whose images are in or out by independent fair coins, which a bound on ε from one training run needs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mia_hub.errors import SplitError

if TYPE_CHECKING:
    from mia_hub.splits.hub_rows import HubDataset

# The record of a split, beside its files.
RECORD = "split.json"
MOST_BYTES = 2**20


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


def draw_beside(folder: Path) -> CoinDraw | None:
    """Return the draw that the record in a split's folder states; None where there is no record, or none of coins."""
    path = folder / RECORD
    try:
        if not path.is_file() or path.stat().st_size > MOST_BYTES:
            return None
        return _stated(path.read_bytes())
    except OSError:
        return None


def draw_on_hub(dataset: HubDataset) -> CoinDraw | None:
    """Return the draw that the record of a data set on the Hub states, at its commit; None as for `draw_beside`.

    Raises:
        SplitError: if the record can't be fetched.
    """
    from huggingface_hub import hf_hub_download

    if RECORD not in dataset.sizes or dataset.sizes[RECORD] > MOST_BYTES:
        return None
    if dataset.is_offline:
        place = dataset.listing.cached(RECORD)
        return None if place is None else draw_beside(Path(place).parent)
    with dataset.errors():
        return draw_beside(Path(hf_hub_download(dataset.name, RECORD, revision=dataset.commit, repo_type="dataset")).parent)


def _stated(content: bytes) -> CoinDraw | None:
    """Return the draw in a record that anyone may have written; `CoinDraw.check` compares it with the images."""
    try:
        record = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or record.get("coins") is not True:
        return None
    seed, hash = record.get("seed"), record.get("hash")
    stated = isinstance(seed, int) and not isinstance(seed, bool) and isinstance(hash, str)
    return CoinDraw(seed, hash) if stated else None  # type: ignore[arg-type]  # checked in the line above
