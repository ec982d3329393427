"""Scores with labels whose figures are known by hand, and random ones with many ties."""

from __future__ import annotations

import numpy as np

# By hand, from the top: M 4, N 3, M = N 2 (tied), N 1, M 0, N -1.
TOY = ([4.0, 3.0, 2.0, 2.0, 1.0, 0.0, -1.0], [1, 0, 1, 0, 0, 1, 0])
CONSTANT = ([0.3] * 6, [1, 1, 1, 0, 0, 0])
PERFECT = ([5.0, 4.0, 3.0, 2.0, 1.0, 0.0], [1, 1, 1, 0, 0, 0])
INVERTED = ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [1, 1, 1, 0, 0, 0])


def draw(rng, n1, n0, mu):
    return np.concatenate([rng.normal(mu, 1, n1), rng.normal(0, 1, n0)]), np.repeat([1, 0], [n1, n0])


def tied_draws():
    """Random samples of many sizes, from heavily tied to untied, in shuffled order."""
    rng = np.random.default_rng(11)
    for _ in range(150):
        n1, n0 = rng.integers(1, 40, 2)
        scores, labels = draw(rng, n1, n0, rng.normal(0, 2))
        order = rng.permutation(n1 + n0)
        yield np.round(scores, rng.integers(0, 4))[order], labels[order]
