"""The model as a detector queries it: some prompts, each beside the empty one, at one input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mia_hub.attacks.querying import QueriedModel


class PromptBatch:
    """Some prompts, with which the model is queried.

    Attributes:
        schedule: the model's noise schedule.
        start: the timestep at which sampling begins, for this detector.
    """

    def __init__(self, queried: QueriedModel, prompts: Sequence[str], start: int):
        self._queried, self.schedule, self.start = queried, queried.schedule, start
        self._conditions: tuple[Any, Any] = (queried.condition(list(prompts)), queried.condition([""] * len(prompts)))

    def predictions(self, x: torch.Tensor, timestep: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ε(x, c) and ε(x, ∅), each ``[N, C, H, W]``; at a cost of 2 queries.

        Args:
            x: ``[N, C, H, W]`` in model space.
            timestep: `start` by default.
        """
        t = self.start if timestep is None else timestep
        conditional, unconditional = (self._queried.predict_noise(x, t, condition) for condition in self._conditions)
        return conditional, unconditional

    def guidance(self, x: torch.Tensor) -> torch.Tensor:
        """Return ε(x, c) - ε(x, ∅) at `start`, ``[N, C, H, W]``; at a cost of 2 queries.

        The scores are ∇log p(x|c) = -ε(x, c)/noise(t) and ∇log p(x) = -ε(x, ∅)/noise(t).
        """
        conditional, unconditional = self.predictions(x)
        return conditional - unconditional

    def guidance_derivative(self, x: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
        """Return the derivative of `guidance` at x along a direction, both ``[N, C, H, W]``, by forward-mode differentiation.

        It costs 2 queries, each of about twice the work of a plain one.
        """
        from torch.nn.attention import SDPBackend, sdpa_kernel

        # The fused kernels of attention have no forward-mode derivative.
        with sdpa_kernel(SDPBackend.MATH):
            derivative: torch.Tensor = torch.func.jvp(self.guidance, (x,), (direction,))[1]
        return derivative


def norms(x: torch.Tensor) -> torch.Tensor:
    """Return the Euclidean norm of each sample, ``[N]``."""
    lengths: torch.Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)
    return lengths
