"""The base class of detectors. A subclass states its parameters, its costs and its formula; `mia_hub.prompts.scoring` does the rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch

from mia_hub.attacks.naming import named_repr
from mia_hub.errors import PromptError, integer_at_least
from mia_hub.models.protocol import DiffusionModel
from mia_hub.prompts.batch import PromptBatch


@dataclass(frozen=True, kw_only=True)
class PromptDetector(ABC):
    """A detector of memorised prompts. Its fields are its parameters, so its ``repr`` is its identity.

    **A score is higher when a prompt is more likely memorised.** It is the mean of `statistic` over draws of x_T ~ N(0, I).

    Attributes:
        draws: number of draws of x_T for each prompt; the generations of one prompt in the papers, which take 1 to 32.
        timestep: at which the model is queried; None for the last one at which its prediction says anything of the image, where
            sampling begins.
        name: the detector's registered name.
        paper: where it is defined.
        queries_per_draw: denoiser forward passes that one draw of one prompt costs.
    """

    draws: int = 4
    timestep: int | None = None

    name: ClassVar[str]
    paper: ClassVar[str]
    queries_per_draw: ClassVar[int]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # The dataclass decorator writes no __repr__ where it finds one.
        if "__repr__" not in cls.__dict__:
            cls.__repr__ = named_repr  # type: ignore[method-assign]

    def __post_init__(self) -> None:
        object.__setattr__(self, "draws", integer_at_least("draws", self.draws, 1, PromptError))
        if self.timestep is not None:
            object.__setattr__(self, "timestep", integer_at_least("timestep", self.timestep, 0, PromptError))

    @classmethod
    def parameters(cls) -> dict[str, Any]:
        """The detector's parameters and their defaults."""
        return {field.name: field.default for field in fields(cls) if field.init}

    @property
    def queries_per_prompt(self) -> int:
        """Denoiser forward passes that one prompt costs."""
        return self.draws * self.queries_per_draw

    @abstractmethod
    def statistic(self, batch: PromptBatch, x: torch.Tensor) -> torch.Tensor:
        """Return the paper's statistic ``[N]`` at one draw, higher for memorised prompts.

        Args:
            batch: N prompts, with which the model is queried.
            x: one draw of x_T for each of them, ``[N, C, H, W]`` in model space.
        """

    def start(self, model: DiffusionModel) -> int:
        """Return the timestep at which the model is queried.

        At pure noise, an ε that is computed from a predicted velocity is the input itself, whatever the prompt.
        """
        return self._last_timestep(model) if self.timestep is None else self.timestep

    @staticmethod
    def _last_timestep(model: DiffusionModel) -> int:
        by_noise = model.info.prediction_type in ("epsilon", "sample")
        return model.info.num_train_timesteps - 1 if by_noise else model.schedule.last_with_signal

    def check(self, model: DiffusionModel) -> None:
        """Refuse a model that the detector can't work with, before compute is spent.

        Raises:
            PromptError: if the model takes no prompts, has no prediction without one, or has no such timestep.
        """
        info = model.info
        if info.conditioning != "text":
            raise PromptError(
                f"{info.id} takes no prompts: it is conditioned on {'classes' if info.conditioning == 'class' else 'nothing'}. Name a "
                "text-to-image model."
            )
        if "guidance" in info.settings:
            raise PromptError(
                f"{info.id} is guidance-distilled: it was trained to take its guidance as an input, and has no prediction without a prompt "
                "to compare with. Name the model that it was distilled from, or another text-to-image model."
            )
        self._check_timestep("timestep", self.start(model), model)

    def _check_timestep(self, what: str, timestep: int, model: DiffusionModel) -> None:
        last = self._last_timestep(model)
        if timestep > last:
            raise PromptError(
                f"{what} is {timestep}, and {model.info.id} can be queried at timesteps from 0 to {last}; choose one of these."
            )
