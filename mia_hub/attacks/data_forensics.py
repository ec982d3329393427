"""Data Forensics: the denoising trajectory of an image, at three levels of access (arXiv 2302.07801; Zhu, Chen, Grossklags, Fritz).

Its black-box level is in `mia_hub.attacks.nearest_generated`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch

from mia_hub.attacks.authors import HasAuthorsVariant
from mia_hub.attacks.base import Attack
from mia_hub.attacks.checks import check_choice
from mia_hub.attacks.nearest_generated import Space, check_steps, described
from mia_hub.attacks.querying import QueriedModel
from mia_hub.attacks.sima import p_norm
from mia_hub.errors import AttackError, integer_at_least
from mia_hub.models.noise import SampleNoise
from mia_hub.models.protocol import DiffusionModel
from mia_hub.models.sampling import ddim_timesteps, predicted_clean_images
from mia_hub.models.schedule import NoiseSchedule

# The middles of twenty equal parts of a schedule of 1,000 steps. Without t = 0, where ε is hardly predictable from x_t (on the demo model
# no better for members) and yet dominates the mean of a window.
WHOLE_SCHEDULE = tuple(range(25, 1000, 50))
# The part of it in which the signal outweighs the noise (ᾱ_t > ½) in the usual linear schedule.
MOSTLY_SIGNAL = tuple(range(25, 250, 50))

# Of the series [N, T] over a window of timesteps; "none" keeps the series itself.
AGGREGATES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "mean": lambda series: series.mean(dim=1, keepdim=True),
    "min": lambda series: series.amin(dim=1, keepdim=True),
    "max": lambda series: series.amax(dim=1, keepdim=True),
    "median": lambda series: series.quantile(0.5, dim=1, keepdim=True),
    "sum": lambda series: series.sum(dim=1, keepdim=True),
    "none": lambda series: series,
}


def mean_square(difference: torch.Tensor) -> torch.Tensor:
    """Return the mean square over all elements of each sample, ``[N]``."""
    return p_norm(difference, 2) ** 2 / difference[0].numel()


def vlb_weight(schedule: NoiseSchedule, t: int) -> float:
    """w_t, with KL(q(x_{t-1} | x_t, x0) ‖ p(x_{t-1} | x_t)) = w_t·‖e - ε(x_t, t)‖₂² nats, for t ≥ 1 and the posterior's own variance.

    ½(SNR(t-1)/SNR(t) - 1), with SNR = signal²/noise² (Kingma et al. 2021, arXiv 2107.00630, Eq. 14), which is β_t/(2α_t(1-ᾱ_{t-1})),
    Eq. 12 of Ho et al. 2020 (arXiv 2006.11239) for σ_t² = β̃_t.
    """
    snr = (schedule.signals[t - 1 : t + 1] / schedule.noises[t - 1 : t + 1]) ** 2
    return float(snr[0] / snr[1] - 1) / 2


def decoder_variance(schedule: NoiseSchedule) -> float:
    """Return the variance of p(x0 | x_1): that of the next step, β̃, since the posterior's own is 0 there (Ho et al. 2020)."""
    signal, noise = schedule.signals[:2], schedule.noises[:2]
    if len(schedule) > 1:
        between = noise[1] ** 2 - (signal[1] / signal[0]) ** 2 * noise[0] ** 2
        if between > 0:
            return float(between * noise[0] ** 2 / noise[1] ** 2)
    return float(noise[0] ** 2)


def decoder_bpd(x0: torch.Tensor, mean: torch.Tensor, variance: float, *, bins: bool) -> torch.Tensor:
    """Return -log₂ p(x0 | x_1) per dimension, ``[N]``, of a Gaussian decoder; computed in float64 on the CPU.

    Args:
        x0: ``[N, …]``.
        mean: of the decoder, as x0.
        variance: of the decoder.
        bins: for images, whose values of 8 bits are bins of width 2/255 in [-1, 1]: the mass of the bin, the outermost bins being
            open to the outside (Ho et al. 2020, Eq. 13). Without, for latents: the density, whose bits may be negative.
    """
    x0, mean = x0.cpu().double().flatten(1), mean.cpu().double().flatten(1)
    std = math.sqrt(variance)
    if not bins:
        nats = (x0 - mean) ** 2 / (2 * variance) + math.log(std) + math.log(2 * math.pi) / 2
        return nats.mean(dim=1) / math.log(2)
    # The mass of a bin equals that of its mirror image about the mean; in the lower tail the logarithm has all its digits.
    away = (x0 - mean).abs()
    upper, lower = (torch.special.log_ndtr((half - away) / std) for half in (1 / 255, -1 / 255))
    mass = upper + torch.log1p(-(lower - upper).exp())
    outermost = torch.special.log_ndtr((1 / 255 - (x0 - mean) * x0.sign()) / std)
    mass = torch.where(x0.abs() > 1 - 1 / 255, outermost, mass)
    return -mass.mean(dim=1) / math.log(2)


