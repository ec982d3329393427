"""SimA-MC with looks at the score between its draws, so that an image whose verdict is reached costs no further draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from mia_hub.attacks.base import Attack
from mia_hub.attacks.querying import QueriedModel
from mia_hub.attacks.sima import SimAMC
from mia_hub.errors import AttackError
from mia_hub.models.condition_rows import condition_rows
from mia_hub.models.noise import SampleNoise

# Maps the scores so far ``[n, looks so far]`` to a mask ``[n]`` of the images that need no further draws.
Stop = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.bool_]]


@dataclass(frozen=True, kw_only=True)
class DrawByDraw(Attack):
    """SimA-MC's score after each of several numbers of draws, at one timestep; for `Attack.observe`.

    The observations of N images are ``[N, K + 1]``: minus the logarithm of SimA-MC's statistic after each of K looks, higher = more likely
    a member, the last one repeated after an image was stopped; and the number of draws that the image took.

    Attributes:
        timesteps: the one timestep.
        attack: the SimAMC whose draws, norm and form are used.
        looks: the numbers of draws after which the score is computed, increasing; the last is `attack.draws`.
        stop: the rule that says which images need no further draws; by default all images get all draws. A rule can't be identified, so
            with one ``resume`` has no effect.
    """

    timesteps: tuple[int, ...]
    attack: SimAMC
    looks: tuple[int, ...]
    stop: Stop | None = None

    name: ClassVar[str] = "sima-mc, draw by draw"
    paper: ClassVar[str] = SimAMC.paper
    access: ClassVar[str] = SimAMC.access

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.timesteps) != 1:
            raise AttackError(f"Draw by draw, SimA-MC takes one timestep; got {self.timesteps!r}.")
        looks = self.looks
        if not looks or looks[0] < 1 or list(looks) != sorted(set(looks)) or looks[-1] != self.attack.draws:
            raise AttackError(f"looks must be numbers of draws, increasing up to {self.attack.draws}; got {looks!r}.")
        if self.attack.antithetic and any(look % 2 for look in looks):
            raise AttackError(f"looks must be even, since antithetic draws come in pairs; got {looks!r}.")

    @property
    def queries_per_image(self) -> int:
        """The most that one image costs."""
        return self.looks[-1]

    def statistic(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        (t,) = self.timesteps
        active = torch.arange(len(x0), device=x0.device)
        scores = np.zeros((len(x0), len(self.looks)))
        draws = np.zeros((len(x0), 1))
        total: Any = 0
        for look, upto in enumerate(self.looks):
            first = self.looks[look - 1] if look else 0
            series = [(t, k) for k in range(first, upto)]
            for term in self.attack.terms(model, x0[active], condition_rows(cond, active), _noise_of(noise, active), series):
                total = total + term
            rows = active.cpu().numpy()
            scores[rows, look:] = -self.attack.concluded(total / upto).log().double().cpu().numpy()[:, None]
            draws[rows] = upto
            if self.stop is not None and look + 1 < len(self.looks):
                going = torch.from_numpy(~self.stop(scores[rows, : look + 1])).to(active.device)
                active, total = active[going], total[going]
                if not len(active):
                    break
        return torch.from_numpy(np.hstack([scores, draws]))


def _noise_of(noise: SampleNoise, rows: torch.Tensor) -> SampleNoise:
    return SampleNoise([noise.ids[row] for row in rows.tolist()], noise.shape, noise.seed, noise.device, noise.dtype)
