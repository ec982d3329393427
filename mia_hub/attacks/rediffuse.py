"""ReDiffuse: how far the average variation of a image lies from it (arXiv 2405.20771)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch

from mia_hub.attacks.base import Attack
from mia_hub.attacks.naming import named_repr
from mia_hub.attacks.sima import p_norm
from mia_hub.errors import AttackError, whole_number
from mia_hub.models.precision import dtype_name

# Pixels [N, C, H, W] in [0, 1], and the index of the draw, to variations of the same shape and range.
Variation = Callable[[torch.Tensor, int], torch.Tensor]

# How far outside [0, 1] a variation may lie: what resampling and rounding add, and neither [-1, 1] nor 0 … 255.
BEYOND = 0.05


@dataclass(frozen=True, kw_only=True)
class ReDiffuse(Attack):
    """ReDiffuse: ‖x0 - (1/n) Σ_k x̂0^(k)‖₂, the distance from a image to the average of n variations, small for members.

    All it needs is something that maps a image to variations of it. By default the model itself does so: x0 is noised to t, then led
    back by deterministic DDIM steps of k: t, t-k, t-2k, … as long as that is above 0, and from the last of them straight to the clean
    image that ε implies (Song et al. 2021, Eq. 9). So t = 200 and k = 100 take two queries per variation (ε at 200 and at 100), and
    where k doesn't divide t the last stride is the shorter one: t = 250 passes 250, 150 and 50.

    The distance is taken in model space, of pixels in [-1, 1] or of latents; variations are not clipped.

    Attributes:
        timesteps: t, how far the image is noised; 200 by default. One score each.
        k: stride of the way back; 100 by default.
        variations: n; 10 by default.
        variation: an image-variation service in place of the model's own: ``variation(pixels, draw)`` maps images ``[N, C, H, W]`` in
            [0, 1], at the model's image size, and the draw's index, 0 … n-1, to variations of the same shape and range. It should
            depend on each image and the draw alone, since scores can't be steadier than it is. The model then only encodes what comes
            back, at no query, and the timestep is no more than a label. In the attack's ``repr`` it goes by its name.
    """

    timesteps: tuple[int, ...] = (200,)
    k: int = 100
    variations: int = 10
    variation: Variation | None = None

    name: ClassVar[str] = "rediffuse"
    paper: ClassVar[str] = "arXiv 2405.20771"
    access: ClassVar[str] = "black"
    local_parameters: ClassVar[tuple[str, ...]] = ("variation",)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "k", whole_number("k, the stride of the DDIM steps,", self.k, 1, AttackError))
        object.__setattr__(self, "variations", whole_number("variations", self.variations, 1, AttackError))
        if self.variation is not None and not callable(self.variation):
            raise AttackError(f"variation must be a function of (pixels, draw), or None for the model's own; got {self.variation!r}.")
        if self.variation is not None and len(self.timesteps) > 1:
            raise AttackError(f"variation=… makes one score, which no timestep has a part in; give one as its label, not {self.timesteps}.")

    def __repr__(self) -> str:
        return named_repr(self)

    def chain(self, t: int) -> list[int]:
        """The timesteps at which ε is asked for on the way back from t, decreasing."""
        return list(range(t, 0, -self.k)) or [t]

    @property
    def queries_per_image(self) -> int:
        return 0 if self.variation is not None else self.variations * sum(len(self.chain(t)) for t in self.timesteps)

    def check(self, model, captions=None) -> None:
        super().check(model, captions)
        # A schedule may end in pure noise, from which no clean image can be predicted.
        last = int((model.schedule.signals > 0).sum()) - 1
        if self.variation is None and self.timesteps[-1] > last:
            raise AttackError(
                f"The attack {self.name!r} leads x_t back to a clean image, and at t = {self.timesteps[-1]} nothing of it is left in "
                f"{model.info.id}, which has signal from 0 to {last}: choose timesteps up to {last}."
            )

    def statistic(self, model, x0, cond, noise) -> torch.Tensor:
        found = self._made(model, x0, cond, noise) if self.variation is None else self._asked(model)
        means = found.unflatten(0, (len(self.timesteps), self.variations)).mean(dim=1)
        return torch.stack([p_norm(x0 - mean, 2) for mean in means], dim=1)

    def _asked(self, model) -> torch.Tensor:
        """Variations by the service, ``[n, N, C, H, W]`` in model space."""

        def change(pixels: torch.Tensor, draw: int) -> torch.Tensor:
            answer = self.variation(pixels, draw)
            if not isinstance(answer, torch.Tensor) or answer.shape != pixels.shape:
                got = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
                raise AttackError(f"variation must return a tensor of shape {tuple(pixels.shape)}, as its input; got {got}.")
            if not answer.is_floating_point() or answer.min() < -BEYOND or answer.max() > 1 + BEYOND:
                got = f"{answer.min():.4g} to {answer.max():.4g} in {dtype_name(answer.dtype)}"
                raise AttackError(f"variation must return floating-point pixels in [0, 1]; got {got}. Rescale them to [0, 1].")
            return answer.to(pixels)

        return torch.stack([model.variant(lambda pixels, draw=draw: change(pixels, draw)) for draw in range(self.variations)])

    def _made(self, model, x0: torch.Tensor, cond, noise) -> torch.Tensor:
        """Variations by the model, ``[T·n, N, C, H, W]``; all of them walk in step, so that they share forward passes."""
        chains = [self.chain(t) for t in self.timesteps for _ in range(self.variations)]
        x = [model.schedule.add_noise(x0, noise(chain[0], i % self.variations), chain[0]) for i, chain in enumerate(chains)]
        for step in range(max(map(len, chains))):
            walking = [i for i, chain in enumerate(chains) if step < len(chain)]
            here = [x[i] for i in walking]
            epsilons = model.epsilons([chains[i][step] for i in walking], lambda query, _, here=here: here[query], cond)
            for i, epsilon in zip(walking, epsilons):
                t, *following = chains[i][step : step + 2]
                x[i] = model.schedule.ddim_step(x[i], epsilon, t, *following) if following else model.schedule.predict_x0(x[i], epsilon, t)
        return torch.stack(x)
