"""Attacks that compare a model with reference models, which were trained on other images, in the offline form: no reference model has
seen any of the images in question.

How hard an image is for models that have not seen it says how hard it would be for the audited model, had that not seen it either.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch

from mia_hub.attacks.base import Attack
from mia_hub.attacks.checks import check_choice
from mia_hub.attacks.loss import Loss
from mia_hub.attacks.querying import QueriedModel
from mia_hub.attacks.sima import AUTHORS_GRID, SimA
from mia_hub.errors import AttackError
from mia_hub.models.bases import base_captions
from mia_hub.models.noise import SampleNoise
from mia_hub.models.protocol import DiffusionModel
from mia_hub.models.reference_models import GIVE_REFERENCE_MODELS, reference_models
from mia_hub.splits.training_images import refuse_seen, training_ids

Compared = Literal["loss", "sima"]


@dataclass(frozen=True, kw_only=True)
class ReferenceModelsAttack(Attack):
    """An attack on the statistic of another attack, computed on the model and on each of its reference models with the same draws.

    An image that a reference model states to have been trained on is refused. Leaving that model out of its estimate would compare images
    by different numbers of models, whose scores have different distributions.

    Attributes:
        timesteps: SimA's grid, 0, 10, …, 200, by default.
        compared: the statistic S_t: "loss" (default), ‖e - ε(x_t, t)‖₂², as `mia_hub.attacks.loss` has it; or "sima", ‖ε(x0, t)‖₄.
        draws: number of draws of e that the loss is averaged over.
    """

    timesteps: tuple[int, ...] = AUTHORS_GRID
    compared: Compared = "loss"
    draws: int = 1

    access: ClassVar[str] = "gray"
    log_scale: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("compared", self.compared, get_args(Compared))
        object.__setattr__(self, "draws", Loss(draws=self.draws).draws)
        if self.compared == "sima" and self.draws != 1:
            raise AttackError(f"compared='sima' draws no noise, so that draws={self.draws} has no effect; leave it out.")

    @property
    def plain(self) -> Loss | SimA:
        """The attack whose statistic is compared."""
        return SimA(timesteps=self.timesteps) if self.compared == "sima" else Loss(timesteps=self.timesteps, draws=self.draws)

    @property
    def queries_per_image(self) -> int:
        return self.plain.queries_per_image

    @property
    def queries_per_reference_model(self) -> int:
        return self.plain.queries_per_image

    def check(self, model: DiffusionModel, captions: Sequence[Any] | None = None) -> None:
        super().check(model, captions)
        others = reference_models(model)
        if not others:
            raise AttackError(
                f"The attack {self.name!r} compares the model with reference models, and {model.info.id} was given none. "
                f"{GIVE_REFERENCE_MODELS}"
            )
        for other in others:
            self.plain.check(other, base_captions(model, other, captions, 1))

    @abstractmethod
    def formula(self, statistics: torch.Tensor, elements: int) -> torch.Tensor:
        """Return the statistic of the attack, lower for members, ``[N, T]``; of an attack that is fitted, its features ``[N, T, …]``.

        Args:
            statistics: S_t on the model and then on its k reference models, ``[N, T, 1 + k]``.
            elements: number of elements of a sample in model space.
        """

    def statistic(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        return self.formula(self.statistics(model, x0, cond, noise), x0[0].numel())

    def prepare(self, model: QueriedModel, seed: int) -> tuple[frozenset[str], ...]:
        """Return the content ids of the images that each reference model states to have been trained on."""
        return tuple(training_ids(other) for other in reference_models(model.model))

    def statistics(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        """Return S_t on the model and then on its k reference models, float64 ``[N, T, 1 + k]``; the arguments are those of `statistic`.

        Raises:
            SplitError: for an image that a reference model was trained on.
        """
        others = reference_models(model.model)
        for other, known in zip(others, model.prepared):
            refuse_seen(other, known, noise.ids)
        columns = [self.plain.statistic(model, x0, cond, noise)]
        for other in others:
            with model.on(other, x0) as (other_x0, other_cond):
                columns.append(self.plain.statistic(model, other_x0, other_cond, noise))
        return torch.stack([column.cpu().double() for column in columns], dim=-1)
