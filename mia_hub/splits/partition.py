"""Members and non-members of a model's training set: the ground truth that an attack is measured against."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def calibration_mask(ids: Sequence[str], *, fraction: float = 0.5, seed: int = 0) -> np.ndarray:
    """Which samples belong to the calibration part, on which everything that is chosen is chosen; figures come from the rest.

    Ranks samples by a hash of (seed, id), so that the part doesn't depend on their order. Call it per class.

    Args:
        ids: content ids, N of them.
        fraction: share of the calibration part, in (0, 1).

    Returns:
        bool ``[N]`` with round(fraction·N) True (some more where copies of an image stand at the border).
    """
    keys = np.array([_key("calibration", seed, sample) for sample in ids], dtype=object)
    count = round(fraction * len(keys))
    # By comparison and not by place in the order, so that copies of an image fall on one side.
    return keys <= np.sort(keys)[count - 1] if count else np.zeros(len(keys), bool)


def _key(use: str, seed: int, sample: str) -> bytes:
    return hashlib.sha256(f"{use}:{seed}:{sample}".encode()).digest()


def calibration_part(ids: Sequence[str], is_member: np.ndarray, *, fraction: float = 0.5, seed: int = 0) -> np.ndarray:
    """bool ``[N]``: `calibration_mask`, drawn within members (1), non-members (0) and unknowns (-1) each."""
    mask = np.zeros(len(ids), bool)
    for label in np.unique(is_member):
        rows = np.flatnonzero(is_member == label)
        mask[rows] = calibration_mask([ids[i] for i in rows], fraction=fraction, seed=seed)
    return mask


def folds(ids: Sequence[str], is_member: np.ndarray, k: int, *, seed: int = 0) -> np.ndarray:
    """int ``[N]``: the fold, 0 … k-1, of each sample, balanced within each label; copies of an image share a fold."""
    fold = np.zeros(len(ids), int)
    for label in np.unique(is_member):
        rows = np.flatnonzero(is_member == label)
        keys = np.array([_key("fold", seed, ids[i]) for i in rows], dtype=object)
        fold[rows] = np.unique(keys, return_inverse=True)[1] % k
    return fold
