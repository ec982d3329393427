"""Models of pixels, and `wrap_denoiser`: any function or module that predicts noise becomes a model that every attack can query."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from mia_hub.errors import ModelError
from mia_hub.images.sources import as_images
from mia_hub.models.conditions import no_condition, texts
from mia_hub.models.precision import result_dtype
from mia_hub.models.protocol import DiffusionModel, ModelInfo
from mia_hub.models.schedule import NoiseSchedule


class PixelSpace:
    """The model space of raw pixels: images in [0, 1] map to [-1, 1] at the model's size and channels.

    Attributes:
        base: what the model was fine-tuned from, if that is loaded; see `mia_hub.models.bases`.
        reference_models: models of other images that it is compared with; see `mia_hub.models.reference_models`.
    """

    info: ModelInfo
    device: torch.device
    dtype: torch.dtype
    base: DiffusionModel | None = None
    reference_models: tuple[DiffusionModel, ...] = ()

    def encode(self, images: Any) -> torch.Tensor:
        """Images to model space, ``[N, C, H, W]``."""
        return self.to_model_space(self.pixels(images))

    def pixels(self, images: Any) -> torch.Tensor:
        """Images to ``[N, C, H, W]`` in [0, 1]; an image of another size is scaled and centre-cropped."""
        channels, height, width = self.info.picture_shape
        # A fresh array, so that the channel axis has its ordinary stride: a transposed view of one channel passes for channels-last,
        # and would send the whole network down that slower path.
        rows = np.stack([image.resized(height, width, channels).transpose(2, 0, 1) for image in as_images(images)])
        return torch.from_numpy(rows).to(device=self.device, dtype=result_dtype(self.dtype))

    def to_model_space(self, pixels: torch.Tensor) -> torch.Tensor:
        """[0, 1] to [-1, 1]."""
        return pixels * 2 - 1

    def to_pixels(self, x0: torch.Tensor) -> torch.Tensor:
        """[-1, 1] to [0, 1], clipped."""
        return (x0 / 2 + 0.5).clamp(0, 1)


def takes_resized_images(model: Any) -> bool:
    """Whether a model resizes images by `PixelSpace.pixels`, so that it may be given them at its size."""
    # Of the bound method, so that a model which passes its calls on to another answers as that one.
    return getattr(getattr(model, "pixels", None), "__func__", None) is PixelSpace.pixels


class FunctionModel(PixelSpace):
    """A noise predictor that is a function; see `wrap_denoiser`."""

    def __init__(
        self,
        fn: Callable[..., torch.Tensor],
        schedule: NoiseSchedule,
        info: ModelInfo,
        dtype: torch.dtype,
        condition: Callable[[list[str]], Any] | None,
    ):
        self.fn, self.schedule, self.info, self.dtype, self._condition = fn, schedule, info, dtype, condition
        self.network = fn if isinstance(fn, torch.nn.Module) else None
        parameter = next(fn.parameters(), None) if isinstance(fn, torch.nn.Module) else None
        self.device = torch.device("cpu") if parameter is None else parameter.device
        if isinstance(fn, torch.nn.Module):
            fn.eval()
            self.dtype = dtype if parameter is None else parameter.dtype

    def condition(self, captions: Sequence[Any] | None) -> Any:
        if self._condition is None:
            no_condition(captions, self.info.id)
            return None
        return self._condition(texts(captions, self.info.id))

    def predict_noise(self, x: torch.Tensor, t: torch.Tensor, cond: Any = None) -> torch.Tensor:
        epsilon: Any = self.fn(x.to(self.dtype), t) if self._condition is None else self.fn(x.to(self.dtype), t, cond)
        if not isinstance(epsilon, torch.Tensor) or epsilon.shape != x.shape:
            result = tuple(epsilon.shape) if isinstance(epsilon, torch.Tensor) else type(epsilon).__name__
            raise ModelError(
                f"The wrapped denoiser {self.info.id!r} must return a tensor of shape {tuple(x.shape)}, that of its input; got {result}."
            )
        return epsilon.to(result_dtype(self.dtype))


def wrap_denoiser(
    fn: Callable[..., torch.Tensor],
    alphas_cumprod: Any,
    *,
    sample_shape: tuple[int, int, int],
    name: str = "custom",
    dtype: torch.dtype = torch.float32,
    condition: Callable[[list[str]], Any] | None = None,
) -> FunctionModel:
    """Make a DiffusionModel of any noise predictor on pixels, such as a research repository's own UNet.

    Args:
        fn: ``fn(x, t) -> ε``; x ``[N, C, H, W]`` with images of [0, 1] mapped to [-1, 1], t int64 ``[N]``, ε as x.
            A `torch.nn.Module` is put in eval mode and queried on its own device and in its own precision.
        alphas_cumprod: ᾱ_t, ``[T]``, in (0, 1), not increasing.
        sample_shape: ``(C, H, W)`` with C = 1 or 3.
        name: id of the model in results.
        dtype: precision of x for a function that is no module.
        condition: for a model conditioned on text: ``condition(captions) -> cond``, a tensor ``[N, …]`` or a dict of such, which
            ``fn(x, t, cond)`` then receives as its third argument.

    Returns:
        The model, which predicts the noise that ``fn`` returns. ``mia_hub.load_model(model, base=…)`` gives it a base.

    Raises:
        ModelError: if the schedule or the shape is not as described.
    """
    shape = tuple(int(side) for side in sample_shape)
    if len(shape) != 3 or shape[0] not in (1, 3) or min(shape) < 1:
        raise ModelError(f"sample_shape must be (channels, height, width) with 1 or 3 channels; got {sample_shape}.")
    schedule = NoiseSchedule.from_alphas_cumprod(alphas_cumprod)
    info = ModelInfo(id=name, revision=None, family="function", sample_shape=shape, num_train_timesteps=len(schedule))
    info = replace(info, conditioning="none" if condition is None else "text")
    return FunctionModel(fn, schedule, info, dtype, condition)
