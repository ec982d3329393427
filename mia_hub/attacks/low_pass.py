"""The low-pass norm: SimA on the predicted noise and on its smooth part, which JPEG and added noise disturb less."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np
import torch

from mia_hub.attacks.base import Attack
from mia_hub.attacks.conditional import COMPLEXITY, GRID, ConditionalAttack
from mia_hub.attacks.sima import HARDNESS_ORDERS, SimA, p_norm

# Of the Gaussian, in pixels of model space; it is cut off after this many of them.
SIGMA, REACH = 0.8, 4.0
CROSS = ("shift-left", "shift-right", "shift-up", "shift-down")


@lru_cache(maxsize=16)
def smoothing_matrix(size: int) -> torch.Tensor:
    """Return the Gaussian filter along one axis as a matrix, float64 ``[size, size]``; beyond its ends the axis is mirrored."""
    radius = int(REACH * SIGMA + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / SIGMA) ** 2)
    weights /= weights.sum()
    # … c b a | a b c … | c b a …
    places = (np.arange(size)[:, None] + offsets) % (2 * size)
    places = np.where(places < size, places, 2 * size - 1 - places)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size)[:, None], places), weights)
    return torch.from_numpy(matrix)


def low_pass(epsilon: torch.Tensor) -> torch.Tensor:
    """Return G ∗ ε: each channel of ``[N, C, H, W]`` smoothed by a Gaussian of σ = 0.8 pixels; in float64 if the device has it."""
    wide = epsilon if epsilon.device.type == "mps" else epsilon.double()
    rows, columns = (smoothing_matrix(side).to(wide) for side in epsilon.shape[-2:])
    return rows @ wide @ columns.T


@dataclass(frozen=True, kw_only=True)
class LowPassNorm(SimA):
    """S_t(x0) = (‖ε(x0, t)‖₂ · ‖G ∗ ε(x0, t)‖₂)^½, one query per timestep, small for members; G is a Gaussian of σ = 0.8 pixels.

    Attributes:
        timesteps: 40, 70, …, 160 by default.
        p, input: as for `SimA`, with p = 2.
    """

    timesteps: tuple[int, ...] = GRID
    p: float = 2

    name: ClassVar[str] = "low-pass-norm"
    paper: ClassVar[str] = "this project"

    def length(self, vector: torch.Tensor) -> torch.Tensor:
        return low_pass_statistic(self.log_norms(vector)).exp()

    def log_norms(self, epsilon: torch.Tensor) -> torch.Tensor:
        """Return logs of the norms of several orders, and of the smooth part, ``[N, 4]``."""
        return torch.cat([super().log_norms(epsilon), p_norm(low_pass(epsilon), 2).log()[:, None]], dim=1)


def low_pass_statistic(hardness: torch.Tensor) -> torch.Tensor:
    """Return q = ½ log‖ε‖₂ + ½ log‖G ∗ ε‖₂, ``[…]``, of what `LowPassNorm.hardness` returns, ``[…, 4]``."""
    return (hardness[..., HARDNESS_ORDERS.index(2)] + hardness[..., -1]) / 2


@dataclass(frozen=True, kw_only=True)
class SimALP(ConditionalAttack):
    """SimA given complexity and four shifts, half of it on the smooth part of the predicted noise, which JPEG and noise disturb less.

    q = ½ log‖ε‖₂ + ½ log‖G ∗ ε‖₂, with G a Gaussian of σ = 0.8 pixels; five queries per timestep.

    Attributes:
        timesteps: 40, 70, …, 160 by default.
        given: see `ConditionalAttack`.
    """

    timesteps: tuple[int, ...] = GRID
    given: tuple[str, ...] | Literal["auto"] = (COMPLEXITY, *CROSS)

    name: ClassVar[str] = "sima-lp"
    paper: ClassVar[str] = "this project"
    access: ClassVar[str] = "gray"

    @property
    def base(self) -> Attack:
        return LowPassNorm(timesteps=self.timesteps)

    @property
    def profile(self) -> Attack:
        """Plain SimA, on the authors' grid unless other timesteps were chosen."""
        return SimA() if self.timesteps == GRID else SimA(timesteps=self.timesteps)
