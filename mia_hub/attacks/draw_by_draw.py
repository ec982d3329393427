"""SimA-MC looked at after some of its draws, so that a image whose verdict stands costs no more of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from mia_hub.attacks.base import Attack
from mia_hub.attacks.sima import SimAMC, p_norm
from mia_hub.errors import AttackError
from mia_hub.models.condition_rows import condition_rows
from mia_hub.models.noise import SampleNoise

# From scores so far ``[n, looks so far]`` to a mask ``[n]`` of the images that need no further draws.
Stop = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class DrawByDraw(Attack):
    """What SimA-MC's score is after each of some numbers of draws, at one timestep; for `Attack.observe`.

    What is observed of N images is ``[N, K + 1]``: minus the logarithm of SimA-MC's statistic after each look, higher = more likely a
    member, the last one repeated where a image was stopped; and the draws that it took.

    Attributes:
        attack: the SimAMC whose draws, norm and form are used.
        looks: after how many draws, rising; the last is `attack.draws`.
        stop: which images need no further draws; None gives all of them all. Of a rule, which has no name that it could be known by
            again, no finished batches are kept (``resume`` has no effect).
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
            raise AttackError(f"Draws are counted at one timestep; got {self.timesteps!r}.")
        looks = self.looks
        if not looks or looks[0] < 1 or list(looks) != sorted(set(looks)) or looks[-1] != self.attack.draws:
            raise AttackError(f"looks must be numbers of draws, rising up to the last, {self.attack.draws}; got {looks!r}.")
        if self.attack.antithetic and any(look % 2 for look in looks):
            raise AttackError(f"looks must be even where draws come in pairs; got {looks!r}.")

    @property
    def queries_per_image(self) -> int:
        """At most."""
        return self.looks[-1]

    def statistic(self, model, x0, cond, noise) -> torch.Tensor:
        (t,) = self.timesteps
        left = torch.arange(len(x0), device=x0.device)
        scores = np.zeros((len(x0), len(self.looks)))
        draws = np.zeros((len(x0), 1))
        total: Any = 0
        for look, upto in enumerate(self.looks):
            first = self.looks[look - 1] if look else 0
            for added in self._drawn(model, x0[left], condition_rows(cond, left), _noise_of(noise, left), t, range(first, upto)):
                total = total + added
            rows = left.cpu().numpy()
            mean = total / upto
            norms = p_norm(mean, self.attack.p) if self.attack.form == "vector-mean" else mean
            scores[rows, look:] = -norms.log().double().cpu().numpy()[:, None]
            draws[rows] = upto
            if self.stop is not None and look + 1 < len(self.looks):
                going = torch.from_numpy(~self.stop(scores[rows, : look + 1])).to(left.device)
                left, total = left[going], total[going]
                if not len(left):
                    break
        return torch.from_numpy(np.hstack([scores, draws]))

    def _drawn(self, model, x0, cond, noise: SampleNoise, t: int, draws: range) -> Iterator[torch.Tensor]:
        """What each of some draws adds: the predicted noise ``[n, …]``, or its norm ``[n]``."""

        def x(query: int, t: int) -> torch.Tensor:
            return self.attack.noised(model, x0, noise, t, draws[query])

        found = model.epsilons([t] * len(draws), x, cond)
        return found if self.attack.form == "vector-mean" else (p_norm(epsilon, self.attack.p) for epsilon in found)


def _noise_of(noise: SampleNoise, rows: torch.Tensor) -> SampleNoise:
    return SampleNoise([noise.ids[row] for row in rows.tolist()], noise.shape, noise.seed, noise.device, noise.dtype)
