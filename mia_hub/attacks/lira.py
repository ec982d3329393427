"""LiRA: the likelihood-ratio attack, in its offline form (Carlini et al. 2022, arXiv 2112.03570, Section VI-C)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch

from mia_hub.attacks.checks import check_choice
from mia_hub.attacks.given_reference_models import ReferenceModelsAttack
from mia_hub.errors import AttackError
from mia_hub.models.protocol import DiffusionModel
from mia_hub.models.reference_models import reference_models

Variance = Literal["global", "image"]
# Added to a standard deviation, as the authors' code does: reference models may agree on an image to the bit.
TINY = 1e-30


@dataclass(frozen=True, kw_only=True)
class LiRA(ReferenceModelsAttack):
    """LiRA, offline: score = (μ - log S_t)/σ, with μ and σ of the reference models' log S_t; one-sided, against their normal distribution.

    The paper's score is the probability that N(μ, σ²) lies above log S_t. It grows with ours and would round to 1 for clear members. The
    logarithm takes the place of its logit scaling of confidences.

    Attributes:
        variance: "global" (default): σ is the same for all images, as the paper advises for fewer than 64 reference models. It then
            changes no rank and is left out, so the score is a difference of logarithms; this is all that one reference model allows.
            "image": σ of each image over the reference models, of which it needs two, better dozens.
    """

    variance: Variance = "global"

    name: ClassVar[str] = "lira"
    paper: ClassVar[str] = "arXiv 2112.03570"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("variance", self.variance, get_args(Variance))

    def check(self, model: DiffusionModel, captions: Sequence[Any] | None = None) -> None:
        super().check(model, captions)
        if self.variance == "image" and len(reference_models(model)) < 2:
            raise AttackError("variance='image' needs two reference models or more, and there is one. Give more, or use variance='global'.")

    def formula(self, statistics: torch.Tensor, elements: int) -> torch.Tensor:
        logs = statistics.log()
        own, others = logs[..., 0], logs[..., 1:]
        difference = own - others.mean(dim=-1)
        return difference if self.variance == "global" else difference / (others.std(dim=-1, correction=0) + TINY)
