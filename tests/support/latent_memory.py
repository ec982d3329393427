"""A perfect memory on latents, whose encoder is a mean over squares of pixels: what is known of it holds exactly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from mia_hub.models.denoiser import FunctionModel
from mia_hub.models.exact import training_set_denoiser

STRIDE = 4


class MeanEncoder(FunctionModel):
    """A denoiser of latents, each of which is the mean of 4×4 pixels."""

    def to_model_space(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(pixels, STRIDE) * 2 - 1


def latent_memory(members: np.ndarray) -> Any:
    """The model that knows the latents of images uint8 ``[n, H, W]`` by heart."""
    pixels = torch.from_numpy(members.astype(np.float64) / 255)[:, None]
    exact = training_set_denoiser(torch.nn.functional.avg_pool2d(pixels, STRIDE) * 2 - 1)
    info = replace(exact.info, family="latent", picture_shape=(1, *members.shape[1:]))
    return MeanEncoder(exact.fn, exact.schedule, info, exact.dtype, None)


def textures(n: int, seed: int, side: int = 24) -> np.ndarray:
    """Grey images, uint8 ``[n, side, side]``, smooth enough that an offset by a pixel or two changes latents little, and by four a lot."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 220, (n, side // STRIDE + 1, side // STRIDE + 1)).astype(np.float64)
    fine = np.kron(coarse, np.ones((STRIDE, STRIDE)))[:, :side, :side]
    return np.rint(fine + rng.integers(-6, 7, fine.shape)).astype(np.uint8)
