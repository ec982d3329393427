"""A model that remembers images, but can't tell them all apart: attacks of different strength get different figures on it."""

from __future__ import annotations

import numpy as np
import torch

from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import ddpm_alphas_cumprod

SIDE = 8


def noise_images(count: int) -> np.ndarray:
    """Images without structure, uint8 ``[count, 8, 8]``."""
    return np.random.default_rng(4).integers(0, 256, (count, SIDE, SIDE), dtype=np.uint8)


def memory_of(members, count=None, spread=12.0):
    """The closed-form denoiser of some images, its posterior widened until it can't tell them all apart.

    Args:
        members: uint8 ``[n, 8, 8]``.
        count: a list that the number of rows of each query is appended to.
        spread: of the posterior.
    """
    samples = torch.from_numpy(np.asarray(members)).double().flatten(1) / 127.5 - 1
    alphas = ddpm_alphas_cumprod()

    def epsilon(x, t):
        if count is not None:
            count.append(len(x))
        flat = x.flatten(1)
        signal, noise = alphas[t].sqrt()[:, None], (1 - alphas[t]).sqrt()[:, None]
        distances = ((flat[:, None] - signal[:, :, None] * samples) ** 2).sum(-1)
        mean = torch.softmax(-distances / (2 * (noise**2 + spread)), 1) @ samples
        return ((flat - signal * mean) / noise).reshape(x.shape)

    return wrap_denoiser(epsilon, alphas, sample_shape=(1, SIDE, SIDE), dtype=torch.float64, name="memory")
