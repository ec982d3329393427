"""The norm of the guidance at high noise, and its alignment with the unconditional prediction at low noise (arXiv 2601.20642)."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar

import torch

from mia_hub.errors import PromptError, integer_at_least
from mia_hub.models.protocol import DiffusionModel
from mia_hub.prompts.batch import PromptBatch, norms
from mia_hub.prompts.detector import PromptDetector


@dataclass(frozen=True, kw_only=True)
class Alignment(PromptDetector):
    """γ₁·‖ε(x_T, T, c) - ε(x_T, T, ∅)‖₂ + γ₂·cos, the mean over draws of x_T.

    cos is the cosine between ε(x_T, t, ∅) and the guidance ε(x_T, t, c) - ε(x_T, t, ∅) over the channels, the mean over positions, at a
    timestep t of low noise, though the input is the same pure noise x_T (Asthana & Belagiannis 2026, "Detecting and Mitigating Memorization
    in Diffusion Models through Anisotropy of the Log-Probability", ICLR 2026, arXiv 2601.20642, as their public code computes it for
    Stable Diffusion 1). Theirs takes the raw outputs of a model that predicts v for ε; this one converts them. With one channel, the cosine
    is a sign.

    Attributes:
        low_timestep: t; 41, the third-last of 50 steps of sampling, in the authors' code.
        weights: (γ₁, γ₂), finite. The authors choose them for each model: (1, 2) for Stable Diffusion 1, (1, 0.1) for 2. They are not
            chosen here, since that would take known memorised prompts; (0, 1) leaves the cosine alone.
    """

    low_timestep: int = 41
    weights: tuple[float, float] = (1.0, 2.0)

    name: ClassVar[str] = "alignment"
    paper: ClassVar[str] = "Asthana & Belagiannis, ICLR 2026, arXiv 2601.20642"
    queries_per_draw: ClassVar[int] = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "low_timestep", integer_at_least("low_timestep", self.low_timestep, 0, PromptError))
        given: Any = self.weights
        try:
            weights = tuple(float(weight) for weight in given)
        except (TypeError, ValueError):
            weights = ()
        if len(weights) != 2 or not all(map(isfinite, weights)) or not any(weights):
            raise PromptError(
                f"weights must be two finite numbers, of the norm and of the cosine, such as (1, 2), not both 0; got {given!r}."
            )
        object.__setattr__(self, "weights", weights)

    def check(self, model: DiffusionModel) -> None:
        super().check(model)
        self._check_timestep("low_timestep", self.low_timestep, model)

    def statistic(self, batch: PromptBatch, x: torch.Tensor) -> torch.Tensor:
        length = norms(batch.guidance(x))
        conditional, unconditional = batch.predictions(x, self.low_timestep)
        cosine = torch.nn.functional.cosine_similarity(unconditional, conditional - unconditional, dim=1).flatten(1).mean(dim=1)
        return self.weights[0] * length + self.weights[1] * cosine
