"""RMIA: the robust membership-inference attack, in its offline form (Zarifzadeh et al. 2024, arXiv 2312.03262)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from mia_hub.attacks.given_reference_models import ReferenceModelsAttack
from mia_hub.errors import AttackError


@dataclass(frozen=True, kw_only=True)
class RMIA(ReferenceModelsAttack):
    """RMIA, offline: score = log(Pr(x|θ)/Pr(x)), Pr(x) = ½·((1 + a)·mean over reference models of Pr(x|θ') + 1 - a).

    Pr(x|θ) = exp(-s), in (0, 1] as the correction by a needs it; s is the statistic per element: the mean square of e - ε, or for "sima"
    the mean of ε⁴ to the power ¼.

    The paper then takes the share of population images z whose ratio lies below that of x by a factor γ. For one and the same set of z
    this share never falls where the ratio rises, so it ranks images as the ratio does, but for the ties that it adds; it is left out.

    Attributes:
        a: the correction: where reference models give Pr on average, models trained on x are taken to give a·Pr + 1 - a. From 0 to 1, at
            which nothing is corrected; 0.33 by default, as in the code of arXiv 2603.11799.
    """

    a: float = 0.33

    name: ClassVar[str] = "rmia"
    paper: ClassVar[str] = "arXiv 2312.03262"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.a, bool) or not isinstance(self.a, (int, float)) or not 0 <= self.a <= 1:
            raise AttackError(f"a, the correction of the offline form, must be a number from 0 to 1; got {self.a!r}.")

    def formula(self, statistics: torch.Tensor, elements: int) -> torch.Tensor:
        per_element = statistics / (elements**0.25 if self.compared == "sima" else elements)
        own, others = per_element[..., 0], per_element[..., 1:]
        expected = ((1 + self.a) * torch.exp(-others).mean(dim=-1) + 1 - self.a) / 2
        return own + expected.log()
