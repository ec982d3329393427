"""A model whose images of each caption are a Gaussian N(mean, spread² I), so that everything about it is known in closed form.

A memorised caption has one image: its spread is all but 0. Other captions leave many images open.
"""

from __future__ import annotations

import numpy as np
import torch

from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import ddpm_alphas_cumprod
from mia_hub.models.noise import SampleNoise

SHAPE = (3, 4, 4)
SIZE = 48
ALPHAS = ddpm_alphas_cumprod()
SPREADS = {"": 0.8, "memorised": 0.01, "broad": 0.7}


def parameters_of(caption: str) -> tuple[np.ndarray, float]:
    """The mean ``[SIZE]`` and the spread of the images of a caption: the first word is its kind, and the whole of it seeds the mean."""
    kind = caption.partition(" ")[0]
    rng = np.random.default_rng([*caption.encode()])
    mean = 0.1 * rng.standard_normal(SIZE)
    spread = SPREADS[kind]
    return mean + np.sqrt(max(0.0, 0.64 - spread**2)) * rng.standard_normal(SIZE) * (kind == "memorised"), spread


def condition(captions: list[str]) -> torch.Tensor:
    """Means and spreads, ``[N, SIZE + 1]``."""
    return torch.tensor(np.stack([np.append(*parameters_of(caption)) for caption in captions]), dtype=torch.float64)


def gaussian_model(alphas=ALPHAS, dtype=torch.float64):
    """ε(x, t, c) = noise·(x - signal·mean)/(signal²·spread² + noise²), the optimal denoiser."""
    alphas = torch.as_tensor(alphas, dtype=torch.float64)

    def epsilon(x, t, cond):
        flat, ab = x.flatten(1), alphas[t][:, None]
        mean, spread = cond[:, :SIZE].to(x), cond[:, SIZE:].to(x)
        return ((1 - ab).sqrt() * (flat - ab.sqrt() * mean) / (ab * spread**2 + 1 - ab)).to(x).reshape(x.shape)

    return wrap_denoiser(epsilon, alphas, sample_shape=SHAPE, name="gaussian", dtype=dtype, condition=condition)


def draws_of(prompt: str, timestep: int, draws: int, seed: int = 0) -> np.ndarray:
    """x_T of a prompt, ``[draws, SIZE]``."""
    noise = SampleNoise([prompt], SHAPE, seed, dtype=torch.float64)
    return np.stack([noise(timestep, draw).flatten().numpy() for draw in range(draws)])


def epsilon_of(prompt: str, x: np.ndarray, timestep: int) -> np.ndarray:
    """ε by hand, in NumPy: ``[draws, SIZE]``."""
    ab = float(ALPHAS[timestep])
    mean, spread = parameters_of(prompt)
    return np.sqrt(1 - ab) * (x - np.sqrt(ab) * mean) / (ab * spread**2 + 1 - ab)
