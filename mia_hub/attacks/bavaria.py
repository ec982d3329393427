"""BaVarIA: Bayesian variance inference for few reference models, in an offline form (Brännvall 2026, arXiv 2603.11799)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from mia_hub.attacks.checks import check_choice
from mia_hub.attacks.given_reference_models import ReferenceModelsAttack
from mia_hub.attacks.learning import Scorer, TrainedAttack
from mia_hub.attacks.querying import QueriedModel
from mia_hub.metrics.normal_inverse_gamma import NormalInverseGamma
from mia_hub.models.noise import SampleNoise

Prior = Literal["population", "variances"]


@dataclass(frozen=True, kw_only=True)
class BaVarIA(ReferenceModelsAttack, TrainedAttack):
    """BaVarIA-t, offline and one-sided: score = (m - log S_t)/s, of the Student t that the reference models predict of an unseen image.

    m and s are those of the posterior predictive of a normal-inverse-gamma prior, given the reference models' log S_t of the image. All
    images have the same degrees of freedom, so the tail of the distribution ranks them as the score does. The author's offline form
    divides by the density of members, from a prior over images that shadow models were trained on. Here no reference model has seen any
    image, so that there is no such density, and the tail takes its place, as in LiRA.

    Attributes:
        prior: fitted on non-members of the calibration part. "population" (default), the author's: κ = 1, α = 2, and mean and expected
            variance are those of all values together, of all images. "variances", this project's: nothing is assumed of the mean (κ = 0),
            and α and β are fitted to the variances of the single images (Smyth 2004). With one reference model there are no such
            variances, and it ranks as `lira` does.
    """

    prior: Prior = "population"

    name: ClassVar[str] = "bavaria"
    paper: ClassVar[str] = "arXiv 2603.11799"
    learns_from: ClassVar[Literal["both", "nonmembers"]] = "nonmembers"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("prior", self.prior, get_args(Prior))

    def formula(self, statistics: torch.Tensor, elements: int) -> torch.Tensor:
        return statistics.log()

    def features(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        """Return log S_t on the model and on its reference models, ``[N, T, 1 + k]``."""
        return self.statistic(model, x0, cond, noise)

    def learn(self, features: npt.NDArray[Any], is_member: npt.NDArray[Any], seed: int) -> Scorer:
        fit = NormalInverseGamma.of_population if self.prior == "population" else NormalInverseGamma.of_variances
        priors = [fit(features[:, t, 1:]) for t in range(features.shape[1])]

        def scorer(others: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
            return -np.stack([prior.deviation(others[:, t, 0], others[:, t, 1:]) for t, prior in enumerate(priors)], axis=1)

        return scorer