def tanh_decoder_bpd(x0: torch.Tensor, mean: torch.Tensor, variance: float) -> torch.Tensor:
    """Return `decoder_bpd` with bins as the authors' code has it, ``[N]``.

    The normal distribution function is approximated by ½(1 + tanh(√(2/π)(z + 0.044715 z³))) (Page 1977), and a bin's mass is at least
    1e-12.
    """
    x0, mean = x0.cpu().double().flatten(1), mean.cpu().double().flatten(1)
    z = torch.stack([x0 - mean - 1 / 255, x0 - mean + 1 / 255]) / math.sqrt(variance)
    below, upto = (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))) / 2
    mass = torch.where(x0 < -0.999, upto, torch.where(x0 > 0.999, 1 - below, upto - below))
    return -mass.clamp(min=1e-12).log2().mean(dim=1)


def prior_bpd(x0: torch.Tensor, schedule: NoiseSchedule) -> torch.Tensor:
    """Return KL(q(x_T | x0) ‖ N(0, I)) in bits per dimension, ``[N]``: what the schedule leaves of the image; needs no query."""
    signal, noise = float(schedule.signals[-1]), float(schedule.noises[-1])
    mean_of_squares = signal**2 * mean_square(x0)
    return (noise**2 + mean_of_squares - 1 - 2 * math.log(noise)) / (2 * math.log(2))


