"""What an attack may ask of a model, whatever its family."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch

from mia_hub.models.schedule import NoiseSchedule


@dataclass(frozen=True)
class ModelInfo:
    """What a model is, as recorded with every score.

    Attributes:
        id: Hub id, folder, "demo", or the name given to a wrapped function.
        revision: commit hash on the Hub, or "sha256:…" of local weights; None for a wrapped function. Of a model with something on top,
            those of both, joined by " + ".
        family: "pixel", "latent", "text-to-image", "flow" or "function".
        sample_shape: shape of one sample in model space, ``(C, H, W)``: of pixels, or of latents.
        num_train_timesteps: T; timesteps run from 0 to T-1.
        prediction_type: what the network itself puts out, one of `mia_hub.models.schedule.PREDICTION_TYPES`.
        conditioning: "none", "class" or "text".
        picture_shape: shape of one image as the model takes it, ``(C, H, W)``; that of a sample for a model of pixels.
        num_classes: of a class-conditional model, else None.
        settings: whatever else its predictions depend on, such as {"latents": "mode"}.
    """

    id: str
    revision: str | None
    family: str
    sample_shape: tuple[int, int, int]
    num_train_timesteps: int
    prediction_type: str = "epsilon"
    conditioning: str = "none"
    picture_shape: tuple[int, int, int] | None = None
    num_classes: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "picture_shape", self.picture_shape or self.sample_shape)

    def to_dict(self) -> dict[str, Any]:
        """As results record it; what does not apply is left out."""
        found = asdict(self) | {"sample_shape": list(self.sample_shape), "picture_shape": list(self.picture_shape)}
        if self.picture_shape == self.sample_shape:
            del found["picture_shape"]
        return {key: value for key, value in found.items() if key not in ("num_classes", "settings") or value}


@runtime_checkable
class DiffusionModel(Protocol):
    """A diffusion model, queried the same way in every family. The adapter absorbs every quirk of its family.

    Attributes:
        info: what the model is.
        schedule: its noise schedule.
        device: where it computes.
        dtype: the precision it computes in; ε is returned in float32, or float64 for a float64 model.
        network: the denoiser whose weights a white-box attack differentiates by; None for a plain function.

    A model may also have what `mia_hub.models.network.NetworkModel` describes: ``denoiser_dtype``, ``truncated``, ``fallbacks``,
    ``fall_back``, ``movable`` and ``widen``.
    """

    info: ModelInfo
    schedule: NoiseSchedule
    device: torch.device
    dtype: torch.dtype
    network: torch.nn.Module | None

    def encode(self, images) -> torch.Tensor:
        """Images to model space: `to_model_space` of their `pixels`."""
        ...

    def pixels(self, images) -> torch.Tensor:
        """Images (anything `as_images` takes) at the model's image size, ``[N, C, H, W]`` in [0, 1]; also called by
        another thread, while the model predicts."""
        ...

    def to_model_space(self, pixels: torch.Tensor) -> torch.Tensor:
        """``[N, C, H, W]`` in [0, 1], as `pixels` gives it, to what the denoiser works on."""
        ...

    def to_pixels(self, x0: torch.Tensor) -> torch.Tensor:
        """The inverse of `to_model_space`, clipped to [0, 1]."""
        ...

    def condition(self, captions: Sequence[str] | Sequence[int] | None) -> Any:
        """The condition of a batch: a tensor ``[N, …]`` or a dict of such; None for an unconditional model.

        Args:
            captions: of a model conditioned on text, one text per image ("" for none); of one conditioned on classes, one class
                index per image ("" for no class, where the model knows that); None for an unconditional model.
        """
        ...

    def predict_noise(self, x: torch.Tensor, t: torch.Tensor, cond: Any = None) -> torch.Tensor:
        """The predicted noise ε ``[N, C, H, W]`` of ``x`` ``[N, C, H, W]`` at integer timesteps ``t`` ``[N]``, one per row.

        Gradients flow where the caller has them enabled and the weights require them.
        """
        ...


def result_dtype(dtype: torch.dtype) -> torch.dtype:
    """Precision in which x0 and ε travel: float64 for a float64 model, else float32 (also when the network runs in half)."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def precision_of(model: DiffusionModel) -> str:
    """What a model computes in, as results write it: "float32", or, of a model whose parts do otherwise, "float16 (autoencoder in float32)"
    after it overflowed there, and "float32 (denoiser in bfloat16)" where the denoiser is run so."""
    apart = {"denoiser": denoiser_precision(model)} if denoiser_precision(model) != dtype_name(model.dtype) else {}
    moved = ", ".join(f"{part} in {its}" for part, its in sorted((apart | getattr(model, "fallbacks", {})).items()))
    return dtype_name(model.dtype) + (f" ({moved})" if moved else "")


def denoiser_precision(model: DiffusionModel) -> str:
    """What a model's denoiser computes in, at this moment."""
    return dtype_name(getattr(model, "denoiser_dtype", model.dtype))


def moved_to(model: DiffusionModel, precision: str) -> bool:
    """Brings a model to the precision that results were made in, if it is one that parts of it can overflow into.

    Args:
        precision: as `precision_of` gave it then.

    Returns:
        Whether the model computes in that precision now.
    """
    if precision == precision_of(model):
        return True
    dtype, _, moved = precision.removesuffix(")").partition(" (")
    asked = dict(re.findall(r"(\w[\w ]*) in (float32|bfloat16)", moved))
    known, movable = getattr(model, "fallbacks", {}), getattr(model, "movable", {})
    if dtype == dtype_name(model.dtype) and known.items() <= asked.items() and asked.keys() <= movable.keys():
        for what in sorted(asked.keys() - known.keys()):
            now = getattr(model, "denoiser_dtype", model.dtype) if what == "denoiser" else model.dtype
            # A denoiser that was run in half precision on purpose didn't overflow into it.
            if torch.finfo(now).max < torch.finfo(getattr(torch, asked[what])).max:
                model.widen(what, getattr(torch, asked[what]))
    return precision == precision_of(model)


def dtype_name(dtype: torch.dtype) -> str:
    """The precision as results write it: "float32"."""
    return str(dtype).removeprefix("torch.")
