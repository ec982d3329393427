"""Noise that belongs to the sample: the same picture gets the same draws in any batch, order, process or device count."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch


def keyed_normal(name: bytes, shape: tuple[int, ...], *, use: bytes = b"") -> np.ndarray:
    """Standard normal draws, float64, that are a function of a name alone; ``use`` keeps apart those that are drawn for another purpose."""
    key = int.from_bytes(hashlib.blake2b(name, digest_size=16, person=use).digest(), "little")
    return np.random.Generator(np.random.Philox(key=key)).standard_normal(shape)


@dataclass(frozen=True)
class SampleNoise:
    """Standard normal draws for a batch of samples, each a function of (seed, sample id, timestep, draw index) alone.

    Philox is keyed by a hash of that tuple, so no draw depends on how many were made before it.

    Attributes:
        ids: the samples' content ids, one per row.
        shape: shape of one sample, ``(C, H, W)``.
        seed: any int.
        device, dtype: where and in which precision the draws are returned (they are made in float64 on the CPU).
    """

    ids: Sequence[str]
    shape: tuple[int, ...]
    seed: int = 0
    device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float32

    def __call__(self, timestep: int, draw: int = 0) -> torch.Tensor:
        """One draw ``[N, *shape]`` of N(0, I)."""
        rows = np.stack([self._row(sample, timestep, draw) for sample in self.ids])
        return torch.from_numpy(rows).to(device=self.device, dtype=self.dtype)

    def _row(self, sample: str, timestep: int, draw: int) -> np.ndarray:
        return keyed_normal(f"{self.seed}:{sample}:{timestep}:{draw}".encode(), self.shape)
