"""GSA: a classifier of the norms of the loss gradient, layer by layer (arXiv 2308.06405; white box)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from mia_hub.attacks.authors import HasAuthorsVariant
from mia_hub.attacks.learning import Scorer, TrainedAttack
from mia_hub.attacks.querying import QueriedModel
from mia_hub.errors import AttackError, ModelError
from mia_hub.models.condition_rows import concatenated_conditions, condition_rows
from mia_hub.models.noise import SampleNoise
from mia_hub.models.protocol import DiffusionModel

# The middles of ten equal parts of a schedule of 1,000 steps.
TEN_PARTS = tuple(range(50, 1000, 100))
AUTHORS_STEPS = tuple(range(99, 1000, 100))
# Small trees, for some hundreds of images; every split leaves a few of them on each side.
SMALL_TREES = {"max_iter": 100, "learning_rate": 0.1, "max_leaf_nodes": 8, "min_samples_leaf": 5}
# XGBoost's defaults with 200 trees, as far as scikit-learn's trees have them.
XGBOOST_TREES = {
    "max_iter": 200,
    "learning_rate": 0.3,
    "max_depth": 6,
    "max_leaf_nodes": None,
    "min_samples_leaf": 1,
    "l2_regularization": 1,
}


@dataclass(frozen=True, kw_only=True)
class GradientAttack(HasAuthorsVariant, TrainedAttack):
    """The common part of both forms: gradients of one image at a time, and the classifier of their norms.

    Images are processed one at a time because a gradient is a sum over the batch. (Gradients per sample by torch.func.vmap would hold as
    many copies of all weights as there are samples.)

    Attributes:
        timesteps: ten, equally spaced over a schedule of 1,000 steps, by default; one query each.
        variant: "ours" (default), or "authors": `get_attack` chooses timesteps 99, 199, …, 999, and the classifier is one of 200 deeper
            trees with XGBoost's default settings, fitted by scikit-learn.
    """

    timesteps: tuple[int, ...] = TEN_PARTS

    paper: ClassVar[str] = "arXiv 2308.06405"
    access: ClassVar[str] = "white"
    needs_gradients: ClassVar[bool] = True
    one_score: ClassVar[bool] = True
    authors_defaults: ClassVar[Mapping[str, Any]] = MappingProxyType({"timesteps": AUTHORS_STEPS})

    @property
    def queries_per_image(self) -> int:
        return len(self.timesteps)

    def check(self, model: DiffusionModel, captions: Sequence[Any] | None = None) -> None:
        super().check(model, captions)
        assert model.network is not None, "the base class refuses a model without a network"
        if next(model.network.parameters(), None) is None:
            raise AttackError(
                f"The attack {self.name!r} differentiates by the model's weights, and the module of {model.info.id} has none. "
                "Wrap the network itself, or choose another attack."
            )
        if any(parameter.is_meta for parameter in model.network.parameters()):
            raise AttackError(
                f"The attack {self.name!r} differentiates by the model's weights, which aren't accessible with offload='sequential'; load "
                "the model without it."
            )

    @abstractmethod
    def norms(self, loss: _Loss, rows: int) -> torch.Tensor:
        """Return the features ``[P]`` of one image; at most ``rows`` of its timesteps may share a forward pass."""

    def features(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        """Return the ℓ2 norm of the loss gradient per parameter tensor, ``[N, P]``."""
        with model.differentiable() as parameters:
            losses = (
                _Loss(model, parameters, x0[i : i + 1], condition_rows(cond, slice(i, i + 1)), replace(noise, ids=noise.ids[i : i + 1]))
                for i in range(len(x0))
            )
            return torch.stack([self.norms(loss, model.rows) for loss in losses])

    def learn(self, features: npt.NDArray[Any], is_member: npt.NDArray[Any], seed: int) -> Scorer:
        from sklearn.ensemble import HistGradientBoostingClassifier

        # In a fixed order, since the last digits of sums depend on it, and a split may depend on those.
        order = np.lexsort((is_member, *features.T))
        trees = XGBOOST_TREES if self.by_authors else SMALL_TREES
        classifier = HistGradientBoostingClassifier(**trees, early_stopping=False, random_state=seed % 2**32)
        classifier.fit(features[order], is_member[order])
        return lambda others: np.asarray(classifier.decision_function(others)[:, None]) if len(others) else np.empty((0, 1))


@dataclass(frozen=True)
class _Loss:
    """The training loss, mean (e - ε(x_t, t))², of one image, to be differentiated by the weights."""

    model: QueriedModel
    parameters: Sequence[torch.Tensor]
    x0: torch.Tensor
    cond: Any
    noise: SampleNoise

    def gradients(self, timesteps: Sequence[int]) -> list[torch.Tensor | None]:
        """Return the gradient of the sum of the losses at some timesteps, by one forward and one backward pass; None for zero."""
        e = torch.cat([self.noise(t) for t in timesteps])
        t = torch.as_tensor(timesteps, device=e.device)
        x_t = self.model.schedule.add_noise(self.x0.expand_as(e), e, t)
        epsilon = self.model.predict_noise(x_t, t, concatenated_conditions([self.cond] * len(timesteps)))
        if not epsilon.requires_grad:
            raise ModelError(
                f"No gradient reaches the weights of {self.model.info.id}: its forward pass switches gradients off. Wrap a module that "
                "doesn't, or choose an attack without gradients."
            )
        loss = (e - epsilon).square().flatten(1).mean(dim=1).sum()
        return list(torch.autograd.grad(loss, self.parameters, allow_unused=True))


def _norms(gradients: Sequence[torch.Tensor | None], device: torch.device) -> torch.Tensor:
    """ℓ2 norms ``[P]``, 0 for a parameter that the loss doesn't depend on; summed in float64 if the device has it."""
    wide = torch.float32 if device.type == "mps" else torch.float64
    zero = torch.zeros((), dtype=wide, device=device)
    return torch.stack([zero if g is None else torch.linalg.vector_norm(g, dtype=wide).to(device) for g in gradients])


@dataclass(frozen=True, kw_only=True)
class GSA1(GradientAttack):
    """GSA₁: norms of the gradient of the loss averaged over the timesteps; one backward pass."""

    name: ClassVar[str] = "gsa1"

    def norms(self, loss: _Loss, rows: int) -> torch.Tensor:
        total: list[torch.Tensor | None] = []
        for start in range(0, len(self.timesteps), rows):
            part = loss.gradients(self.timesteps[start : start + rows])
            total = part if not total else [b if a is None else a if b is None else a + b for a, b in zip(total, part)]
        return _norms(total, loss.x0.device) / len(self.timesteps)


@dataclass(frozen=True, kw_only=True)
class GSA2(GradientAttack):
    """GSA₂: norms of the gradient of the loss at each timestep, averaged; a backward pass per timestep."""

    name: ClassVar[str] = "gsa2"

    def norms(self, loss: _Loss, rows: int) -> torch.Tensor:
        norms = (_norms(loss.gradients([t]), loss.x0.device) for t in self.timesteps)
        return reduce(torch.add, norms) / len(self.timesteps)
