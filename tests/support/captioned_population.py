"""Images with captions of one recipe, and the perfect memory of such pairs."""

from __future__ import annotations

import numpy as np
import torch
from support.populations import mixture_images

from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import _squared_distances, ddpm_alphas_cumprod
from mia_hub.models.schedule import NoiseSchedule

THINGS = ("boot", "shirt", "dress", "handbag", "trousers", "sandal")
LOOKS = ("red", "dark", "striped", "velvet", "woollen", "faded", "shiny", "tiny", "torn", "elegant")
PLACES = ("shelf", "window", "mountain", "table", "staircase", "river", "garden", "wall")


def captioned_images(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[str]]:
    """Samples of a Gaussian mixture: its means, the samples in model space, as images, and their captions."""
    rng = np.random.default_rng(0)
    means, kind, images = mixture_images(count)
    looks = [rng.choice(LOOKS, 2, replace=False) for _ in kind]
    captions = [f"a {one} {two} {THINGS[k]} on the {rng.choice(PLACES)}" for k, (one, two) in zip(kind, looks)]
    return means, images.double() * 2 - 1, images, captions


def words_of(captions: list[str]) -> torch.Tensor:
    """The known words that a caption has, ``[N, words]`` of length 1 (0 for the empty caption)."""
    known = (*THINGS, *LOOKS, *PLACES)
    bags = torch.tensor([[float(word in caption.split()) for word in known] for caption in captions], dtype=torch.float64)
    return bags / bags.norm(dim=1, keepdim=True).clamp(min=1e-9)


def remembered_pairs(x0: torch.Tensor, captions: list[str], strength: float = 10):
    """The perfect memory of images with captions: the optimal denoiser where p(x0_i | c) ∝ exp(strength · similarity of c and c_i).

    Its posterior mean weighs sample i by that and by the Gaussian likelihood of x_t, as in `training_set_denoiser`, which it is for c = "".
    """
    alphas = ddpm_alphas_cumprod()
    schedule, samples, own = NoiseSchedule.from_alphas_cumprod(alphas), x0.flatten(1), words_of(captions)

    def epsilon(x, t, cond):
        flat = x.flatten(1)
        signal, noise = schedule.signal(t, flat), schedule.noise(t, flat)
        weights = torch.softmax(-_squared_distances(flat, samples, signal) / (2 * noise**2) + strength * cond @ own.T, dim=1)
        return ((flat - signal * (weights @ samples)) / noise).reshape(x.shape)

    return wrap_denoiser(epsilon, alphas, sample_shape=tuple(x0.shape[1:]), name="memory", dtype=torch.float64, condition=words_of)
