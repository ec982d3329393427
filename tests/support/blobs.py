"""Images of one kind, and a model that knows some of them by heart."""

from __future__ import annotations

import numpy as np
import torch

import mia_hub
from mia_hub.images.sources import as_images
from mia_hub.models.exact import training_set_denoiser

# Scored where the perfect memory of `blobs` tells members best.
SIMA = mia_hub.get_attack("sima", timesteps=(20, 60, 100))


def blobs(n, seed, side=12):
    """Soft grey blobs, one kind of image, uint8."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    centre, width = generator.uniform(3, side - 3, (n, 2, 1, 1)), generator.uniform(2, 4, (n, 1, 1))
    shape = np.exp(-((y - centre[:, 0]) ** 2 + (x - centre[:, 1]) ** 2) / width**2)
    return (shape * 255).astype(np.uint8)


def perfect_memory(members: np.ndarray):
    """The model that knows these images by heart: the exact denoiser of the training set that they are."""
    _, *side = members.shape
    x0 = torch.tensor(np.stack([image.resized(*side, 1) for image in as_images(members)])).permute(0, 3, 1, 2).double() * 2 - 1
    return training_set_denoiser(x0)
