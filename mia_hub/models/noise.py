"""Noise that belongs to the sample: an image has the same draws in any batch, order and process, and on any device.

Draws are made on the device that uses them, by Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") and the
transform of Box and Muller (1958). Its logarithm, root, sine and cosine are computed as single sums, products and quotients in float64,
which every device rounds as IEEE 754 prescribes; the devices' own functions differ in their last digits, the CPU's root among them.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

WORD = 2**32 - 1
ROUNDS = 10
MULTIPLIERS, WEYL = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)
# The bits of √½ as a float64.
ROOT_HALF = struct.unpack("<q", struct.pack("<d", math.sqrt(0.5)))[0]
FIRST_GUESS = 0x5FE6EB50C7B537A9
# Values drawn at once; each takes some 50 bytes meanwhile.
AT_ONCE = 2**22
# Coefficients of series in x²: 2 artanh(x) / x for |x| < .172; sin(x) / x and cos(x) for |x| < π / 4. Truncated terms are below 1e-11.
ARTANH = [2 / (2 * n + 1) for n in range(7)]
SIN = [(-1) ** n / math.factorial(2 * n + 1) for n in range(6)]
COS = [(-1) ** n / math.factorial(2 * n) for n in range(7)]


def philox(counter: Sequence[Any], key: Sequence[Any]) -> tuple[torch.Tensor, ...]:
    """Philox4x32-10: four random words of 32 bits for each counter.

    Args:
        counter: four words, int64 tensors that broadcast against each other, or ints.
        key: two words, likewise.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        # The products wrap around at 64 bits; both their halves are right all the same.
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = ((p1 >> 32) ^ c1 ^ k0) & WORD, p1 & WORD, ((p0 >> 32) ^ c3 ^ k1) & WORD, p0 & WORD
        k0, k1 = (k0 + WEYL[0]) & WORD, (k1 + WEYL[1]) & WORD
    return c0, c1, c2, c3


def box_muller(first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two independent standard normal draws, float64, from two words of 32 bits, int64 tensors of one shape."""
    radius = _root(_minus_two_log((first.double() + 0.5) * 2.0**-32))
    # An angle in a quarter of the circle; the two highest bits choose the quarter.
    angle = ((second & (2**30 - 1)).double() - (2**29 - 0.5)) * (math.pi / 2**31)
    square = angle * angle
    across = _series(square, SIN) * angle * radius
    along = _series(square, COS) * radius * (1 - 2 * (second >> 31)).double()
    swapped = (second & 2**30) != 0
    return torch.where(swapped, across, along), torch.where(swapped, along, across)


def _minus_two_log(u: torch.Tensor) -> torch.Tensor:
    """-2 log u of float64 in (0, 1)."""
    # u = 2^exponent · m, with m from √½ to √2, and log m = 2 artanh((m - 1) / (m + 1)).
    bits = u.view(torch.int64) - ROOT_HALF
    mantissa = ((bits & (2**52 - 1)) + ROOT_HALF).view(torch.float64)
    x = (mantissa - 1) / (mantissa + 1)
    logarithm: torch.Tensor = ((bits >> 52).double() * math.log(2) + _series(x * x, ARTANH) * x) * -2
    return logarithm


def _root(x: torch.Tensor) -> torch.Tensor:
    """√x of positive float64, to within 2 units of the last place: x / √x by Newton's method, from a guess by its bits (Lomont 2003)."""
    inverse: torch.Tensor = (FIRST_GUESS - (x.view(torch.int64) >> 1)).view(torch.float64)
    half = x * 0.5
    for _ in range(4):
        inverse = inverse * (1.5 - half * inverse * inverse)
    return x * inverse


def _series(square: torch.Tensor, coefficients: Sequence[float]) -> torch.Tensor:
    """Σ c_n·squareⁿ by Horner's rule; each step is rounded on its own, so that no device fuses two."""
    total = square * coefficients[-1]
    for coefficient in coefficients[-2:0:-1]:
        total = total.add_(coefficient).mul_(square)
    return total.add_(coefficients[0])


@dataclass(frozen=True)
class SampleNoise:
    """Standard normal draws for a batch of samples, each a function of (seed, sample id, timestep, draw index) alone.

    Philox's key, and a word of its counter, are a hash of seed and id (96 bits); the other words are the timestep, the draw, and the
    position in the sample. So no draw depends on the draws before it, and all are the same to the bit on every device.

    Attributes:
        ids: the samples' content ids, one per row.
        shape: shape of one sample, ``(C, H, W)``.
        seed: any int.
        device, dtype: where and in which precision the draws are returned. They are made in float64, and on the CPU unless it is CUDA.
    """

    ids: Sequence[str]
    shape: tuple[int, ...]
    seed: int = 0
    device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float32

    def __call__(self, timestep: int, draw: int = 0) -> torch.Tensor:
        """One draw ``[N, *shape]`` of N(0, I); timestep and draw are below 2³²."""
        size = math.prod(self.shape)
        values = torch.empty((len(self.ids), size), device=self.device, dtype=self.dtype)
        position, rows = torch.arange(-(-size // 4), device=self._keys.device), max(1, AT_ONCE // size)
        for portion, (k0, k1, sample) in zip(torch.split(values, rows), torch.split(self._keys, rows, dim=1)):
            words = torch.stack(philox((position, int(timestep), int(draw), sample), (k0, k1)), dim=1)
            portion.copy_(torch.cat(box_muller(words[:, :2], words[:, 2:]), dim=1).flatten(1)[:, :size])
        return values.reshape(-1, *self.shape)

    @cached_property
    def _keys(self) -> torch.Tensor:
        """Three words of each sample, int64 ``[3, N, 1]``: Philox's key, and a word of its counter."""
        hashes = b"".join(hashlib.blake2b(f"{self.seed}:{sample}".encode(), digest_size=12).digest() for sample in self.ids)
        words = torch.from_numpy(np.frombuffer(hashes, "<u4").astype(np.int64).reshape(-1, 3).T[..., None].copy())
        device = torch.device(self.device)
        return words.to(device if device.type == "cuda" else "cpu")  # other devices may lack float64
