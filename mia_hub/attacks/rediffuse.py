"""ReDiffuse: the distance of an image from the average of its variations (arXiv 2405.20771)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch

from mia_hub.attacks.base import Attack
from mia_hub.attacks.naming import named_repr
from mia_hub.attacks.querying import QueriedModel
from mia_hub.attacks.sima import p_norm
from mia_hub.errors import AttackError, integer_at_least
from mia_hub.models.noise import SampleNoise
from mia_hub.models.precision import dtype_name
from mia_hub.models.protocol import DiffusionModel

# Maps pixels [N, C, H, W] in [0, 1], and the index of the draw, to variations of the same shape and range.
Variation = Callable[[torch.Tensor, int], torch.Tensor]

# How far outside [0, 1] a variation may lie: enough for resampling and rounding; far less than [-1, 1] or 0 … 255.
RANGE_TOLERANCE = 0.05


@dataclass(frozen=True, kw_only=True)
class ReDiffuse(Attack):
    """ReDiffuse: ‖x0 - (1/n) Σ_k x̂0^(k)‖₂, the distance from an image to the average of n variations, small for members.

    It needs a function that maps an image to variations of it. By default the model itself makes them: x0 is noised to t, then denoised
    by deterministic DDIM steps of k: t, t-k, t-2k, … as long as that is above 0, and from the last of them straight to the clean image
    that ε implies (Song et al. 2021, Eq. 9). So t = 200 and k = 100 take two queries per variation (ε at 200 and at 100), and if k
    doesn't divide t the last stride is shorter: t = 250 passes 250, 150 and 50.

    The distance is taken in model space, of pixels in [-1, 1] or of latents; variations are not clipped.

    Attributes:
        timesteps: t, how far the image is noised; 200 by default. One score each.
        k: stride of the way back; 100 by default.
        variations: n; 10 by default.
        variation: an image-variation service in place of the model's own: ``variation(pixels, draw)`` maps images ``[N, C, H, W]`` in
            [0, 1], at the model's image size, and the draw's index, 0 … n-1, to variations of the same shape and range. It should
            depend on each image and the draw alone, since scores can't be steadier than it is. The model then only encodes the
            variations, at no query, and the timestep is just a label. The attack's ``repr`` shows the function's name.
    """

    timesteps: tuple[int, ...] = (200,)
    k: int = 100
    variations: int = 10
    variation: Variation | None = None

    name: ClassVar[str] = "rediffuse"
    paper: ClassVar[str] = "arXiv 2405.20771"
    access: ClassVar[str] = "black"
    needs_signal: ClassVar[bool] = True
    local_parameters: ClassVar[tuple[str, ...]] = ("variation",)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "k", integer_at_least("k, the stride of the DDIM steps,", self.k, 1, AttackError))
        object.__setattr__(self, "variations", integer_at_least("variations", self.variations, 1, AttackError))
        if self.variation is not None and not callable(self.variation):
            raise AttackError(
                f"variation must be a function of (pixels, draw), or None for the model's own variations; got {self.variation!r}."
            )
        if self.variation is not None and len(self.timesteps) > 1:
            raise AttackError(
                f"variation=… makes one score, which depends on no timestep; give one timestep as its label, not {self.timesteps}."
            )

    def __repr__(self) -> str:
        return named_repr(self)

    def chain(self, t: int) -> list[int]:
        """Return the timesteps of the queries on the way back from t, decreasing."""
        return list(range(t, 0, -self.k)) or [t]

    @property
    def queries_per_image(self) -> int:
        return 0 if self.variation is not None else self.variations * sum(len(self.chain(t)) for t in self.timesteps)

    def check(self, model: DiffusionModel, captions: Sequence[Any] | None = None) -> None:
        super().check(model, captions)
        # From pure noise no clean image can be predicted.
        last = model.schedule.last_with_signal
        if self.variation is None and self.timesteps[-1] > last:
            raise AttackError(
                f"The attack {self.name!r} denoises x_t to a clean image, and at t = {self.timesteps[-1]} x_t holds nothing of it in "
                f"{model.info.id}, which has signal from 0 to {last}: choose timesteps up to {last}."
            )

    def statistic(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        variations = self._model_variations(model, x0, cond, noise) if self.variation is None else self._service_variations(model)
        means = torch.unflatten(variations, 0, (len(self.timesteps), self.variations)).mean(dim=1)
        return torch.stack([p_norm(x0 - mean, 2) for mean in means], dim=1)

    def _service_variations(self, model: QueriedModel) -> torch.Tensor:
        """Variations by the service, ``[n, N, C, H, W]`` in model space."""

        def change(pixels: torch.Tensor, draw: int) -> torch.Tensor:
            assert self.variation is not None
            answer: Any = self.variation(pixels, draw)
            if not isinstance(answer, torch.Tensor) or answer.shape != pixels.shape:
                got = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
                raise AttackError(f"variation must return a tensor of its input's shape, {tuple(pixels.shape)}; got {got}.")
            if not answer.is_floating_point() or answer.min() < -RANGE_TOLERANCE or answer.max() > 1 + RANGE_TOLERANCE:
                got = f"{answer.min():.4g} to {answer.max():.4g} in {dtype_name(answer.dtype)}"
                raise AttackError(f"variation must return floating-point pixels in [0, 1]; got {got}. Rescale them to [0, 1].")
            return answer.to(pixels)

        return torch.stack([model.variant(partial(change, draw=draw)) for draw in range(self.variations)])

    def _model_variations(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        """Variations by the model, ``[T·n, N, C, H, W]``; all are denoised in step, so that they share forward passes."""
        chains = [self.chain(t) for t in self.timesteps for _ in range(self.variations)]
        x = [model.schedule.add_noise(x0, noise(chain[0], i % self.variations), chain[0]) for i, chain in enumerate(chains)]
        for step in range(max(map(len, chains))):
            unfinished = [i for i, chain in enumerate(chains) if step < len(chain)]
            inputs = [x[i] for i in unfinished]
            epsilons = model.epsilons([chains[i][step] for i in unfinished], lambda query, _: inputs[query], cond)  # noqa: B023
            for i, epsilon in zip(unfinished, epsilons):
                t, *following = chains[i][step : step + 2]
                x[i] = model.schedule.ddim_step(x[i], epsilon, t, *following) if following else model.schedule.predict_x0(x[i], epsilon, t)
        return torch.stack(x)
