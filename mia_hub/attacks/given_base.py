"""Attacks on fine-tunes: a statistic given what the base model says of the same image.

An image that is easy for the fine-tune, and no easier for its base than other images, was trained on. This is difficulty calibration
(Watson et al., arXiv 2111.08440), by regression: a plain difference of logarithms would assume that μ grows with slope 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from mia_hub.attacks.base import Attack
from mia_hub.attacks.conditional import BASE, COMPLEXITY, ConditionalAttack, SimAC
from mia_hub.attacks.loss import Loss
from mia_hub.attacks.low_pass import CROSS, SimALP
from mia_hub.attacks.sima import SimA

# Around t = 220 of 1,000, which was chosen most often on fine-tunes.
GRID = (100, 160, 220, 280, 340)


@dataclass(frozen=True, kw_only=True)
class SimAB(SimAC):
    """SimA given the base: ‖ε(x0, t)‖_p compared with non-members that the base finds as hard; 1 + 1 queries per timestep.

    Attributes:
        timesteps: 100, 160, 220, 280, 340 by default.
        p: order of the norm, 2 by default; of the base's prediction the norms of order 1, 2 and 4 are used.
        given: see `ConditionalAttack`.
    """

    timesteps: tuple[int, ...] = GRID
    given: tuple[str, ...] | Literal["auto"] = (BASE, COMPLEXITY)

    name: ClassVar[str] = "sima-b"

    @property
    def profile(self) -> Attack:
        """Plain SimA at the same timesteps."""
        return self.base


@dataclass(frozen=True, kw_only=True)
class SimALPB(SimALP):
    """The low-pass norm of `sima-lp` given the base, complexity and four shifts; on pixels it holds on treated images; 5 + 1 queries.

    Attributes:
        timesteps: 100, 160, 220, 280, 340 by default.
        given: see `ConditionalAttack`; of the base's prediction the norms of order 1, 2 and 4, and that of its smooth part, are used.
    """

    timesteps: tuple[int, ...] = GRID
    given: tuple[str, ...] | Literal["auto"] = (BASE, COMPLEXITY, *CROSS)

    name: ClassVar[str] = "sima-lpb"

    @property
    def profile(self) -> Attack:
        """Plain SimA at the same timesteps."""
        return SimA(timesteps=self.timesteps)


@dataclass(frozen=True, kw_only=True)
class LossB(ConditionalAttack):
    """Loss given the base: ‖e - ε(x_t, t)‖₂² compared with non-members whose loss is as high on the base, with the same draws of e.

    Attributes:
        timesteps: 100, 160, 220, 280, 340 by default.
        draws: the number of draws of e that the losses are averaged over; 10 + 10 queries per timestep by default.
        given: see `ConditionalAttack`.
    """

    timesteps: tuple[int, ...] = GRID
    draws: int = 10
    given: tuple[str, ...] | Literal["auto"] = (BASE, COMPLEXITY)

    name: ClassVar[str] = "loss-b"
    paper: ClassVar[str] = "this project"
    access: ClassVar[str] = "gray"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "draws", self._loss.draws)

    @property
    def _loss(self) -> Loss:
        return Loss(timesteps=self.timesteps, draws=self.draws)

    @property
    def base(self) -> Attack:
        return self._loss
