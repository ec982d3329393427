"""SecMI (arXiv 2302.01316)."""

from math import fsum, sqrt


def clean(x, t, eps, alphas_cumprod):
    """f(x, t) = (x - √(1-ᾱ_t)·ε(x, t))/√ᾱ_t."""
    return [(v - sqrt(1 - alphas_cumprod[t]) * e) / sqrt(alphas_cumprod[t]) for v, e in zip(x, eps(x, t))]


def step(x, t, s, eps, alphas_cumprod):
    """The deterministic DDIM step from t to s: √ᾱ_s·f(x, t) + √(1-ᾱ_s)·ε(x, t)."""
    return [sqrt(alphas_cumprod[s]) * f + sqrt(1 - alphas_cumprod[s]) * e for f, e in zip(clean(x, t, eps, alphas_cumprod), eps(x, t))]


def inverted(x0, t, k, eps, alphas_cumprod):
    """x̃_t: from x0 at timestep 0 up to t in steps of k."""
    x = x0
    for before in range(0, t, k):
        x = step(x, before, before + k, eps, alphas_cumprod)
    return x


def difference_map(x0, t, k, eps, alphas_cumprod):
    """|x̂_t - x̃_t|, element by element; x̂_t is x̃_t taken one step on, to t+k, and one step back."""
    x_tilde = inverted(x0, t, k, eps, alphas_cumprod)
    x_hat = step(step(x_tilde, t, t + k, eps, alphas_cumprod), t + k, t, eps, alphas_cumprod)
    return [abs(a - b) for a, b in zip(x_hat, x_tilde)]


def t_error(x0, t, k, eps, alphas_cumprod):
    """‖x̂_t - x̃_t‖₂²."""
    return fsum(d * d for d in difference_map(x0, t, k, eps, alphas_cumprod))
