"""The distance to the nearest generated image, which a black box gives (arXiv 2302.07801)."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, get_args

import numpy.typing as npt
import torch
from torch.nn import functional as F

from mia_hub.attacks.base import Attack
from mia_hub.attacks.checks import check_choice
from mia_hub.attacks.generation import generate
from mia_hub.attacks.querying import QueriedModel
from mia_hub.errors import AttackError, integer_at_least
from mia_hub.images.sources import as_images, find_images
from mia_hub.models.noise import SampleNoise
from mia_hub.models.protocol import DiffusionModel

Space = Literal["pixel", "feature"]
CELLS = 8
ORIENTATIONS = 8
# Generated images that are decoded, or compared with a batch in float64, at once.
COMPARED_AT_ONCE = 1024


def described(pixels: torch.Tensor, space: Space) -> torch.Tensor:
    """Return images as vectors whose Euclidean distance measures how dissimilar they are.

    - "pixel": their values.
    - "feature": their content, with less regard to exact positions and to contrast. Two parts of about equal weight, both fixed, since
      a black box hides the denoiser's own features: histograms of gradient orientation (Dalal & Triggs 2005; 8 unsigned
      orientations in 8 x 8 cells, their square roots scaled to length 1), and the low frequencies (the mean colours of the same cells).

    Args:
        pixels: ``[N, C, H, W]`` in [0, 1].
        space: as above.

    Returns:
        ``[N, F]``; in feature space on the CPU.
    """
    if space == "pixel":
        return pixels.flatten(1)
    # On the CPU, since some devices can't pool into cells of unequal size.
    pixels = pixels.cpu()
    cells = (min(CELLS, pixels.shape[-2]), min(CELLS, pixels.shape[-1]))
    grey = F.pad(pixels.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    dy, dx = grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1], grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2]
    # Each gradient is shared between the two nearest orientations, so that a slight rotation changes little.
    place = torch.atan2(dy, dx).remainder(math.pi) * (ORIENTATIONS / math.pi)
    centres = torch.arange(ORIENTATIONS, dtype=pixels.dtype)[:, None, None]
    away = (place - centres).abs()
    share = (1 - torch.minimum(away, ORIENTATIONS - away)).clamp_min(0)
    histograms = F.adaptive_avg_pool2d(torch.hypot(dy, dx) * share, cells).flatten(1)
    # Square roots of shares have length 1; a flat image, which has no gradient, gets zeros.
    orientation = (histograms / histograms.sum(1, keepdim=True).clamp_min(1e-6)).sqrt()
    colours = F.adaptive_avg_pool2d(pixels, cells).flatten(1)
    return torch.cat([orientation, colours / math.sqrt(colours.shape[1])], dim=1)


class Gallery:
    """Images that were generated elsewhere. Two galleries of the same images are equal."""

    def __init__(self, generated: Any):
        is_path = isinstance(generated, (str, os.PathLike))
        self.images = as_images(find_images(generated) if is_path else generated)

    @cached_property
    def id(self) -> str:
        """Hash of the images' content, in any order; decodes each image once."""
        return hashlib.sha256("\n".join(sorted(image.id for image in self.images)).encode()).hexdigest()

    def __repr__(self) -> str:
        return f"<{len(self.images)} images sha256:{self.id[:16]}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Gallery) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)