@dataclass(frozen=True, kw_only=True)
class Forensics(HasAuthorsVariant):
    """The common part of the three series: at each timestep x_t is drawn and ε queried, and the terms are aggregated.

    Attributes:
        timesteps: the window; by default 25, 75, …, 975, over all of a schedule of 1,000 steps.
        aggregate: "mean", "min", "max", "median" or "sum" over the window, or "none": a score per timestep.
        draws: the number of draws of e that each term is averaged over, one query each.
        variant: "ours" (default): ε is the model's; "authors": the predicted clean image is clipped to [-1, 1], and ε computed from it
            anew. For models of pixels alone.
    """

    timesteps: tuple[int, ...] = WHOLE_SCHEDULE
    aggregate: str = "mean"
    draws: int = 1

    paper: ClassVar[str] = "arXiv 2302.07801"
    aggregates: ClassVar[tuple[str, ...]] = tuple(AGGREGATES)
    # False if the series itself is the result.
    one_score: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("aggregate", self.aggregate, self.aggregates)
        object.__setattr__(self, "one_score", self.aggregate != "none")
        object.__setattr__(self, "needs_signal", self.needs_signal or self.by_authors)
        object.__setattr__(self, "draws", integer_at_least("draws", self.draws, 1, AttackError))

    @property
    def queries_per_image(self) -> int:
        return self.draws * len(self.timesteps)

    def check(self, model: DiffusionModel, captions: Sequence[Any] | None = None) -> None:
        super().check(model, captions)
        if self.by_authors and model.info.picture_shape != model.info.sample_shape:
            raise AttackError(
                f"The authors' variant of {self.name!r} clips the predicted clean image to [-1, 1], the range of pixels, and "
                f"{model.info.id} works on latents; set variant='ours'."
            )
        if self.needs_signal:
            self._check_signal(model)

    def clean(self, model: QueriedModel, x_t: torch.Tensor, epsilon: torch.Tensor, t: int) -> torch.Tensor:
        """Return the predicted clean image x̂0."""
        clean = model.schedule.predict_x0(x_t, epsilon, t)
        return clean.clamp(-1, 1) if self.by_authors else clean

    def error(self, model: QueriedModel, x_t: torch.Tensor, e: torch.Tensor, epsilon: torch.Tensor, t: int) -> torch.Tensor:
        """Return the error of the predicted noise, e - ε."""
        if self.by_authors:
            epsilon = model.schedule.to_epsilon(self.clean(model, x_t, epsilon, t), x_t, t, "sample")
        return e - epsilon

    @abstractmethod
    def term(
        self, model: QueriedModel, x0: torch.Tensor, x_t: torch.Tensor, e: torch.Tensor, epsilon: torch.Tensor, t: int
    ) -> torch.Tensor:
        """Return the term ``[N]`` of one timestep, from one draw e and the prediction ε(x_t, t)."""

    def statistic(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        # Draws whose prediction is pending: only those of one forward pass, however long the window.
        pending: deque[tuple[torch.Tensor, torch.Tensor]] = deque()

        def x(query: int, t: int) -> torch.Tensor:
            e = noise(t, query % self.draws)
            pending.append((model.schedule.add_noise(x0, e, t), e))
            return pending[-1][0]

        series = [t for t in self.timesteps for _ in range(self.draws)]
        terms = [self.term(model, x0, *pending.popleft(), epsilon, t) for t, epsilon in zip(series, model.epsilons(series, x, cond))]
        return self.aggregated(model, x0, torch.unflatten(torch.stack(terms, dim=1), 1, (-1, self.draws)).mean(dim=2))

    def aggregated(self, model: QueriedModel, x0: torch.Tensor, series: torch.Tensor) -> torch.Tensor:
        """Return the aggregate ``[N, 1]`` of the series ``[N, T]``, or the series itself for "none"."""
        return AGGREGATES[self.aggregate](series)

    def _check_signal(self, model: DiffusionModel) -> None:
        """Refuse timesteps at which x_t holds nothing of the image, so that ε is uninformative."""
        last = model.schedule.last_with_signal
        if self.timesteps[-1] > last:
            raise AttackError(
                f"At timestep {self.timesteps[-1]} the schedule of {model.info.id} leaves no signal (ᾱ = 0), so no clean image can be "
                f"predicted there, as {self.name!r} needs; {self.what_fits(model)}."
            )


@dataclass(frozen=True, kw_only=True)
class ForensicsVLB(Forensics):
    """vb_t, the terms of the variational bound in bits per dimension, small for members (white box).

    t ≥ 1: KL(q(x_{t-1} | x_t, x0) ‖ p(x_{t-1} | x_t)), exact for the model's ε and the posterior's variance; t = 0: -log₂ p(x0 | x_1), the
    discretised Gaussian of Ho et al. (arXiv 2006.11239, Eq. 13), or the Gaussian density in a latent space, which has no bins of 8 bits.

    The terms fall steeply (on the demo model: 1.6 bits at t = 0, 0.04 at 10, 0.0005 at 200), so the smallest timesteps of a window
    dominate its mean; the term at t = 0 depends on an image's texture more than on its membership.

    Attributes:
        timesteps: see `Forensics`.
        aggregate: see `Forensics`; or "total": the sum of all terms and of the prior term, the bound on -log₂ p(x0) per dimension
            (``total_bpd``); needs ``timesteps=range(T)``. The prior term (`prior_bpd`) depends on the image alone.
        draws: see `Forensics`.
        variant: see `Forensics`; in the authors' variant the term at t = 0 is `tanh_decoder_bpd`.
    """

    name: ClassVar[str] = "forensics-vlb"
    access: ClassVar[str] = "white"
    needs_signal: ClassVar[bool] = True
    aggregates: ClassVar[tuple[str, ...]] = (*AGGREGATES, "total")
    # Bits of a density may be negative.
    log_scale: ClassVar[bool] = False

    def check(self, model: DiffusionModel, captions: Sequence[Any] | None = None) -> None:
        if self.aggregate == "total":
            self._check_total(model)
        super().check(model, captions)

    def _check_total(self, model: DiffusionModel) -> None:
        steps, last = model.info.num_train_timesteps, model.schedule.last_with_signal
        complete = self.timesteps == tuple(range(steps))
        if complete and last == steps - 1:
            return
        problem = f"those after {last} leave no signal" if complete else f"{len(self.timesteps)} are given"
        whole = f"timesteps=range({steps}), or " if last == steps - 1 else ""
        window = "" if self.timesteps[-1] <= last else f" and timesteps up to {last}"
        raise AttackError(
            f"aggregate='total' sums the bound's terms at all {steps} timesteps of {model.info.id}, and {problem}: set {whole}"
            f"aggregate='sum'{window} for the sum over a window."
        )

    def term(
        self, model: QueriedModel, x0: torch.Tensor, x_t: torch.Tensor, e: torch.Tensor, epsilon: torch.Tensor, t: int
    ) -> torch.Tensor:
        if t > 0:
            return vlb_weight(model.schedule, t) * mean_square(self.error(model, x_t, e, epsilon, t)) / math.log(2)
        mean, variance = self.clean(model, x_t, epsilon, 0), decoder_variance(model.schedule)
        # A latent never has its image's shape.
        is_image = x0.shape == model.pixels.shape
        bits = tanh_decoder_bpd(x0, mean, variance) if self.by_authors else decoder_bpd(x0, mean, variance, bins=is_image)
        return bits.to(x0.device, torch.float32 if x0.device.type == "mps" else torch.float64)

    def aggregated(self, model: QueriedModel, x0: torch.Tensor, series: torch.Tensor) -> torch.Tensor:
        if self.aggregate == "total":
            return series.sum(dim=1, keepdim=True) + prior_bpd(x0, model.schedule)[:, None]
        return super().aggregated(model, x0, series)


@dataclass(frozen=True, kw_only=True)
class ForensicsMSE(Forensics):
    """mse_t = mean (e - ε(x_t, t))², the error of the predicted noise, small for members (white box)."""

    name: ClassVar[str] = "forensics-mse"
    access: ClassVar[str] = "white"

    def term(
        self, model: QueriedModel, x0: torch.Tensor, x_t: torch.Tensor, e: torch.Tensor, epsilon: torch.Tensor, t: int
    ) -> torch.Tensor:
        return mean_square(self.error(model, x_t, e, epsilon, t))


@dataclass(frozen=True, kw_only=True)
class ForensicsXstart(Forensics):
    """xstart_mse_t = mean (x0 - x̂0(x_t, t))², the error of the predicted clean image, small for members (gray box).

    It is mse_t·(1-ᾱ_t)/ᾱ_t, so the last timesteps dominate a mean over the whole schedule; there x_t hardly shows the image, and no model,
    not even a perfect memory of its training set, distinguishes one member from another.

    Attributes:
        timesteps: the window; by default 25, 75, …, 225, where the signal outweighs the noise in the usual linear schedule.
        aggregate, draws, variant: see `Forensics`.
    """

    timesteps: tuple[int, ...] = MOSTLY_SIGNAL

    name: ClassVar[str] = "forensics-xstart"
    access: ClassVar[str] = "gray"
    needs_signal: ClassVar[bool] = True

    def term(
        self, model: QueriedModel, x0: torch.Tensor, x_t: torch.Tensor, e: torch.Tensor, epsilon: torch.Tensor, t: int
    ) -> torch.Tensor:
        return mean_square(x0 - self.clean(model, x_t, epsilon, t))


@dataclass(frozen=True, kw_only=True)
class ForensicsText(Attack):
    """The distance between an image and what the model generates from its caption, small for members.

    One image is generated per image by deterministic DDIM, without guidance, from noise that belongs to the image.

    Attributes:
        timesteps: not used; the trajectory runs over the whole schedule.
        steps: the number of steps of the trajectory, one query each.
        compare: "output", the generated image (black box; default), or "intermediate", the predicted clean images at every step, whose
            distances are averaged (gray box).
        space: the space of Euclidean distances: "pixel" or "feature" (see `mia_hub.attacks.nearest_generated.described`), or "model", the
            denoiser's own.
    """

    timesteps: tuple[int, ...] = (0,)
    steps: int = 50
    compare: Literal["output", "intermediate"] = "output"
    space: Space | Literal["model"] = "pixel"

    name: ClassVar[str] = "forensics-text"
    paper: ClassVar[str] = "arXiv 2302.07801"
    # "gray" if more than the generated image is seen.
    access: ClassVar[str] = "black"
    needs_caption: ClassVar[bool] = True
    needs_samples: ClassVar[bool] = True
    one_score: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "steps", integer_at_least("steps", self.steps, 1, AttackError))
        check_choice("compare", self.compare, ("output", "intermediate"))
        check_choice("space", self.space, (*get_args(Space), "model"))
        if self.compare == "intermediate" or self.space == "model":
            object.__setattr__(self, "access", "gray")

    @property
    def queries_per_image(self) -> int:
        return self.steps

    def check(self, model: DiffusionModel, captions: Sequence[Any] | None = None) -> None:
        super().check(model, captions)
        check_steps(self.steps, model)

    def statistic(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        def as_vectors(clean: torch.Tensor) -> torch.Tensor:
            return clean if self.space == "model" else described(model.model.to_pixels(clean), self.space)

        own = x0 if self.space == "model" else described(model.pixels, self.space)
        timesteps = ddim_timesteps(model.schedule, self.steps)
        trajectory = predicted_clean_images(model, noise(timesteps[0]), timesteps, cond)
        if self.compare == "output":
            *_, output = trajectory
            return p_norm(as_vectors(output) - own, 2)[:, None]
        return torch.stack([p_norm(as_vectors(clean) - own, 2) for clean in trajectory], dim=1).mean(dim=1, keepdim=True)
