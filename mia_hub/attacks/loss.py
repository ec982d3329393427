"""Loss: the training loss itself as a statistic (Matsumoto et al., arXiv 2302.03262)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import ClassVar

import torch

from mia_hub.attacks.base import Attack
from mia_hub.attacks.sima import AUTHORS_GRID, p_norm
from mia_hub.errors import AttackError, whole_number


@dataclass(frozen=True, kw_only=True)
class Loss(Attack):
    """Loss: L_t(x0) = ‖e - ε(x_t, t)‖₂², the denoising loss at a noised input, small for members.

    x_t = √ᾱ_t·x0 + √(1-ᾱ_t)·e with e ~ N(0, I). The squares are summed, not averaged, over all elements of a sample.

    Attributes:
        timesteps: SimA's grid, 0, 10, …, 200, by default.
        draws: how many draws of e the loss is averaged over, one query each; the paper has 1, CDI (arXiv 2411.12858) 5.
    """

    timesteps: tuple[int, ...] = AUTHORS_GRID
    draws: int = 1

    name: ClassVar[str] = "loss"
    paper: ClassVar[str] = "arXiv 2302.03262"
    access: ClassVar[str] = "gray"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "draws", whole_number("draws", self.draws, 1, AttackError))

    @property
    def queries_per_image(self) -> int:
        return self.draws * len(self.timesteps)

    def statistic(self, model, x0, cond, noise) -> torch.Tensor:
        # The draws that wait for their answer: only those of one forward pass, however long the grid.
        asked: deque[torch.Tensor] = deque()

        def x(query: int, t: int) -> torch.Tensor:
            asked.append(noise(t, query % self.draws))
            return model.schedule.add_noise(x0, asked[-1], t)

        series = [t for t in self.timesteps for _ in range(self.draws)]
        losses = [p_norm(asked.popleft() - epsilon, 2) ** 2 for epsilon in model.epsilons(series, x, cond)]
        return torch.stack(losses, dim=1).unflatten(1, (-1, self.draws)).mean(dim=2)
