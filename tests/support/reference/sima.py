"""SimA and SimA-MC (arXiv 2509.25003)."""

from math import fsum, sqrt


def norm(vector, p):
    """‖v‖_p = (Σ |v_i|^p)^(1/p)."""
    return fsum(abs(v) ** p for v in vector) ** (1 / p)


def noised(x0, e, t, alphas_cumprod):
    """x_t = √ᾱ_t·x0 + √(1-ᾱ_t)·e."""
    return [sqrt(alphas_cumprod[t]) * x + sqrt(1 - alphas_cumprod[t]) * n for x, n in zip(x0, e)]


def sima(x0, t, eps, p=4):
    """‖ε(x0, t)‖_p: the clean image under the label t."""
    return norm(eps(x0, t), p)


def sima_mc_vector_mean(x0, t, eps, alphas_cumprod, draws, p=4):
    """‖(1/n) Σ_k ε(x_t^(k), t)‖_p over the given draws of e."""
    predicted = [eps(noised(x0, e, t, alphas_cumprod), t) for e in draws]
    return norm([fsum(column) / len(draws) for column in zip(*predicted)], p)


def sima_mc_norm_mean(x0, t, eps, alphas_cumprod, draws, p=4):
    """(1/n) Σ_k ‖ε(x_t^(k), t)‖_p (Eq. 13) over the given draws of e."""
    return fsum(norm(eps(noised(x0, e, t, alphas_cumprod), t), p) for e in draws) / len(draws)
