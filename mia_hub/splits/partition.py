"""The partition of samples into a calibration part and the rest, and into folds, by a hash of their ids."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def calibration_mask(ids: Sequence[str], *, fraction: float = 0.5, seed: int = 0) -> npt.NDArray[np.bool_]:
    """Return which samples belong to the calibration part, on which everything is chosen; figures come from the rest.

    Samples are ranked by a hash of (seed, id), so that the part doesn't depend on their order. Call it per class.

    Args:
        ids: content ids, N of them.
        fraction: of the samples in the calibration part, in (0, 1).
        seed: of the hash.

    Returns:
        bool ``[N]`` with round(fraction·N) True (some more if copies of an image lie at the border).
    """
    keys = np.array([_key("calibration", seed, sample) for sample in ids], dtype=object)
    count = round(fraction * len(keys))
    # A comparison of keys, not of ranks, so that copies of an image fall on one side.
    mask: npt.NDArray[np.bool_] = keys <= np.sort(keys)[count - 1] if count else np.zeros(len(keys), bool)
    return mask


def calibration_part(ids: Sequence[str], is_member: npt.NDArray[Any], *, fraction: float = 0.5, seed: int = 0) -> npt.NDArray[np.bool_]:
    """Return `calibration_mask` as bool ``[N]``, drawn separately within members (1), non-members (0) and unknowns (-1)."""
    mask = np.zeros(len(ids), bool)
    for label in np.unique(is_member):
        rows = np.flatnonzero(is_member == label)
        mask[rows] = calibration_mask([ids[i] for i in rows.tolist()], fraction=fraction, seed=seed)
    return mask


def folds(ids: Sequence[str], is_member: npt.NDArray[Any], k: int, *, seed: int = 0) -> npt.NDArray[np.int_]:
    """Return the fold, 0 … k-1, of each sample as int ``[N]``, balanced within each label; copies of an image share a fold."""
    fold = np.zeros(len(ids), int)
    for label in np.unique(is_member):
        rows = np.flatnonzero(is_member == label)
        keys: npt.NDArray[Any] = np.array([_key("fold", seed, ids[i]) for i in rows.tolist()], dtype=object)
        fold[rows] = np.unique(keys, return_inverse=True)[1] % k
    return fold


def _key(use: str, seed: int, sample: str) -> bytes:
    return hashlib.sha256(f"{use}:{seed}:{sample}".encode()).digest()
