"""The expected statistic of a non-member of given difficulty, and the deviation of an image from it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

# With fewer images a quadratic has too many terms to be fitted, and the spread is assumed to be the same for all images.
FEWEST_FOR_QUADRATIC = 200
PENALTY = 10.0
FLOOR = 1e-3


class ExpectedStatistic:
    """μ(z) and σ(z) of a statistic given an image's difficulty z, by ridge regression on non-members.

    μ is a polynomial in standardised z, of degree 2 from 200 images on and of degree 1 below; log σ is linear in z, fitted to the
    log of the absolute residuals, and constant with fewer than 200 images. (Degrees and penalty were chosen on the demo's
    calibration part.)

    Args:
        z: float ``[n, F]``.
        y: the statistic ``[n]``, or its logarithm.
        form_of: number of images whose form is fitted, where another fit than that of these n is to be foreseen; n by default.

    Attributes:
        own_deviation: `deviation` of these images themselves, ``[n]``, to the last bit, without computing their terms again.
    """

    def __init__(self, z: npt.NDArray[np.float64], y: npt.NDArray[np.float64], *, form_of: int | None = None):
        many = (form_of or len(y)) >= FEWEST_FOR_QUADRATIC
        self._mean = _Ridge(z, y, degree=2 if many else 1)
        residual = y - self._mean.fitted
        self._log_spread: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
        if many:
            spread = _Ridge(z, np.log(np.abs(residual) + FLOOR), degree=1)
            self._log_spread, log_spread = spread, spread.fitted
        else:
            constant = np.log(residual.std() + FLOOR)
            self._log_spread, log_spread = lambda others: np.full(len(others), constant), np.full(len(y), constant)
        self.own_deviation: npt.NDArray[np.float64] = np.asarray(residual / np.exp(log_spread))

    def deviation(self, z: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return ``(y - μ(z))/σ(z)``, ``[m]``: how far the statistics ``[m]`` lie above the expected ones, in standard deviations."""
        return np.asarray((y - self._mean(z)) / np.exp(self._log_spread(z)))


class _Ridge:
    """Ridge regression on a polynomial of standardised features; the intercept is not penalised. ``fitted``: its values ``[n]``."""

    def __init__(self, z: npt.NDArray[np.float64], y: npt.NDArray[np.float64], degree: int):
        self._degree, self._scale = degree, _Scale(z)
        terms = self._terms(z)
        self._term_scale = _Scale(terms)
        x = self._term_scale(terms)
        self._intercept = y.mean()
        self._weights = np.linalg.solve(x.T @ x + PENALTY * np.eye(x.shape[1]), x.T @ (y - self._intercept))
        self.fitted = np.asarray(self._intercept + x @ self._weights)

    def _terms(self, z: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        z = self._scale(z)
        if self._degree == 1:
            return z
        i, j = np.triu_indices(z.shape[1])
        return np.hstack([z, z[:, i] * z[:, j]])

    def __call__(self, z: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(self._intercept + self._term_scale(self._terms(z)) @ self._weights)


class _Scale:
    """Centres and scales columns; a constant column is only centred."""

    def __init__(self, x: npt.NDArray[np.float64]):
        self._mean, spread = x.mean(axis=0), x.std(axis=0)
        self._spread = np.where(spread > 1e-12, spread, 1.0)

    def __call__(self, x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray((x - self._mean) / self._spread)
