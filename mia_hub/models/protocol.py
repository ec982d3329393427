"""The interface of a diffusion model, the same for every family: all that an attack may use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch

from mia_hub.models.schedule import NoiseSchedule


@dataclass(frozen=True)
class ModelInfo:
    """Identity and shape of a model, as recorded with every score.

    Attributes:
        id: Hub id, folder, "demo", or the name given to a wrapped function.
        revision: commit hash on the Hub, or "sha256:…" of local weights; None for a wrapped function. Of a model with overlays, the
            revisions of all of them, joined by " + ".
        family: "pixel", "latent", "text-to-image", "flow" or "function".
        sample_shape: shape of one sample in model space, ``(C, H, W)``: of pixels, or of latents.
        num_train_timesteps: T; timesteps run from 0 to T-1.
        prediction_type: the quantity that the network predicts, one of `mia_hub.models.schedule.PREDICTION_TYPES`.
        conditioning: "none", "class" or "text".
        picture_shape: shape of one image at the model's size, ``(C, H, W)``; `sample_shape` by default, as for a model of pixels.
        num_classes: number of classes of a class-conditional model, else None.
        settings: further settings that predictions depend on, such as {"latents": "mode"}.
    """

    id: str
    revision: str | None
    family: str
    sample_shape: tuple[int, int, int]
    num_train_timesteps: int
    prediction_type: str = "epsilon"
    conditioning: str = "none"
    picture_shape: tuple[int, int, int] = None  # type: ignore[assignment]  # replaced in __post_init__
    num_classes: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "picture_shape", self.picture_shape or self.sample_shape)

    @property
    def on_pixels(self) -> bool:
        """Whether a sample is an image, so that a shift by one pixel is one in model space, too."""
        return self.sample_shape == self.picture_shape

    def to_dict(self) -> dict[str, Any]:
        """The fields as results record them, JSON-ready; fields that do not apply are left out."""
        fields = asdict(self) | {"sample_shape": list(self.sample_shape), "picture_shape": list(self.picture_shape)}
        if self.picture_shape == self.sample_shape:
            del fields["picture_shape"]
        return {key: value for key, value in fields.items() if key not in ("num_classes", "settings") or value}


@runtime_checkable
class DiffusionModel(Protocol):
    """A diffusion model, queried the same way in every family. The adapter absorbs every quirk of its family.

    Attributes:
        info: identity and shape of the model.
        schedule: its noise schedule.
        device: where it computes.
        dtype: the precision it computes in; ε is returned in float32, or float64 for a float64 model.
        network: the denoiser whose weights a white-box attack differentiates by; None for a plain function.

    A model may also have a ``base``: the model that it was fine-tuned from (see `mia_hub.models.bases`); ``reference_models`` that were
    trained on other images (see `mia_hub.models.reference_models`); and what
    `mia_hub.models.families.base.NetworkModel` describes: ``truncated``, ``null_class``, and, if its parts can overflow, ``fallbacks``,
    ``fall_back`` and ``widen`` (see `mia_hub.models.precision`). A distilled model may have ``trained_timesteps``: those that it was
    distilled at.
    """

    info: ModelInfo
    schedule: NoiseSchedule
    device: torch.device
    dtype: torch.dtype
    network: torch.nn.Module | None

    def encode(self, images: Any) -> torch.Tensor:
        """Images to model space: `to_model_space` of their `pixels`."""
        ...

    def pixels(self, images: Any) -> torch.Tensor:
        """Images (anything that `as_images` takes) at the model's image size, ``[N, C, H, W]`` in [0, 1].

        It is also called by another thread while the model predicts.
        """
        ...

    def to_model_space(self, pixels: torch.Tensor) -> torch.Tensor:
        """``[N, C, H, W]`` in [0, 1], as `pixels` returns it, to the space that the denoiser works in."""
        ...

    def to_pixels(self, x0: torch.Tensor) -> torch.Tensor:
        """The inverse of `to_model_space`, clipped to [0, 1]."""
        ...

    def condition(self, captions: Sequence[str] | Sequence[int] | None) -> Any:
        """The condition of a batch: a tensor ``[N, …]`` or a dict of such; None for an unconditional model.

        Args:
            captions: for a model conditioned on text, one text per image ("" for none); for one conditioned on classes, one class index
                per image ("" for no class, if the model was trained with that); None for an unconditional model.
        """
        ...

    def predict_noise(self, x: torch.Tensor, t: torch.Tensor, cond: Any = None) -> torch.Tensor:
        """The predicted noise ε ``[N, C, H, W]`` of ``x`` ``[N, C, H, W]`` at integer timesteps ``t`` ``[N]``, one per row.

        Gradients flow where the caller has them enabled and the weights require them.
        """
        ...
