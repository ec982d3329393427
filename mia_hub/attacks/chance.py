"""Random: a score that knows nothing, so that chance has a row in every table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from mia_hub.attacks.base import Attack

# The draw -1 is asked for by no other attack, so that chance is independent of every other score of the same seed.
OWN_DRAW = -1


@dataclass(frozen=True, kw_only=True)
class ChanceAttack(Attack):
    """Random: one standard normal number per image, a function of (seed, content) alone; the model is not queried.

    Any figure that it reaches is what the number of images allows by luck.

    Attributes:
        timesteps: the score has none; the one nearest to the middle labels its column and is part of its seed.
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

    def statistic(self, model, x0, cond, noise) -> torch.Tensor:
        return replace(noise, shape=(1,), device="cpu", dtype=torch.float64)(self.default_timestep, OWN_DRAW)
