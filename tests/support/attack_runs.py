"""What tests of attacks share that score small images by name: scores, chance, draws, a mixture, garments, and a plain model."""

from __future__ import annotations

import numpy as np
import torch
from support.populations import mixture_images

from mia_hub.attacks import get_attack
from mia_hub.metrics.intervals import delong
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import ddpm_alphas_cumprod
from mia_hub.models.noise import SampleNoise
from mia_hub.splits.loading import load_split

N = 100
ALPHAS = ddpm_alphas_cumprod()
is_member = np.repeat([1, 0], N)


def scores(name, model, images, **parameters):
    options = {key: parameters.pop(key) for key in ("seed", "batch_size", "captions", "is_member") if key in parameters}
    return get_attack(name, **parameters).score(model, images, progress=False, **options).scores


def assert_chance(values, labels):
    low, high = delong(values, labels, confidence=0.999)
    assert low < 0.5 < high


def drawn(image, t, seed=0, draw=0):
    """x0, e and x_t of one image, float64."""
    x0 = torch.tensor(image.resized(*image.pixels.shape[:2])).permute(2, 0, 1)[None].double() * 2 - 1
    e = SampleNoise([image.id], tuple(x0.shape[1:]), seed, dtype=torch.float64)(t, draw)
    return x0, e, ALPHAS[t].sqrt() * x0 + (1 - ALPHAS[t]).sqrt() * e


def halving(alphas=ALPHAS):
    """A model whose answers are neither right nor absurd: ε = x/2."""
    return wrap_denoiser(lambda x, t: x / 2, alphas, sample_shape=(1, 8, 8), dtype=torch.float64)


def mixture_population():
    """2N images of a Gaussian mixture: the means, and images in [0, 1]."""
    means, _, images = mixture_images(2 * N)
    return means, images


def sixty_garments():
    """60 members and 60 non-members of the demo split, in [0, 1]; labels."""
    split = load_split("demo", limit=60)
    return torch.from_numpy(np.stack([p.resized(28, 28, 1).transpose(2, 0, 1) for p in split.images])), split.is_member