@dataclass(frozen=True, kw_only=True)
class NearestGenerated(Attack):
    """The mean distance from x to its k nearest neighbours among n generated images, small for members.

    The black-box level of Data Forensics, after GAN-Leaks (Chen et al. 2020, arXiv 1909.03935): a model that generates training images
    reveals them. Many more samples than members are needed before most members have one near them.

    Attributes:
        timesteps: not used, since no timestep of x itself is queried.
        samples: n, the number of images that are generated, once for all images; with ``generated``, their number.
        steps: the number of deterministic DDIM steps that generate one (one query each); not used with ``generated``.
        generated: images that were generated elsewhere: a folder, or anything `mia_hub.images.sources.as_images` takes; then nothing is
            generated and the model is never queried. They are held at the model's image size, as floats.
        neighbours: k.
        space: the space in which distances are Euclidean, "pixel" or "feature"; see `described`.
    """

    timesteps: tuple[int, ...] = (0,)
    samples: int = 256
    steps: int = 50
    generated: Any = None
    neighbours: int = 1
    space: Space = "pixel"

    name: ClassVar[str] = "nearest-generated"
    paper: ClassVar[str] = "arXiv 2302.07801"
    access: ClassVar[str] = "black"
    needs_samples: ClassVar[bool] = True
    one_score: ClassVar[bool] = True
    # An image that was generated exactly is at distance 0.
    log_scale: ClassVar[bool] = False
    local_parameters: ClassVar[tuple[str, ...]] = ("generated",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.generated is not None:
            gallery = self.generated if isinstance(self.generated, Gallery) else Gallery(self.generated)
            object.__setattr__(self, "generated", gallery)
            object.__setattr__(self, "samples", len(gallery.images))
        for what in ("samples", "steps", "neighbours"):
            object.__setattr__(self, what, integer_at_least(what, getattr(self, what), 1, AttackError))
        check_choice("space", self.space, get_args(Space))
        if self.neighbours > self.samples:
            raise AttackError(
                f"neighbours={self.neighbours} are more than the {self.samples} generated images; choose {self.samples} or fewer."
            )

    @property
    def queries_per_image(self) -> int:
        return 0

    @property
    def setup_queries(self) -> int:
        return 0 if self.generated is not None else self.samples * self.steps

    def check(self, model: DiffusionModel, captions: Sequence[Any] | None = None) -> None:
        super().check(model, captions)
        if self.generated is None:
            check_steps(self.steps, model)
            if model.info.conditioning == "class" and getattr(model, "null_class", None) is None:
                raise AttackError(
                    f"The attack {self.name!r} generates images without a class, and {model.info.id} always needs "
                    "one; give images that it generated as generated=…, or choose another attack."
                )

    def prepare(self, model: QueriedModel, seed: int) -> torch.Tensor:
        parts = self._generate(model, seed) if self.generated is None else self._gallery(model, self.generated)
        return torch.cat([described(pixels, self.space) for pixels in parts])

    def _gallery(self, model: QueriedModel, gallery: Gallery) -> Iterator[torch.Tensor]:
        for start in range(0, self.samples, COMPARED_AT_ONCE):
            yield model.model.pixels(gallery.images[start : start + COMPARED_AT_ONCE])

    def _generate(self, model: QueriedModel, seed: int) -> Iterator[torch.Tensor]:
        """Samples, each from its own noise, so that the batch size changes nothing; under the empty caption if the model takes one."""
        for start in range(0, self.samples, model.rows):
            rows = range(start, min(start + model.rows, self.samples))

            def generated(rows: range = rows) -> tuple[list[str], npt.NDArray[Any]]:
                return [], self._sample(model, [f"generated {i}" for i in rows], seed).cpu().numpy()

            part = model.kept(f"generated-in-{self.steps}-steps-{rows.start}-{rows.stop}", generated)
            yield torch.from_numpy(part.values).to(model.model.device)

    def _sample(self, model: QueriedModel, names: list[str], seed: int) -> torch.Tensor:
        """Images ``[N, C, H, W]`` in [0, 1], each from the noise of its name."""
        captions = None if model.info.conditioning == "none" else [""] * len(names)
        return generate(model, names, captions, steps=self.steps, seed=seed)

    def statistic(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        own = _wide(described(model.pixels, self.space))
        parts = [_distances(own, _wide(part)) for part in model.prepared.split(COMPARED_AT_ONCE)]
        return torch.cat(parts, dim=1).topk(self.neighbours, dim=1, largest=False).values.mean(dim=1, keepdim=True)


def check_steps(steps: int, model: DiffusionModel) -> None:
    """Refuse more sampling steps than the model has timesteps."""
    if steps > model.info.num_train_timesteps:
        most = model.info.num_train_timesteps
        raise AttackError(f"steps={steps} are more than the {most} timesteps of {model.info.id}; sample with {most} or fewer.")


def _wide(vectors: torch.Tensor) -> torch.Tensor:
    return vectors if vectors.device.type == "mps" else vectors.double()


def _distances(x: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    # From explicit differences: expanding the square would cancel digits of an image that was generated almost exactly.
    return torch.cdist(x, others, compute_mode="donot_use_mm_for_euclid_dist")
