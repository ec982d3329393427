"""Canaries: images that are made to be memorised, of which coins put about half into the training set, for a tighter bound on ε."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mia_hub.errors import SplitError, integer_at_least
from mia_hub.images.image import InputImage
from mia_hub.images.sources import as_images
from mia_hub.splits.drawing import DecodedSplit, draw_by_coins
from mia_hub.splits.member_split import MemberSplit
from mia_hub.splits.origins import Origin
from mia_hub.splits.sources import Pool

SUFFIX = "-canaries"
# With fewer, coins may well leave a side with too few for an audit.
FEWEST = 20
LICENSE = "cc0-1.0"
# Cells along the shorter side. With fewer, two canaries may be near copies; with more, they look like noise, which no network learns.
CELLS = 6


def canary_images(n: int, height: int, width: int, channels: int, *, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Return patterns that no photograph resembles: cells of independent random colours at full contrast.

    A model that has not been trained on one of them can't predict it from the others, so that what it knows of one, it remembers.

    Args:
        n: the number of patterns.
        height, width: in pixels; as all images here, at least 8.
        channels: 1 or 3.
        seed: of the colours.

    Returns:
        uint8 ``[n, height, width]`` for one channel, ``[n, height, width, 3]`` for three; no two are equal.

    Source:
        Carlini et al. 2019, arXiv 1802.08232, for the idea: sequences that are random, and so tell memory from knowledge.
    """
    rng = np.random.default_rng([seed, 0xCA4A41E5])
    side = min(height, width)
    rows, columns = (-(-length * CELLS // side) for length in (height, width))
    patterns: dict[bytes, npt.NDArray[np.uint8]] = {}
    while len(patterns) < n:
        pattern = rng.integers(0, 2, (rows, columns, channels), dtype=np.uint8)
        patterns.setdefault(pattern.tobytes(), pattern)
    drawn = np.stack(list(patterns.values()))
    y, x = (np.arange(length) * CELLS // side for length in (height, width))
    pixels: npt.NDArray[np.uint8] = drawn[:, y][:, :, x] * np.uint8(255)
    return pixels[..., 0] if channels == 1 else pixels


def draw_canaries(n: int, beside: MemberSplit, *, seed: int = 0) -> DecodedSplit:
    """Make canaries like the images of a split, and put each in or out by its own fair coin.

    Args:
        n: the number of canaries, at least 20; a bound above 1 takes some hundreds.
        beside: the split of the training set that they go into. They get the size of its first member, colours if that has any, and
            captions and classes that are drawn from its members.
        seed: of the patterns, of the coins and of what is drawn.

    Returns:
        A split of their own, by coins.

    Raises:
        SplitError: for fewer than 20, or if the coins leave a side with fewer than 2.
    """
    n = integer_at_least("canaries", n, FEWEST, SplitError)
    first = beside.members[0]
    height, width, channels = _shape(first)
    images = as_images(canary_images(n, height, width, channels, seed=seed))
    like = np.random.default_rng(seed).integers(len(beside.members), size=n)
    captions, classes = (_drawn(values, like) for values in (beside.captions, beside.classes))
    note = (
        f"These are canaries: {n:,} random patterns, made to be memorised. They go into the training set together with the members of "
        f"{beside.name}, and serve for the bound on ε alone."
    )
    pool = Pool(Origin("canaries"), images, captions, classes, (note,))
    return draw_by_coins(pool, seed=seed, progress=False)


def _shape(image: InputImage) -> tuple[int, int, int]:
    """Return height, width and 1 or 3 channels; an image whose channels are all equal counts as grey."""
    pixels = image.pixels
    grey = pixels.ndim == 2 or pixels.shape[2] == 1 or bool((pixels == pixels[..., :1]).all())
    return image.height, image.width, 1 if grey else 3


def _drawn(values: Sequence[Any] | None, rows: npt.NDArray[np.int64]) -> list[Any] | None:
    return None if values is None else [values[int(row)] for row in rows]
