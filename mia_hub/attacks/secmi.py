"""SecMI and SecMI-NNs: the error of a step of DDIM inversion and back (arXiv 2302.01316)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from mia_hub.attacks.base import Attack
from mia_hub.attacks.map_attack import MapAttack
from mia_hub.attacks.querying import QueriedModel
from mia_hub.attacks.sima import p_norm
from mia_hub.attacks.vectors import Draws, VectorAttack
from mia_hub.errors import AttackError, integer_at_least
from mia_hub.models.noise import SampleNoise
from mia_hub.models.protocol import DiffusionModel
from mia_hub.models.schedule import NoiseSchedule

# Almost all schedules have as many; which one it is isn't known before the model is.
USUAL_TIMESTEPS = 1000


@dataclass(frozen=True, kw_only=True)
class _Inversion(Attack):
    """The common part of both forms: x̃_t from x0 by deterministic DDIM steps of k, and x̂_t after one further step and one back.

    The chain x̃_0 = x0, x̃_k, x̃_2k, … is shared by all timesteps. So is the way back: it starts from x̃_(t+k), the chain's next point, and
    needs ε(x̃_(t+k), t+k), which the chain's next step needs as well. So a grid costs t_max/k + 2 queries, however dense. (The authors'
    code computes both twice: 2 queries per point of a contiguous grid.)

    Attributes:
        k: step of the DDIM inversion.
    """

    k: int = 10

    paper: ClassVar[str] = "arXiv 2302.01316"
    access: ClassVar[str] = "gray"
    needs_signal: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "k", integer_at_least("k, the step of the DDIM inversion,", self.k, 1, AttackError))
        missed = [t for t in self.timesteps if t % self.k]
        if missed:
            raise AttackError(
                f"DDIM inversion in steps of k={self.k} reaches only multiples of {self.k}, and not "
                f"{', '.join(map(str, missed))}. {self._nearest(missed)}"
            )

    def _nearest(self, missed: Sequence[int]) -> str:
        """A sentence that names multiples of k near some timesteps, from which a usual schedule has room for a step of k."""
        last = _last_start(USUAL_TIMESTEPS - 1, self.k)
        if last is None:
            return f"On a schedule of {USUAL_TIMESTEPS} timesteps, {self._what_fits(USUAL_TIMESTEPS - 1)}."
        below = {min(t - t % self.k, last) for t in missed}
        nearest = sorted(below | {min(t + self.k, last) for t in below})
        verb = "are" if len(nearest) > 1 else "is"
        return f"The nearest {verb} {', '.join(map(str, nearest))}, on a schedule of {USUAL_TIMESTEPS} timesteps."

    @property
    def queries_per_image(self) -> int:
        return self.timesteps[-1] // self.k + 2

    def check(self, model: DiffusionModel, captions: Sequence[Any] | None = None) -> None:
        super().check(model, captions)
        # From pure noise no clean image can be predicted, so that no step is possible.
        last = model.schedule.last_with_signal
        if self.timesteps[-1] + self.k > last:
            raise AttackError(
                f"The attack {self.name!r} compares x_t with a step to t+k and back, and {self.timesteps[-1]}+{self.k} lies outside the "
                f"schedule of {model.info.id}, which has signal from 0 to {last}: {self.what_fits(model)}."
            )

    def what_fits(self, model: DiffusionModel) -> str:
        return self._what_fits(model.schedule.last_with_signal)

    def _what_fits(self, last: int) -> str:
        """A clause that names the timesteps, or the steps k, that a schedule with signal up to ``last`` has room for."""
        if last < 1:
            return "choose another attack"
        room = last - self.timesteps[-1]
        smaller = next((k for k in range(min(self.k - 1, room), 0, -1) if not any(t % k for t in self.timesteps)), None)
        start = _last_start(last, self.k)
        choices = [] if start is None else [f"timesteps up to {start}"]
        choices += [] if smaller is None else [f"k={smaller}"]
        if not choices:
            k = max(1, last // 10)
            choices = [f"k={k} and timesteps up to {_last_start(last, k)}"]
        return f"choose {', or '.join(choices)}"

    def differences(self, model: QueriedModel, x0: torch.Tensor, cond: Any) -> Iterator[torch.Tensor]:
        """Yield x̂_t - x̃_t ``[N, …]`` at each of the timesteps, in order."""
        x, ahead = x0, model.predict_noise(x0, 0, cond)
        for t in range(0, self.timesteps[-1] + 1, self.k):
            epsilon, s = ahead, t + self.k
            x = model.schedule.ddim_step(x, epsilon, t, s)
            ahead = model.predict_noise(x, s, cond)
            if t in self.timesteps:
                yield _return_factor(model.schedule, t, s) * (ahead - epsilon)


def _last_start(last: int, k: int) -> int | None:
    """The last multiple of k from which a step of k ends at ``last`` or before; None without any."""
    return None if k > last else (last - k) // k * k


def _return_factor(schedule: NoiseSchedule, t: int, s: int) -> float:
    """c in x̂_t - x̃_t = c·(ε_s - ε_t), for a DDIM step from t to s by ε_t, and back by ε_s.

    With a, b for signal and noise: x̃_s = a_s·(x̃_t - b_t·ε_t)/a_t + b_s·ε_t and x̂_t = a_t·(x̃_s - b_s·ε_s)/a_s + b_t·ε_s, whose difference
    x̂_t - x̃_t is (b_t - a_t·b_s/a_s)·(ε_s - ε_t). Subtracting two images that are almost alike would cost float32 half of its digits.
    """
    a, b = schedule.signals, schedule.noises
    return float(b[t] - a[t] * b[s] / a[s])


@dataclass(frozen=True, kw_only=True)
class SecMI(_Inversion, VectorAttack):
    """SecMI: the t-error ‖x̂_t - x̃_t‖₂² after one DDIM step from x̃_t to t+k and back, small for members (SecMI_stat).

    A DDIM step from t to s is √ᾱ_s·f(x, t) + √(1-ᾱ_s)·ε(x, t) with f(x, t) = (x - √(1-ᾱ_t)·ε(x, t))/√ᾱ_t.

    Attributes:
        timesteps: the t at which x̃_t and x̂_t are compared, multiples of k. By default the authors' grid for Stable Diffusion,
            0, 10, …, 190: their pixel setting compares at its middle, 90 (their "t_sec = 100": 90 → 100 → 90), and no other
            point costs a query that 190 doesn't.
        k: step of the DDIM inversion.
    """

    timesteps: tuple[int, ...] = tuple(range(0, 191, 10))

    name: ClassVar[str] = "secmi"

    def length(self, vector: torch.Tensor) -> torch.Tensor:
        return p_norm(vector, 2) ** 2

    def vectors(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: Draws) -> Iterator[torch.Tensor]:
        return self.differences(model, x0, cond)


@dataclass(frozen=True, kw_only=True)
class SecMINNs(_Inversion, MapAttack):
    """SecMI-NNs: the log-odds of membership that a small ResNet, fitted on known images, gives the map |x̂_t - x̃_t|.

    Attributes:
        timesteps: the one t of the maps, a multiple of k; 90 in the paper's pixel setting.
        k: step of the DDIM inversion.
        variant: the network and its fit; see `mia_hub.attacks.map_attack.MapAttack`.
    """

    timesteps: tuple[int, ...] = (90,)

    name: ClassVar[str] = "secmi-nns"

    def features(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        (difference,) = self.differences(model, x0, cond)
        return difference.abs().float()
