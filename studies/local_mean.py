"""SimA's theory for a finite training set, and the distance of a predicted noise from it.

With σ_t = √((1-ᾱ_t)/ᾱ_t), the exact denoiser of a set (`mia_hub.models.exact`) is, by rearranging its definition,

    -σ_t·ε(√ᾱ_t·x, t) = m_σ(x) - x,    m_σ(x) = Σ_i w_i·x_i,    w = softmax_i(-‖x - x_i‖²/(2σ_t²)):

at the *scaled* image the predicted noise points from x to the local mean of the samples, exactly. SimA (arXiv 2509.25003) feeds the
*clean* image, which is the scaled one of x/√ᾱ_t; there the statement is an approximation.
"""

from __future__ import annotations

import torch


def kernel_width(model, t: int) -> float:
    """Return σ_t, the width of the kernel among unscaled samples."""
    return float(model.schedule.noises[t] / model.schedule.signals[t])


def local_mean(x: torch.Tensor, samples: torch.Tensor, width: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return m_σ(x), and the effective number of samples in the mean.

    Args:
        x: ``[N, D]``.
        samples: ``[M, D]``, in the space of x.
        width: σ of the Gaussian kernel.

    Returns:
        The means ``[N, D]``, and 1/Σ_i w_i² ``[N]``, from 1 (one sample has all the weight) to M.
    """
    # From differences: expanding the square would cancel digits near a sample.
    distances = torch.cdist(x, samples, compute_mode="donot_use_mm_for_euclid_dist")
    weights = torch.softmax(-(distances**2) / (2 * width**2), dim=1)
    return weights @ samples, 1 / (weights**2).sum(1)


def predict_flat(model, x: torch.Tensor, t: int, batch: int = 64) -> torch.Tensor:
    """Return ε(x, t) of flattened images, float64 ``[N, D]``."""
    shaped = x.reshape(len(x), *model.info.sample_shape).to(model.dtype)
    with torch.no_grad():
        parts = [model.predict_noise(part, torch.full((len(part),), t)) for part in shaped.split(batch)]
    return torch.cat(parts).double().flatten(1)


def cosine(one: torch.Tensor, other: torch.Tensor, least: float = 1e-6) -> torch.Tensor:
    """Return cosines of the angles between rows, ``[N]``; NaN where a row is shorter than ``least``, whose direction is rounding."""
    lengths = one.norm(dim=1), other.norm(dim=1)
    defined = (lengths[0] > least) & (lengths[1] > least)
    value = ((one / lengths[0][:, None]) * (other / lengths[1][:, None])).sum(1).clamp(-1, 1)
    return torch.where(defined, value, torch.nan)


def degrees(cosines: torch.Tensor) -> torch.Tensor:
    """Return the angles of cosines in degrees."""
    return torch.rad2deg(torch.arccos(cosines))
