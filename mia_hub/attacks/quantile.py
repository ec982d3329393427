"""Quantile regression: how low the error of an image lies among those that non-members like it have (Tang et al. 2024).

arXiv 2312.05140. A network that sees the image alone predicts the distribution of SecMI's t-error; the threshold of a false-positive rate
is a quantile of it, so each image has its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from mia_hub.attacks.base import Attack
from mia_hub.attacks.delegating import DelegatingAttack
from mia_hub.attacks.learning import Scorer, TrainedAttack
from mia_hub.attacks.map_network import NORMAL_RECIPE, bounded_log_std, fit_map_network
from mia_hub.attacks.querying import QueriedModel
from mia_hub.attacks.secmi import SecMI
from mia_hub.errors import AttackError, integer_at_least
from mia_hub.models.noise import SampleNoise
from mia_hub.models.protocol import DiffusionModel

# Larger images are averaged down to this side before the network sees them.
SIDE = 32
MOST_NETWORKS = 100


@dataclass(frozen=True, kw_only=True)
class QuantileRegression(DelegatingAttack, TrainedAttack):
    """Quantile regression: score = (μ(x) - y)/σ(x) for SecMI's log t-error y, whose distribution a network predicts from the image alone.

    μ and σ are of a normal distribution, fitted on non-members by maximum likelihood, so that every quantile follows from one fit. The
    score is the mean over a bag of networks, each fitted on a bootstrap sample. (The paper takes the majority of the bag at one threshold.)

    Attributes:
        timesteps: those of SecMI's t-error, multiples of k; 90 by default, as in SecMI's pixel setting.
        k: step of SecMI's inversion.
        bag: the number of networks, 1 to 100, 5 by default; each timestep needs six fits of each.
    """

    timesteps: tuple[int, ...] = (90,)
    k: int = 10
    bag: int = 5

    name: ClassVar[str] = "quantile"
    paper: ClassVar[str] = "arXiv 2312.05140"
    access: ClassVar[str] = "gray"
    needs_signal: ClassVar[bool] = True
    learns_from: ClassVar[Literal["both", "nonmembers"]] = "nonmembers"
    ordered: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "bag", integer_at_least("bag, the number of networks,", self.bag, 1, AttackError))
        if self.bag > MOST_NETWORKS:
            raise AttackError(f"bag, the number of networks, must be at most {MOST_NETWORKS}; got {self.bag}.")
        object.__setattr__(self, "k", self._secmi.k)  # which also refuses timesteps that it doesn't reach

    @property
    def _secmi(self) -> SecMI:
        return SecMI(timesteps=self.timesteps, k=self.k)

    @property
    def base(self) -> Attack:
        return self._secmi

    def what_fits(self, model: DiffusionModel) -> str:
        return self._secmi.what_fits(model)

    def check(self, model: DiffusionModel, captions: Sequence[Any] | None = None) -> None:
        super().check(model, captions)
        self.base.check(model, captions)

    def features(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        """Return ``[N, 3 + T + C·h·w]``: the shape of the image, the T log t-errors, and the image, h, w ≤ 32."""
        errors = self.base.scaled(self.base.statistic(model, x0, cond, noise)).cpu().float()
        height, width = (min(side, SIDE) for side in model.pixels.shape[-2:])
        small = F.adaptive_avg_pool2d(model.pixels.cpu().float(), (height, width))
        shape = torch.tensor(small.shape[1:], dtype=errors.dtype).expand(len(small), 3)
        return torch.cat([shape, errors, small.flatten(1)], dim=1)

    def learn(self, features: npt.NDArray[Any], is_member: npt.NDArray[Any], seed: int) -> Scorer:
        images, errors = self._parts(features)
        rng = np.random.default_rng(seed)
        fits = []
        for column in errors.T:
            mean, std = column.mean(), column.std() or 1.0
            samples = [rng.integers(len(images), size=len(images)) for _ in range(self.bag)]
            networks = [
                fit_map_network(images[rows], (column[rows] - mean) / std, seed + k, NORMAL_RECIPE) for k, rows in enumerate(samples)
            ]
            fits.append((mean, std, networks))

        def scorer(others: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
            images, errors = self._parts(others)
            scores = np.empty(errors.shape)
            for t, (mean, std, networks) in enumerate(fits):
                outputs = torch.from_numpy(np.stack([network(images) for network in networks]))
                target = torch.from_numpy((errors[:, t] - mean) / std)
                deviations = (outputs[..., 0] - target) * torch.exp(-bounded_log_std(outputs[..., 1]))
                scores[:, t] = deviations.mean(0).numpy()
            return scores

        return scorer

    def _parts(self, features: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
        """Return images ``[n, C, h, w]`` and log errors ``[n, T]`` of the features."""
        shape, errors, images = np.split(features, [3, 3 + len(self.timesteps)], axis=1)
        return images.reshape(len(features), *map(int, shape[0])), errors.astype(np.float64)
