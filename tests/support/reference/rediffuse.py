"""ReDiffuse (arXiv 2405.20771)."""

from math import fsum, sqrt


def variation(x0, t, k, eps, alphas_cumprod, e, to_zero=False):
    """Noised to t, then led back: by DDIM steps of k while that leaves a timestep above 0, and at the end to the clean
    image; or, where k divides t, to timestep 0."""
    x = [sqrt(alphas_cumprod[t]) * value + sqrt(1 - alphas_cumprod[t]) * n for value, n in zip(x0, e)]
    while True:
        predicted = eps(x, t)
        clean = [(value - sqrt(1 - alphas_cumprod[t]) * n) / sqrt(alphas_cumprod[t]) for value, n in zip(x, predicted)]
        if t - k <= 0 and not to_zero:
            return clean
        t = t - k
        x = [sqrt(alphas_cumprod[t]) * value + sqrt(1 - alphas_cumprod[t]) * n for value, n in zip(clean, predicted)]
        if t == 0:
            return x


def distance_to_mean(x0, variations):
    """‖x0 - mean variation‖₂."""
    means = [fsum(column) / len(variations) for column in zip(*variations)]
    return sqrt(fsum((value - mean) ** 2 for value, mean in zip(x0, means)))
