"""CLiD (arXiv 2405.14800); ``eps(x, t, caption)`` is the predicted noise under a caption, and ``draws[t]`` the draw e."""

from math import fsum, sqrt
from statistics import quantiles


def loss(x0, caption, timesteps, eps, alphas_cumprod, draws):
    """L(x|c): the mean over timesteps of Σ (e - ε(x_t, t, c))²."""
    losses = []
    for t in timesteps:
        x_t = [sqrt(alphas_cumprod[t]) * x + sqrt(1 - alphas_cumprod[t]) * e for x, e in zip(x0, draws[t])]
        losses.append(fsum((e - predicted) ** 2 for e, predicted in zip(draws[t], eps(x_t, t, caption))))
    return fsum(losses) / len(losses)


def clid(x0, caption, reduced, timesteps, eps, alphas_cumprod, draws):
    """-L(x|c), and the mean over reduced captions c' of L(x|c') - L(x|c)."""
    own = loss(x0, caption, timesteps, eps, alphas_cumprod, draws)
    rises = [loss(x0, other, timesteps, eps, alphas_cumprod, draws) - own for other in reduced]
    return -own, fsum(rises) / len(rises)


def scaled(value, known):
    """S: (v - median)/(75 % quartile - 25 % quartile) of the known values."""
    low, median, high = quantiles(known, n=4, method="inclusive")
    return (value - median) / (high - low)


def best_weight(known, is_member, weights):
    """The a of highest AUC of (1-a)·S(-L) + a·S(CLiD) on the known images, counted pair by pair; of those that tie the middle one."""
    columns = list(zip(*known))
    reached = []
    for a in weights:
        scores = [(1 - a) * scaled(loss, columns[0]) + a * scaled(rise, columns[1]) for loss, rise in known]
        pairs = [(m, n) for m, own in zip(scores, is_member) if own for n, other in zip(scores, is_member) if not other]
        reached.append(sum(1.0 if m > n else 0.5 if m == n else 0.0 for m, n in pairs))
    best = [a for a, value in zip(weights, reached) if value == max(reached)]
    return best[len(best) // 2]
