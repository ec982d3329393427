"""Loss: the training loss itself as a statistic (Matsumoto et al., arXiv 2302.03262)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

import torch

from mia_hub.attacks.checks import check_choice
from mia_hub.attacks.naming import LATER
from mia_hub.attacks.querying import QueriedModel
from mia_hub.attacks.sima import AUTHORS_GRID, p_norm
from mia_hub.attacks.vectors import Draws, VectorAttack
from mia_hub.errors import AttackError, integer_at_least

Form = Literal["squared", "norm"]


@dataclass(frozen=True, kw_only=True)
class Loss(VectorAttack):
    """Loss: L_t(x0) = ‖e - ε(x_t, t)‖₂², the denoising loss at a noised input, small for members.

    x_t = √ᾱ_t·x0 + √(1-ᾱ_t)·e with e ~ N(0, I). The squares are summed, not averaged, over all elements of a sample.

    Attributes:
        timesteps: SimA's grid, 0, 10, …, 200, by default.
        draws: the number of draws of e that the loss is averaged over, one query each; 1 in the paper, 5 in CDI (arXiv 2411.12858).
        form: "squared" (default), as above, or "norm": ‖e - ε(x_t, t)‖₂, averaged over the draws, as CDI's code has it. With one draw
            both rank images alike.
    """

    timesteps: tuple[int, ...] = AUTHORS_GRID
    draws: int = 1
    form: Form = field(default="squared", metadata=LATER)

    name: ClassVar[str] = "loss"
    paper: ClassVar[str] = "arXiv 2302.03262"
    access: ClassVar[str] = "gray"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "draws", integer_at_least("draws", self.draws, 1, AttackError))
        check_choice("form", self.form, get_args(Form))

    @property
    def queries_per_image(self) -> int:
        return self.draws * len(self.timesteps)

    @property
    def vectors_per_timestep(self) -> int:
        return self.draws

    def length(self, vector: torch.Tensor) -> torch.Tensor:
        norm = p_norm(vector, 2)
        return norm if self.form == "norm" else norm**2

    def vectors(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: Draws) -> Iterator[torch.Tensor]:
        """Yield e - ε(x_t, t) ``[N, C, H, W]`` of each draw, which any function of (timestep, draw) may give."""
        # Draws whose prediction is pending: only those of one forward pass, however long the grid.
        pending: deque[torch.Tensor] = deque()

        def x(query: int, t: int) -> torch.Tensor:
            pending.append(noise(t, query % self.draws))
            return model.schedule.add_noise(x0, pending[-1], t)

        series = [t for t in self.timesteps for _ in range(self.draws)]
        return (pending.popleft() - epsilon for epsilon in model.epsilons(series, x, cond))
