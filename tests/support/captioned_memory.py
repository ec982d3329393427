"""A population with captions, perfect memories of a part of it, and how attacks and their references query them."""

from __future__ import annotations

import numpy as np
import torch
from support.captioned_population import captioned_images, remembered_pairs

from mia_hub.models.exact import ddpm_alphas_cumprod, training_set_denoiser
from mia_hub.models.noise import SampleNoise

N = 60
ALPHAS = ddpm_alphas_cumprod()
is_member = np.repeat([1, 0], N)


def population_of_three_parts():
    """3N samples (members, non-members, others): means, samples in model space, images, captions."""
    return captioned_images(3 * N)


def memories_of(population):
    """The perfect memory of the members, and that of the members with their captions."""
    _, samples, _, captions = population
    return training_set_denoiser(samples[:N]), remembered_pairs(samples[:N], captions[:N])


def score(attack, model, images, **options):
    return attack.score(model, images, progress=False, **options)


def as_eps(model):
    """A model as the references query it: flat lists of floats."""

    def eps(x, t, *caption):
        row = torch.tensor(x, dtype=torch.float64).reshape(1, *model.info.sample_shape)
        return model.predict_noise(row, torch.tensor([t]), *(model.condition(list(caption)) for _ in caption)).flatten().tolist()

    return eps


def drawn(image, t, k=0, seed=0):
    return SampleNoise([image.id], (1, 8, 8), seed, dtype=torch.float64)(t, k).flatten().tolist()
