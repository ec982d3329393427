"""Attacks that fit a network on maps of known images, and so take what members look like from the maps themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy.typing as npt

from mia_hub.attacks.authors import HasAuthorsVariant
from mia_hub.attacks.learning import Scorer, TrainedAttack
from mia_hub.attacks.map_network import AUTHORS_RECIPE, OUR_RECIPE, fit_map_network
from mia_hub.errors import AttackError


@dataclass(frozen=True, kw_only=True)
class MapAttack(HasAuthorsVariant, TrainedAttack):
    """An attack whose features are maps ``[N, C, H, W]`` at one timestep, and which fits a residual network on them.

    The papers train on a fifth of the images; here, as for every attack that learns, the network is fitted on the calibration part, and no
    image is scored by a network that was fitted on it.

    Attributes:
        timesteps: the one t of the maps.
        variant: "ours" (default): a small network that a CPU fits within a minute, and whose scores hardly depend on the batch size that
            the maps were computed at; "authors": ResNet-18 fitted by stochastic gradient descent. See `mia_hub.attacks.map_network`.
    """

    ordered: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.timesteps) != 1:
            raise AttackError(
                f"The attack {self.name!r} reads the maps of one timestep, such as timesteps={self.parameters()['timesteps']}; got "
                f"{self.timesteps!r}. To compare several, run it once for each."
            )

    def learn(self, features: npt.NDArray[Any], is_member: npt.NDArray[Any], seed: int) -> Scorer:
        return fit_map_network(features, is_member, seed, AUTHORS_RECIPE if self.by_authors else OUR_RECIPE)
