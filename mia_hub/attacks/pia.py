"""PIA and PIAN: how far the predicted noise moves once it has been added (arXiv 2305.18355)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from mia_hub.attacks.checks import check_norm
from mia_hub.attacks.querying import QueriedModel
from mia_hub.attacks.sima import p_norm
from mia_hub.attacks.vectors import Draws, VectorAttack

AUTHORS_GRID = tuple(range(10, 301, 10))


@dataclass(frozen=True, kw_only=True)
class PIA(VectorAttack):
    """PIA: ‖ε₀ - ε(√ᾱ_t·x0 + √(1-ᾱ_t)·ε₀, t)‖_p with ε₀ = ε(x0, 0), small for members.

    ε₀ takes the place of a random draw, so no noise is drawn; one query gives it for all timesteps.

    Attributes:
        timesteps: the authors' grid, 10, 20, …, 300, by default; CDI (arXiv 2411.12858) uses 200 alone.
        p: order of the norm; 4 in the paper.
    """

    timesteps: tuple[int, ...] = AUTHORS_GRID
    p: float = 4

    name: ClassVar[str] = "pia"
    paper: ClassVar[str] = "arXiv 2305.18355"
    access: ClassVar[str] = "gray"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_norm(self.p)

    @property
    def queries_per_image(self) -> int:
        return 1 + len(self.timesteps)

    def added_noise(self, epsilon: torch.Tensor) -> torch.Tensor:
        """Return the noise that is added to x0, and that the prediction is then compared with, from ε(x0, 0) ``[N, …]``."""
        return epsilon

    def length(self, vector: torch.Tensor) -> torch.Tensor:
        return p_norm(vector, self.p)

    def vectors(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: Draws) -> Iterator[torch.Tensor]:
        e = self.added_noise(model.predict_noise(x0, 0, cond))
        epsilons = model.epsilons(self.timesteps, lambda _, t: model.schedule.add_noise(x0, e, t), cond)
        return (e - epsilon for epsilon in epsilons)


@dataclass(frozen=True, kw_only=True)
class PIAN(PIA):
    """PIAN: PIA with ε₀ scaled, per sample, to the mean absolute value √(2/π) of a standard Gaussian, small for members.

    ε₀·√(2/π)/mean|ε₀| takes the place of ε₀, both in the sum and in the comparison. (CDI's text has
    √(π/2) for the factor, which would be off by π/2 from a Gaussian's.)
    """

    name: ClassVar[str] = "pian"

    def added_noise(self, epsilon: torch.Tensor) -> torch.Tensor:
        mean = p_norm(epsilon, 1) / epsilon[0].numel()
        # A prediction of exactly zero has no direction to scale, and stays zero.
        factor = math.sqrt(2 / math.pi) / mean.clamp_min(torch.finfo(epsilon.dtype).tiny)
        return epsilon * factor.to(epsilon.dtype).reshape(-1, *[1] * (epsilon.ndim - 1))
