"""The base class of attacks. A subclass states its parameters, its costs and its formula; `mia_hub.attacks.scoring` does the rest."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import numpy.typing as npt
import torch

from mia_hub.attacks.naming import named_repr
from mia_hub.attacks.querying import QueriedModel
from mia_hub.attacks.scoring import Observations, Scoring
from mia_hub.errors import AttackError
from mia_hub.models.noise import SampleNoise
from mia_hub.models.protocol import DiffusionModel
from mia_hub.models.reference_models import reference_models
from mia_hub.scores import ScoreTable


@dataclass(frozen=True, kw_only=True)
class Attack(ABC):
    """A membership-inference attack. Its fields are its parameters, so its ``repr`` is its identity.

    **A score is higher when membership is more likely.** The papers' statistics are lower for members unless a paper says otherwise;
    `score` returns minus the statistic.

    Attributes:
        timesteps: the integer training timesteps that are queried, increasing.
        name: the attack's registered name.
        paper: where it is defined.
        access: what the attacker must see: "black" (generated images), "gray" (the denoiser's output), "white" (weights).
        needs_caption: whether the images' captions are needed, and so a model conditioned on text.
        needs_text: whether a model conditioned on text is needed, with captions or without.
        needs_gradients: whether the denoiser's weights are differentiated by.
        needs_samples: whether images are compared with images that the model generated.
        needs_training: whether it is fitted on images of known membership; see `mia_hub.attacks.learning`.
        needs_signal: whether it predicts clean images, which is impossible where x_t holds nothing of them.
        ignores_captions: whether it queries a model conditioned on captions with empty ones.
        one_score: whether the timesteps are aggregated into one score per image, instead of giving one each.
        log_scale: whether the statistic is positive by definition, so that its ratios are informative.
        local_parameters: parameters whose values exist only on this machine, such as files or functions; a service that runs attacks for
            others refuses them.
    """

    timesteps: tuple[int, ...]

    name: ClassVar[str]
    paper: ClassVar[str]
    access: ClassVar[str]
    needs_caption: ClassVar[bool] = False
    needs_text: ClassVar[bool] = False
    needs_gradients: ClassVar[bool] = False
    needs_samples: ClassVar[bool] = False
    needs_training: ClassVar[bool] = False
    needs_signal: ClassVar[bool] = False
    ignores_captions: ClassVar[bool] = False
    one_score: ClassVar[bool] = False
    log_scale: ClassVar[bool] = True
    local_parameters: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # The dataclass decorator writes no __repr__ where it finds one.
        if "__repr__" not in cls.__dict__:
            cls.__repr__ = named_repr  # type: ignore[method-assign]

    def __post_init__(self) -> None:
        given: Any = self.timesteps
        try:
            steps = tuple(operator.index(t) for t in (given if hasattr(given, "__iter__") else (given,)))
        except TypeError:
            default = self.parameters().get("timesteps")
            example = default[:3] if isinstance(default, tuple) and default else (0, 50, 100)
            raise AttackError(f"timesteps must be integers, such as {example!r}; got {given!r}.") from None
        if not steps or list(steps) != sorted(set(steps)) or steps[0] < 0:
            raise AttackError(f"timesteps must be one or more different integers ≥ 0, increasing; got {given!r}.")
        object.__setattr__(self, "timesteps", steps)

    @classmethod
    def parameters(cls) -> dict[str, Any]:
        """The attack's parameters and their defaults."""
        return {field.name: field.default for field in fields(cls) if field.init}

    # What an attack states.

    @property
    @abstractmethod
    def queries_per_image(self) -> int:
        """Denoiser forward passes that one image costs, over all timesteps."""

    @abstractmethod
    def statistic(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        """Return the paper's statistic, lower for members.

        Args:
            model: the model, as an attack queries it; `QueriedModel.epsilons` lets several timesteps share a forward pass, and
                `QueriedModel.variant` gives the same images changed in pixel space.
            x0: ``[N, C, H, W]`` in model space.
            cond: the batch's condition, or None.
            noise: draws that belong to these samples, ``noise(timestep, draw)`` ``[N, C, H, W]``.

        Returns:
            ``[N, T]``, one column per entry of `columns`.
        """

    # What an attack may state beside.

    def prepare(self, model: QueriedModel, seed: int) -> Any:
        """Do work that is done once, whatever the number of images, such as generating samples; the result is ``model.prepared``."""
        return None

    @property
    def setup_queries(self) -> int:
        """Forward passes that `prepare` costs."""
        return 0

    def scaled(self, statistic: torch.Tensor) -> torch.Tensor:
        """Return the statistic, or its logarithm if it is positive by definition; `hardness` and conditional attacks work on it."""
        return statistic.log() if self.log_scale else statistic

    def hardness(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        """Return how hard an image is, ``[N, T, F]``, from the queries of `statistic`; for conditional attacks."""
        return self.scaled(self.statistic(model, x0, cond, noise))[..., None]

    def hardness_for_base(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        """Return how hard an image is to the base of the audited model, ``[N, T, F]``, from the queries of `statistic`.

        Args:
            model: queries the base.
            x0, cond: as the base takes them.
            noise: the draws that the audited model saw.
        """
        return self.hardness(model, x0, cond, noise)

    @property
    def uses_base(self) -> bool:
        """Whether images are compared with what the base of the model says of them; see `mia_hub.models.bases`."""
        return False

    @property
    def base_queries_per_image(self) -> int:
        """How many of `queries_per_image` are queries of the base."""
        return 0

    @property
    def queries_per_reference_model(self) -> int:
        """Forward passes of each reference model that one image costs; `queries_per_image` counts none of them."""
        return 0

    @property
    def uses_reference_models(self) -> bool:
        """Whether images are compared with what reference models say of them; see `mia_hub.models.reference_models`."""
        return self.queries_per_reference_model > 0

    def queries_on(self, model: DiffusionModel) -> int:
        """Return the forward passes that one image costs on a model, with those of its reference models."""
        return self.queries_per_image + self.queries_per_reference_model * len(reference_models(model))

    @property
    def learns(self) -> bool:
        """Whether it is fitted on known images, or chooses parameters on them."""
        return self.needs_training or type(self).choose is not Attack.choose

    def has_learned(self, chosen: Mapping[str, Any]) -> bool:
        """Whether scores depend on known images: by a fit, or by the parameters that were chosen; ``chosen``: those of the scores."""
        return self.needs_training or bool(chosen)

    def conclude(self, observed: npt.NDArray[Any], ids: Sequence[str], is_member: npt.NDArray[Any], seed: int) -> npt.NDArray[np.float64]:
        """Return scores ``[N, T]`` from the statistics ``[N, …]`` of all images; **higher = more likely a member**."""
        return -observed

    @property
    def columns(self) -> tuple[int, ...]:
        """The timesteps that label the scores; an attack of one score is labelled by its `default_timestep`."""
        return (self.default_timestep,) if self.one_score else self.timesteps

    @property
    def default_timestep(self) -> int:
        """The timestep used if no member is known by which to choose one: the one nearest to the middle of the grid."""
        middle = (self.timesteps[0] + self.timesteps[-1]) / 2
        return min(self.timesteps, key=lambda t: abs(t - middle))

    def at(self, timestep: int) -> Attack:
        """Return the attack that gives one column of this one's scores, and costs the queries of that column alone."""
        return self if self.one_score else replace(self, timesteps=(timestep,))

    def what_fits(self, model: DiffusionModel) -> str:
        """Return a clause that names the timesteps that this attack can use with a model: "choose timesteps up to 999"."""
        return f"choose timesteps up to {self._last_timestep(model)}"

    def _last_timestep(self, model: DiffusionModel) -> int:
        by_noise = model.info.prediction_type in ("epsilon", "sample") and not self.needs_signal
        return model.info.num_train_timesteps - 1 if by_noise or not self.queries_per_image else model.schedule.last_with_signal

    def check(self, model: DiffusionModel, captions: Sequence[Any] | None = None) -> None:
        """Refuse a model or captions that the attack can't work with, before compute is spent.

        Args:
            model: the model.
            captions: as given to `score`, one per image.

        Raises:
            AttackError: if the timesteps lie outside the model's schedule, captions are missing, or the model can't give what the attack
                needs.
        """
        last, signal = model.info.num_train_timesteps - 1, model.schedule.last_with_signal
        if self.timesteps[-1] > last:
            raise AttackError(
                f"Timestep {self.timesteps[-1]} lies outside the schedule of {model.info.id}, which runs from 0 to {last}: "
                f"{self.what_fits(model)}."
            )
        if self.needs_caption and model.info.conditioning != "text":
            raise AttackError(
                f"The attack {self.name!r} compares captions, and {model.info.id} isn't conditioned on text. Choose another attack."
            )
        if self.needs_caption and captions is None:
            raise AttackError(f"The attack {self.name!r} needs the images' captions; give captions=[…], one per image.")
        if self.queries_per_image and model.info.prediction_type not in ("epsilon", "sample") and self.timesteps[-1] > signal:
            raise AttackError(
                f"At timestep {self.timesteps[-1]} the input of {model.info.id} holds nothing of the image, so its prediction there is "
                f"uninformative; {self.what_fits(model)}."
            )
        if self.needs_gradients and model.network is None:
            raise AttackError(
                f"The attack {self.name!r} differentiates by the model's weights, and {model.info.id} is a plain function without any. "
                "Wrap the torch.nn.Module itself, or choose another attack."
            )

    def check_labels(self, is_member: npt.NDArray[Any]) -> None:
        """Refuse labels ``[N]`` (1, 0, or -1 unknown) that the attack can't be fitted on; most attacks are not fitted.

        Raises:
            AttackError: with the numbers of members and non-members that are needed.
        """
        return

    def choose(
        self,
        model: DiffusionModel,
        images: Any,
        is_member: npt.NDArray[Any],
        *,
        captions: Sequence[Any] | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        progress: bool = True,
        resume: str | Path | None = None,
    ) -> tuple[dict[str, Any], int]:
        """Choose parameters on the calibration part; most attacks choose none.

        Args:
            model, images, is_member, captions, batch_size, seed, progress, resume: see `score`.

        Returns:
            The chosen parameters, JSON-ready, and the forward passes that the choice took.
        """
        return {}, 0

    def with_chosen(self, chosen: dict[str, Any]) -> Attack:
        """Return the attack with the parameters that `choose` returned."""
        return replace(self, **chosen) if chosen else self

    # Shared by all attacks.

    @final
    def score(
        self,
        model: DiffusionModel,
        images: Any,
        *,
        captions: Sequence[str] | Sequence[int] | str | int | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        is_member: npt.ArrayLike | None = None,
        progress: bool = True,
        on_batch: Callable[[int, int], None] | None = None,
        resume: str | Path | None = None,
    ) -> ScoreTable:
        """Score images; higher = more likely a member of the model's training set.

        A score depends on the image, the model, the attack and the seed alone: batch size, order and process count never change it (in
        float32: to 1e-5 relative).

        Args:
            model: from `mia_hub.load_model` or `mia_hub.wrap_denoiser`.
            images: anything that `mia_hub.images.sources.as_images` takes; decoded batch by batch, so a large split needs no more memory.
            captions: of a model conditioned on text, one per image, or one for all; of one conditioned on classes, class indices. By
                default empty ones.
            batch_size: denoiser rows per forward pass; by default as many as fit. Halved automatically when memory runs out.
            seed: of the noise draws, for attacks that draw noise.
            is_member: 1, 0 or -1 (unknown) per image, written into the table.
            progress: shows a progress bar for anything over a second.
            on_batch: called with (images done, images in all) after each batch; with those of this process, if several share the images.
            resume: a folder for finished batches (see `mia_hub.attacks.finished_batches`). The same call with the same folder resumes
                after the last of them, whenever it was killed, and gives the same table. The caller removes the folder.

        Returns:
            A ScoreTable with float64 scores ``[N, T]``.

        Raises:
            AttackError: see `check`.
            ImageError: for an image that can't be read.
            ModelError: if the model returns NaN or infinity, or memory runs out even for one row.
            MiaHubError: if ``resume`` can't be written to.
        """
        return Scoring.checked(
            self, model, images, captions, is_member, batch_size=batch_size, seed=seed, progress=progress, on_batch=on_batch, resume=resume
        ).table()

    @final
    def observe(
        self,
        model: DiffusionModel,
        images: Any,
        *,
        captions: Sequence[str] | Sequence[int] | str | int | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        is_member: npt.ArrayLike | None = None,
        progress: bool = True,
        on_batch: Callable[[int, int], None] | None = None,
        resume: str | Path | None = None,
    ) -> Observations:
        """Query the model for the statistics that scores are concluded from: the first half of `score`, with its arguments."""
        return Scoring.checked(
            self, model, images, captions, is_member, batch_size=batch_size, seed=seed, progress=progress, on_batch=on_batch, resume=resume
        ).observations()
