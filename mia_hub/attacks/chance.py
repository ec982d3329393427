"""Random: a score without information, so that chance has a row in every table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from mia_hub.attacks.base import Attack
from mia_hub.attacks.querying import QueriedModel
from mia_hub.models.noise import SampleNoise

# No other attack uses the draw -1, so that chance is independent of every other score of the same seed.
OWN_DRAW = -1


@dataclass(frozen=True, kw_only=True)
class ChanceAttack(Attack):
    """Random: one standard normal number per image, a function of (seed, content) alone; the model is not queried.

    Its figures show what luck alone reaches with this number of images.

    Attributes:
        timesteps: not queried; the one nearest to the middle labels the column and is part of the seed.
    """

    timesteps: tuple[int, ...] = (0,)

    name: ClassVar[str] = "random"
    paper: ClassVar[str] = "none: the baseline of chance"
    access: ClassVar[str] = "black"
    one_score: ClassVar[bool] = True
    log_scale: ClassVar[bool] = False

    @property
    def queries_per_image(self) -> int:
        return 0

    def statistic(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        return replace(noise, shape=(1,), device="cpu", dtype=torch.float64)(self.default_timestep, OWN_DRAW)
