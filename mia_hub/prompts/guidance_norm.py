"""The norm of the guidance: how far a prompt pulls the first step of sampling (Wen et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from mia_hub.prompts.batch import PromptBatch, norms
from mia_hub.prompts.detector import PromptDetector


@dataclass(frozen=True, kw_only=True)
class GuidanceNorm(PromptDetector):
    """‖ε(x_T, c) - ε(x_T, ∅)‖₂, the mean over draws of x_T.

    A memorised prompt pulls every x_T to one image, and so further from the unconditional prediction than a prompt that leaves many images
    open (Wen et al. 2024, "Detecting, Explaining, and Mitigating Memorization in Diffusion Models", ICLR 2024: the metric of their first
    step, d = ‖ε_c - ε_∅‖₂).
    """

    name: ClassVar[str] = "guidance-norm"
    paper: ClassVar[str] = "Wen et al., ICLR 2024"
    queries_per_draw: ClassVar[int] = 2

    def statistic(self, batch: PromptBatch, x: torch.Tensor) -> torch.Tensor:
        return norms(batch.guidance(x))
