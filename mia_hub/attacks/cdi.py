"""The features of an image that CDI combines (Dubiński et al., arXiv 2411.12858): four attacks, and three measures of its own.

As in the authors' public code: loss at t = 100 over five draws, SecMI's norm at t = 100, PIA and PIAN at t = 200 with p = 5; gradient
masking and the loss at t = 0, 100, …, 900; and the two numbers of noise optimisation at t = 100. 26 in all. Here each timestep has a draw
of noise of its own, where the authors use one for all; PIAN scales to a true Gaussian's mean absolute value, π/2 below theirs; and noise is
optimised for each image by itself, where the authors' line search is shared by a batch, so that an image's features depend on its company.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from mia_hub.attacks.base import Attack
from mia_hub.attacks.gradients import input_gradients
from mia_hub.attacks.loss import Loss
from mia_hub.attacks.pia import PIA, PIAN
from mia_hub.attacks.querying import QueriedModel
from mia_hub.attacks.secmi import SecMI
from mia_hub.attacks.sima import p_norm
from mia_hub.models.condition_rows import condition_rows
from mia_hub.models.noise import SampleNoise

PAPER = "arXiv 2411.12858"
GRID = tuple(range(0, 1000, 100))
# Share of the elements that are masked: those of the largest gradient.
MASKED = 0.2
ITERATIONS = 5


@dataclass(frozen=True, kw_only=True)
class GradientMasking(Attack):
    """CDI's gradient masking: ‖((e - x0) - ε(x0 with e where the mask is, t))·mask‖₂, the error of restoring what matters most.

    The mask is the fifth of all elements whose gradient of ‖e - ε(x_t, t)‖₂ by x_t is largest in absolute value.
    """

    timesteps: tuple[int, ...] = GRID

    name: ClassVar[str] = "gradient-masking"
    paper: ClassVar[str] = PAPER
    access: ClassVar[str] = "white"

    @property
    def queries_per_image(self) -> int:
        return 2 * len(self.timesteps)

    def statistic(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        return torch.stack([self._at(model, x0, cond, noise(t), t) for t in self.timesteps], dim=1)

    def _at(self, model: QueriedModel, x0: torch.Tensor, cond: Any, e: torch.Tensor, t: int) -> torch.Tensor:
        x_t = model.schedule.add_noise(x0, e, t)
        gradient = _of_rows(model, x_t, e, cond, lambda x, e, cond: _loss_gradient(model, x, e, cond, t)[1])
        size = gradient[0].numel()
        largest = gradient.flatten(1).abs().topk(int(MASKED * size), dim=1).indices
        mask = torch.zeros(len(x0), size, dtype=torch.bool, device=x0.device).scatter_(1, largest, True).reshape(x0.shape)
        epsilon = model.predict_noise(torch.where(mask, e, x0), t, cond)
        return p_norm(torch.where(mask, e - x0 - epsilon, torch.zeros_like(x0)), 2)


@dataclass(frozen=True, kw_only=True)
class NoiseOptimization(Attack):
    """CDI's noise optimisation: the smallest ‖e - ε(x_t + δ, t)‖₂ that five steps of L-BFGS reach, and the ‖δ‖₂ that they need.

    SciPy's L-BFGS-B starts from δ = 0. A step takes one forward and backward pass, or a few where its line search does.
    """

    timesteps: tuple[int, ...] = (100,)

    name: ClassVar[str] = "noise-optimization"
    paper: ClassVar[str] = PAPER
    access: ClassVar[str] = "white"

    @property
    def queries_per_image(self) -> int:
        return (1 + ITERATIONS) * len(self.timesteps)

    def statistic(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        """Return ``[N, 2T]``: the loss and the norm of δ at each timestep."""
        rows = []
        for t in self.timesteps:
            e = noise(t)
            x_t = model.schedule.add_noise(x0, e, t)
            rows += [torch.stack([self._optimised(model, x_t[i : i + 1], e[i : i + 1], _row(cond, i), t) for i in range(len(x0))])]
        return torch.cat(rows, dim=1)

    def _optimised(self, model: QueriedModel, x_t: torch.Tensor, e: torch.Tensor, cond: Any, t: int) -> torch.Tensor:
        """Return the loss and ‖δ‖₂ ``[2]`` of one image."""
        from scipy.optimize import minimize

        def objective(delta: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
            moved = x_t + torch.from_numpy(delta).to(x_t).reshape(x_t.shape)
            loss, gradient = _loss_gradient(model, moved, e, cond, t)
            return float(loss), gradient.double().cpu().numpy().ravel()

        best = minimize(objective, np.zeros(x_t.numel()), jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS})
        return torch.tensor([best.fun, np.linalg.norm(best.x)]).to(x_t)


class _SecMINorm(SecMI):
    """SecMI's error without the square, as in CDI."""

    name: ClassVar[str] = "secmi-norm"

    def length(self, vector: torch.Tensor) -> torch.Tensor:
        return p_norm(vector, 2)


@dataclass(frozen=True, kw_only=True)
class CDIFeatures(Attack):
    """CDI's 26 features of an image, which `mia_hub.metrics.dataset_inference` makes one test of; they aren't scores by themselves."""

    timesteps: tuple[int, ...] = GRID

    name: ClassVar[str] = "cdi"
    paper: ClassVar[str] = PAPER
    access: ClassVar[str] = "white"

    @cached_property
    def parts(self) -> tuple[Attack, ...]:
        """The attacks whose statistics the features are, in order."""
        return (
            Loss(timesteps=(100,), draws=5, form="norm"),
            _SecMINorm(timesteps=(100,)),
            PIA(timesteps=(200,), p=5),
            PIAN(timesteps=(200,), p=5),
            GradientMasking(timesteps=self.timesteps),
            Loss(timesteps=self.timesteps, form="norm"),
            NoiseOptimization(),
        )

    @property
    def queries_per_image(self) -> int:
        return sum(part.queries_per_image for part in self.parts)

    def check(self, model: Any, captions: Any = None) -> None:
        super().check(model, captions)
        for part in self.parts:
            part.check(model, captions)

    def statistic(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        """Return the features ``[N, 26]``."""
        return torch.cat([part.statistic(model, x0, cond, noise) for part in self.parts], dim=1)


def _loss_gradient(model: QueriedModel, x_t: torch.Tensor, e: torch.Tensor, cond: Any, t: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sum of ‖e - ε(x_t, t)‖₂ over rows, and its gradient by x_t, of the same shape."""
    x_t = x_t.detach().requires_grad_(True)
    with torch.enable_grad():
        total = p_norm(e - model.predict_noise(x_t, t, cond), 2).sum()
    (gradient,) = input_gradients(total, [x_t], model.info.id)
    return total.detach(), gradient


def _of_rows(
    model: QueriedModel, x: torch.Tensor, e: torch.Tensor, cond: Any, work: Callable[[torch.Tensor, torch.Tensor, Any], torch.Tensor]
) -> torch.Tensor:
    """Return the results of work on at most `QueriedModel.rows` rows at a time, since a graph holds all rows of a pass."""
    parts = []
    for start in range(0, len(x), model.rows):
        rows = slice(start, min(start + model.rows, len(x)))
        parts.append(work(x[rows], e[rows], condition_rows(cond, rows)))
    return torch.cat(parts)


def _row(cond: Any, row: int) -> Any:
    return condition_rows(cond, slice(row, row + 1))
