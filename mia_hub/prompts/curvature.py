"""The curvature along the guidance: how much sharper a prompt makes the density at the start of sampling (Jeon et al. 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch

from mia_hub.errors import PromptError
from mia_hub.prompts.batch import PromptBatch, norms
from mia_hub.prompts.detector import PromptDetector

Form = Literal["finite-difference", "exact"]


@dataclass(frozen=True, kw_only=True)
class Curvature(PromptDetector):
    """‖(H_c - H_∅)(s_c - s_∅)‖₂, the mean over draws of x_T, with scores s = ∇log p and Hessians H = ∇²log p at x_T.

    s_c = -ε(x_T, c)/σ and s_∅ = -ε(x_T, ∅)/σ, where σ is the noise level. A memorised prompt makes the density sharp about one image, so
    that both the guidance and its derivative are large (Jeon et al. 2025, "Understanding and Mitigating Memorization in Generative Models
    via Sharpness of Probability Landscapes", ICML 2025, arXiv 2412.04140: the norm of H_Δ·s_Δ as their public code computes it, where both
    Hessians are multiplied by the same s_Δ).

    Attributes:
        form: "finite-difference" (default): the derivative along s_Δ from two more queries at x_T + step·u, where u is s_Δ at unit length;
            it works with every model. "exact": by forward-mode differentiation, as in the authors' code; it works with models whose
            operations all have such a derivative, and each query takes about twice the work.
        step: length of the step of the finite difference, above 0, where x_T has a length of about √(C·H·W). At 1, the default and the
            length in the authors' code for mitigation, float32 is precise enough; half precision is not.
    """

    form: Form = "finite-difference"
    step: float = 1.0

    name: ClassVar[str] = "curvature"
    paper: ClassVar[str] = "Jeon et al., ICML 2025, arXiv 2412.04140"
    queries_per_draw: ClassVar[int] = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form not in get_args(Form):
            raise PromptError(f"form must be one of {', '.join(map(repr, get_args(Form)))}; got {self.form!r}.")
        if isinstance(self.step, bool) or not isinstance(self.step, (int, float)) or not 0 < self.step < float("inf"):
            raise PromptError(f"step, the length of the finite difference, must be a number above 0; got {self.step!r}.")

    def statistic(self, batch: PromptBatch, x: torch.Tensor) -> torch.Tensor:
        guidance, sigma = batch.guidance(x), float(batch.schedule.noises[batch.start])
        if self.form == "exact":
            return norms(batch.guidance_derivative(x, guidance)) / sigma**2
        length = norms(guidance)
        # A guidance of 0 has no direction, and any will do: it is multiplied by that 0 below.
        unit = guidance / length.clamp(min=torch.finfo(length.dtype).tiny).reshape(-1, 1, 1, 1)
        change = batch.guidance(x + self.step * unit) - guidance
        return norms(change) * length / (self.step * sigma**2)
