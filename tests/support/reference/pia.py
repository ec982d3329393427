"""PIA and PIAN (arXiv 2305.18355)."""

from math import fsum, pi, sqrt


def _distance(e, x0, t, eps, alphas_cumprod, p):
    """‖e - ε(√ᾱ_t·x0 + √(1-ᾱ_t)·e, t)‖_p."""
    x_t = [sqrt(alphas_cumprod[t]) * x + sqrt(1 - alphas_cumprod[t]) * n for x, n in zip(x0, e)]
    return fsum(abs(a - b) ** p for a, b in zip(e, eps(x_t, t))) ** (1 / p)


def pia(x0, t, eps, alphas_cumprod, p=4):
    """With e = ε(x0, 0)."""
    return _distance(eps(x0, 0), x0, t, eps, alphas_cumprod, p)


def pian(x0, t, eps, alphas_cumprod, p=4):
    """With e = ε(x0, 0), scaled to the mean absolute value of a standard Gaussian, √(2/π)."""
    e = eps(x0, 0)
    mean = fsum(abs(v) for v in e) / len(e)
    return _distance([v * sqrt(2 / pi) / mean for v in e], x0, t, eps, alphas_cumprod, p)
