"""ReDiffuse: the distance of an image from the average of its variations (arXiv 2405.20771)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal, get_args

import torch

from mia_hub.attacks.authors import HasAuthorsVariant
from mia_hub.attacks.checks import check_choice
from mia_hub.attacks.map_attack import MapAttack
from mia_hub.attacks.naming import LATER
from mia_hub.attacks.querying import QueriedModel
from mia_hub.attacks.sima import p_norm
from mia_hub.attacks.similarity import WINDOW, grey, structural_similarity
from mia_hub.errors import AttackError, integer_at_least
from mia_hub.models.noise import SampleNoise
from mia_hub.models.precision import dtype_name
from mia_hub.models.protocol import DiffusionModel

# Maps pixels [N, C, H, W] in [0, 1], and the index of the draw, to variations of the same shape and range.
Variation = Callable[[torch.Tensor, int], torch.Tensor]
Decision = Literal["distance", "ssim"]

# How far outside [0, 1] a variation may lie: enough for resampling and rounding; far less than [-1, 1] or 0 … 255.
RANGE_TOLERANCE = 0.05


@dataclass(frozen=True, kw_only=True)
class _Variations(HasAuthorsVariant):
    """The common part of both forms: x0 and the average of n variations of it.

    It needs a function that maps an image to variations of it. By default the model itself makes them: x0 is noised to t, then denoised
    by deterministic DDIM steps of k: t, t-k, t-2k, … as long as that is above 0, and from the last of them straight to the clean image
    that ε implies (Song et al. 2021, Eq. 9). So t = 200 and k = 100 take two queries per variation (ε at 200 and at 100), and if k
    doesn't divide t the last stride is shorter: t = 250 passes 250, 150 and 50.

    Variations are in model space, of pixels in [-1, 1] or of latents, and are not clipped.

    Attributes:
        timesteps: t, how far the image is noised; 200 by default.
        k: stride of the way back; 100 by default.
        variations: n; 10 by default.
        variation: an image-variation service in place of the model's own: ``variation(pixels, draw)`` maps images ``[N, C, H, W]`` in
            [0, 1], at the model's image size, and the draw's index, 0 … n-1, to variations of the same shape and range. It should
            depend on each image and the draw alone, since scores can't be steadier than it is. The model then only encodes the
            variations, at no query, and the timestep is just a label. The attack's ``repr`` shows the function's name.
        variant: "ours" (default); "authors": the last step leads to timestep 0, whose noise level (ᾱ_0 = 0.9999 in the usual schedule)
            stays in the variation. It needs timesteps that k divides.
    """

    timesteps: tuple[int, ...] = (200,)
    k: int = 100
    variations: int = 10
    variation: Variation | None = None

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
        missed = [t for t in self.timesteps if t % self.k]
        if self.by_authors and missed:
            raise AttackError(
                f"The authors' variant of {self.name!r} ends at timestep 0, which strides of k={self.k} don't reach from "
                f"{', '.join(map(str, missed))}; set timesteps to multiples of k, or variant='ours'."
            )

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

    def means(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        """Return the average variation of each image in model space, ``[T, N, C, H, W]``."""
        variations = self._model_variations(model, x0, cond, noise) if self.variation is None else self._service_variations(model)
        return torch.unflatten(variations, 0, (len(self.timesteps), self.variations)).mean(dim=1)

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
                t, *following = chains[i][step : step + 2] + [0] * self.by_authors
                x[i] = (
                    model.schedule.ddim_step(x[i], epsilon, t, following[0]) if following else model.schedule.predict_x0(x[i], epsilon, t)
                )
        return torch.stack(x)


@dataclass(frozen=True, kw_only=True)
class ReDiffuse(_Variations):
    """ReDiffuse: ‖x0 - (1/n) Σ_k x̂0^(k)‖₂, the distance from an image to the average of n variations, small for members.

    Attributes:
        timesteps, k, variations, variation, variant: see `_Variations`; one score per timestep. By default t = 200, k = 100, n = 10.
        decision: "distance" (default), as above, in model space; or "ssim": 1 - SSIM of the two as grey images, as in the authors' code
            for Stable Diffusion, see `mia_hub.attacks.similarity`. `ReDiffuseNNs` is their decision by a ResNet.
    """

    decision: Decision = field(default="distance", metadata=LATER)

    name: ClassVar[str] = "rediffuse"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("decision", self.decision, get_args(Decision))
        # Equal images are at 1 - SSIM = 0.
        object.__setattr__(self, "log_scale", self.decision == "distance")

    def check(self, model: DiffusionModel, captions: Sequence[Any] | None = None) -> None:
        super().check(model, captions)
        _, height, width = model.info.picture_shape
        if self.decision == "ssim" and min(height, width) < WINDOW:
            raise AttackError(
                f"decision='ssim' compares windows of {WINDOW}x{WINDOW} pixels, and the images of {model.info.id} have {height}x{width}; "
                "set decision='distance'."
            )

    def statistic(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        means = self.means(model, x0, cond, noise)
        if self.decision == "distance":
            return torch.stack([p_norm(x0 - mean, 2) for mean in means], dim=1)
        own = grey(model.model.to_pixels(x0))
        return torch.stack([1 - structural_similarity(own, grey(model.model.to_pixels(mean))) for mean in means], dim=1)


@dataclass(frozen=True, kw_only=True)
class ReDiffuseNNs(_Variations, MapAttack):
    """ReDiffuse's decision by a network: the log-odds of membership that a small ResNet gives the map |x0 - (1/n) Σ_k x̂0^(k)|.

    Attributes:
        timesteps, k, variations, variation: see `_Variations`; one timestep.
        variant: of the last step, see `_Variations`, and of the network and its fit, see `mia_hub.attacks.map_attack.MapAttack`.
    """

    name: ClassVar[str] = "rediffuse-nns"

    def features(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        return (x0 - self.means(model, x0, cond, noise)[0]).abs().float()
