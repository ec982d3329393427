"""The common form of attacks whose statistic is the length of one vector per timestep, of the image's shape."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from mia_hub.attacks.base import Attack
from mia_hub.attacks.querying import QueriedModel

# Returns the draw ``[N, C, H, W]`` of a timestep and a number, as `mia_hub.models.noise.SampleNoise` does.
Draws = Callable[..., torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class VectorAttack(Attack):
    """statistic = the length of a vector, such as a prediction or a difference of two; or the mean length of several."""

    @abstractmethod
    def vectors(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: Draws) -> Iterator[torch.Tensor]:
        """Yield the vectors ``[N, C, H, W]`` of the timesteps in order, `vectors_per_timestep` of each."""

    @abstractmethod
    def length(self, vector: torch.Tensor) -> torch.Tensor:
        """Return the length ``[N]`` of a vector ``[N, C, H, W]``: a norm, or a power of one."""

    @property
    def vectors_per_timestep(self) -> int:
        """Number of vectors whose lengths are averaged."""
        return 1

    def statistic(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: Draws) -> torch.Tensor:
        lengths = torch.stack([self.length(vector) for vector in self.vectors(model, x0, cond, noise)], dim=1)
        return torch.unflatten(lengths, 1, (-1, self.vectors_per_timestep)).mean(dim=2)
