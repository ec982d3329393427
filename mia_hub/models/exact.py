"""Closed-form denoisers, for known answers: the predictions of a perfect memory and of a perfect generalisation.

For data drawn from p, the noise predictor that minimises the DDPM loss is ε*(x, t) = (x - √ᾱ_t·E[x0 | x_t = x])/√(1-ᾱ_t)
(Karras et al. 2022, App. B.3, in this notation). It has a closed form for a finite set and for a Gaussian mixture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from mia_hub.models.denoiser import FunctionModel, wrap_denoiser
from mia_hub.models.schedule import NoiseSchedule


def ddpm_alphas_cumprod(timesteps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> torch.Tensor:
    """ᾱ_t of the linear schedule of Ho et al. (2020), float64 ``[T]``."""
    return torch.cumprod(1 - torch.linspace(beta_start, beta_end, timesteps, dtype=torch.float64), 0)


def _denoiser(
    posterior_mean: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
    alphas_cumprod: Any,
    samples: torch.Tensor,
    name: str,
) -> FunctionModel:
    """The denoiser whose E[x0 | x_t = x] is ``posterior_mean(x, √ᾱ_t, √(1-ᾱ_t))``, for samples of the shape of those given."""
    _, channels, height, width = samples.shape
    schedule = NoiseSchedule.from_alphas_cumprod(alphas_cumprod)

    def epsilon(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(1)
        signal, noise = schedule.signal(t, flat), schedule.noise(t, flat)
        predicted: torch.Tensor = (flat - signal * posterior_mean(flat, signal, noise)) / noise
        return predicted.reshape(x.shape)

    return wrap_denoiser(epsilon, alphas_cumprod, sample_shape=(channels, height, width), name=name, dtype=torch.float64)


def training_set_denoiser(x0: torch.Tensor, alphas_cumprod: Any = None, *, name: str = "exact training set") -> FunctionModel:
    """The perfect memory: the optimal denoiser of the finite set ``x0``, a softmax-weighted mean of its samples.

    E[x0 | x_t] = Σ_i w_i·x0_i with w = softmax_i(-‖x_t - √ᾱ_t·x0_i‖²/(2(1-ᾱ_t))).

    Args:
        x0: training samples in model space, ``[M, C, H, W]`` in [-1, 1].
        alphas_cumprod: ᾱ_t ``[T]``; the linear DDPM schedule by default.
    """
    samples = x0.detach().cpu().double().flatten(1)

    def posterior_mean(x: torch.Tensor, signal: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return torch.softmax(-_squared_distances(x, samples, signal) / (2 * noise**2), dim=1) @ samples

    return _denoiser(posterior_mean, ddpm_alphas_cumprod() if alphas_cumprod is None else alphas_cumprod, x0, name)


def gaussian_mixture_denoiser(
    means: torch.Tensor, std: float, weights: torch.Tensor | None = None, alphas_cumprod: Any = None, *, name: str = "exact population"
) -> FunctionModel:
    """The perfect generalisation: the optimal denoiser of the population Σ_k w_k·N(μ_k, std²·I), which has memorised no sample.

    With s² = ᾱ_t·std² + 1-ᾱ_t, component k has posterior weight ∝ w_k·exp(-‖x_t - √ᾱ_t·μ_k‖²/(2s²)) and posterior mean
    μ_k + (√ᾱ_t·std²/s²)·(x_t - √ᾱ_t·μ_k).

    Args:
        means: ``[K, C, H, W]`` in model space.
        std: standard deviation of every component, > 0.
        weights: ``[K]``, positive; equal by default.
        alphas_cumprod: ᾱ_t ``[T]``; the linear DDPM schedule by default.
    """
    centres = means.detach().cpu().double().flatten(1)
    log_weights = torch.zeros(len(centres), dtype=torch.float64) if weights is None else torch.as_tensor(weights).double().log()

    def posterior_mean(x: torch.Tensor, signal: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        variance = signal**2 * std**2 + noise**2
        responsibility = torch.softmax(log_weights - _squared_distances(x, centres, signal) / (2 * variance), dim=1)
        gain = signal * std**2 / variance
        return gain * x + (1 - gain * signal) * (responsibility @ centres)

    return _denoiser(posterior_mean, ddpm_alphas_cumprod() if alphas_cumprod is None else alphas_cumprod, means, name)


def _squared_distances(x: torch.Tensor, centres: torch.Tensor, signal: torch.Tensor) -> torch.Tensor:
    """‖x_n - signal_n·c_k‖² as ``[N, K]``, from explicit differences: expanding the square would cancel digits near a sample."""
    rows = [((row[None] - scale * centres) ** 2).sum(1) for row, scale in zip(x, signal)]
    return torch.stack(rows)
