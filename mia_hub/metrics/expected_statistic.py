"""What a statistic is expected to be for a non-member of the same difficulty, and how far from it a image lies."""

from __future__ import annotations

import numpy as np

# Below it a quadratic has too many terms to be fitted, and the spread is taken to be the same for all images.
FEWEST_FOR_QUADRATIC = 200
PENALTY = 10.0
FLOOR = 1e-3


class ExpectedStatistic:
    """μ(z) and σ(z) of a statistic given a image's difficulty z, by ridge regression on non-members.

    μ is a polynomial in standardised z, of degree 2 from 200 images on and of degree 1 below; log σ is linear in z, fitted to the
    log of the absolute residuals, and constant with fewer than 200 images. (Degrees and penalty were chosen on the demo's
    calibration part.)

    Args:
        z: float ``[n, F]``.
        y: the statistic ``[n]``, or its logarithm.
    """

    def __init__(self, z: np.ndarray, y: np.ndarray):
        many = len(y) >= FEWEST_FOR_QUADRATIC
        self._mean = _Ridge(z, y, degree=2 if many else 1)
        residual = y - self._mean(z)
        if many:
            self._log_spread = _Ridge(z, np.log(np.abs(residual) + FLOOR), degree=1)
        else:
            constant = np.log(residual.std() + FLOOR)
            self._log_spread = lambda other: np.full(len(other), constant)

    def deviation(self, z: np.ndarray, y: np.ndarray) -> np.ndarray:
        """``(y - μ(z))/σ(z)``, ``[m]``: how far above what is expected."""
        return (y - self._mean(z)) / np.exp(self._log_spread(z))


class _Ridge:
    """Ridge regression on a polynomial of standardised features; the intercept is not penalised."""

    def __init__(self, z: np.ndarray, y: np.ndarray, degree: int):
        self._degree, self._scale = degree, _Scale(z)
        x = self._expand(z, self._scale)
        self._terms = _Scale(x)
        x = self._terms(x)
        self._intercept = y.mean()
        self._weights = np.linalg.solve(x.T @ x + PENALTY * np.eye(x.shape[1]), x.T @ (y - self._intercept))

    def _expand(self, z: np.ndarray, scale: _Scale) -> np.ndarray:
        z = scale(z)
        if self._degree == 1:
            return z
        i, j = np.triu_indices(z.shape[1])
        return np.hstack([z, z[:, i] * z[:, j]])

    def __call__(self, z: np.ndarray) -> np.ndarray:
        return self._intercept + self._terms(self._expand(z, self._scale)) @ self._weights


class _Scale:
    """Centres and scales columns; one that never varies is only centred."""

    def __init__(self, x: np.ndarray):
        self._mean, spread = x.mean(axis=0), x.std(axis=0)
        self._spread = np.where(spread > 1e-12, spread, 1.0)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return (x - self._mean) / self._spread
