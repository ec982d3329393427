"""Copies on models of latents: candidates that make sense there are mirror images, and offsets in parts of the autoencoder's stride."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch

from mia_hub.attacks.conditional import BASE, COARSE, COMPLEXITY, SimACC, neighbour, shifted, stride_of
from mia_hub.attacks.copies import CopiesAttack, autocontrast
from mia_hub.attacks.given_base import SimAB
from mia_hub.attacks.querying import QueriedModel
from mia_hub.errors import AttackError
from mia_hub.metrics.candidates import AS_IT_IS
from mia_hub.models.noise import SampleNoise

# The share of the side that is left when an image is enlarged and its edges are cut off.
ZOOM = 0.9
# Offsets: the direction in which the image is moved, by its name, as (dy, dx).
DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}


class LatentCandidate(NamedTuple):
    """A copy that is judged.

    Attributes:
        change: from pixels ``[N, C, H, W]`` in [0, 1] and the autoencoder's stride in pixels to the pixels of the candidate.
        weight: how probable it is, relative to the others.
        words: what it means if this one looks most like a training image, as a clause about the image.
    """

    change: Callable[[torch.Tensor, int], torch.Tensor]
    weight: float
    words: str


def enlarged(pixels: torch.Tensor) -> torch.Tensor:
    """Return images whose edges are cut off, and whose middle, 0.9 of the side, is enlarged to their size."""
    height, width = pixels.shape[-2:]
    dy, dx = (max(1, round(side * (1 - ZOOM) / 2)) for side in (height, width))
    middle = pixels[..., dy : height - dy, dx : width - dx]
    return torch.nn.functional.interpolate(middle, (height, width), mode="bicubic", align_corners=False).clamp(0, 1)


def _moved(pixels: torch.Tensor, stride: int, *, part: int, direction: str) -> torch.Tensor:
    """Return images moved by a part of the stride, by a pixel at least."""
    dy, dx = (max(1, stride // part) * step for step in DIRECTIONS[direction])
    return shifted(pixels, dy, dx)


def _offsets(part: int, name: str) -> tuple[LatentCandidate, ...]:
    return tuple(
        LatentCandidate(partial(_moved, part=part, direction=direction), 1, f"moved {direction} by {name}") for direction in DIRECTIONS
    )


# Kinds of copies, each of one candidate or of four.
KINDS: dict[str, tuple[LatentCandidate, ...]] = {
    "mirror": (LatentCandidate(lambda pixels, stride: neighbour("mirror", pixels), 3, "mirrored"),),
    "quarter-stride": _offsets(4, "a quarter of the autoencoder's stride"),
    "half-stride": _offsets(2, "half of the autoencoder's stride"),
    "stride": _offsets(1, "the autoencoder's stride"),
    "contrast": (LatentCandidate(lambda pixels, stride: autocontrast(pixels), 3, "stretched to full contrast"),),
    "enlarged": (LatentCandidate(lambda pixels, stride: enlarged(pixels), 1, "enlarged and cut at its edges"),),
}
KIND_NAMES = {
    "mirror": "its mirror image",
    "quarter-stride": "its shifts by a quarter of the autoencoder's stride",
    "half-stride": "its shifts by half of the autoencoder's stride",
    "stride": "its shifts by the autoencoder's stride",
    "contrast": "it at full contrast",
    "enlarged": "its middle, enlarged",
}
ITSELF = LatentCandidate(lambda pixels, stride: pixels, 10, AS_IT_IS)


@dataclass(frozen=True, kw_only=True)
class LatentCopies(CopiesAttack):
    """A conditional attack which judges the image and copies of it. Made for models of latents; a model of pixels has a stride of 1.

    Attributes:
        copies: the kinds of copies that are judged besides the image: names among `KINDS`.
    """

    copies: tuple[str, ...] = ("mirror",)

    def __post_init__(self) -> None:
        super().__post_init__()
        copies = (self.copies,) if isinstance(self.copies, str) else tuple(self.copies)
        if not copies or not set(copies) <= set(KINDS) or len(set(copies)) < len(copies):
            raise AttackError(f"copies must be one or more different names among {', '.join(KINDS)}; got {self.copies!r}.")
        object.__setattr__(self, "copies", copies)
        if self.given == "auto":
            raise AttackError(f"The attack {self.name!r} chooses no neighbours by itself; name what it is given.")

    @property
    def is_default_family(self) -> bool:
        """Whether the kinds of copies, and what the attack is given, are its defaults."""
        defaults = {field.name: field.default for field in fields(self)}
        return (self.copies, self.given) == (defaults["copies"], defaults["given"])

    @property
    def candidates(self) -> tuple[LatentCandidate, ...]:
        """What is judged; the image itself comes first."""
        return (ITSELF, *(candidate for kind in self.copies for candidate in KINDS[kind]))

    @property
    def judged_too(self) -> str:
        return ", and ".join(KIND_NAMES[kind] for kind in self.copies)

    @property
    def queries_per_image(self) -> int:
        return super().queries_per_image * len(self.candidates)

    @property
    def base_queries_per_image(self) -> int:
        return super().base_queries_per_image * len(self.candidates)

    def features(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        stride, parts = stride_of(model), []
        for candidate in self.candidates:
            with model.changed(lambda pixels, change=candidate.change: change(pixels, stride)) as other:  # type: ignore[misc]
                parts.append(super().features(model, other, cond, noise))
        return torch.stack(parts, dim=2)


@dataclass(frozen=True, kw_only=True)
class SimACCCopies(SimACC, LatentCopies):
    """`SimACC` of the image and of what it may be a copy of, on models of latents; the best of these candidates counts.

    Attributes:
        timesteps, p: see `SimAC`.
        given: complexity at two scales by default; see `ConditionalAttack`.
        copies: see `LatentCopies`.
    """

    given: tuple[str, ...] = (COMPLEXITY, COARSE)

    name: ClassVar[str] = "sima-cc-copies"


@dataclass(frozen=True, kw_only=True)
class SimABCopies(SimAB, LatentCopies):
    """`SimAB` of the image and of what it may be a copy of, on models of latents; the best of these candidates counts.

    Attributes:
        timesteps, p: see `SimAB`.
        given: the base and complexity by default; see `ConditionalAttack`.
        copies: see `LatentCopies`.
    """

    given: tuple[str, ...] = (BASE, COMPLEXITY)

    name: ClassVar[str] = "sima-b-copies"
