"""The normal-inverse-gamma prior of mean and variance, fitted on many small samples, and what it predicts of a sample's next value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

# Where the samples' variances differ no more than they would if all were of one variance.
ONE_VARIANCE = 1e6
# A sample's variance counts as at least this share of the median one, so that its logarithm exists.
LEAST_SHARE = 1e-9


@dataclass(frozen=True)
class NormalInverseGamma:
    """σ² ~ inverse gamma(α, β), and the mean ~ N(μ₀, σ²/κ).

    Attributes:
        mean: μ₀.
        kappa: κ ≥ 0; at 0 nothing is assumed of the mean, whose prior is flat.
        alpha, beta: α, β > 0.
    """

    mean: float
    kappa: float
    alpha: float
    beta: float

    @classmethod
    def of_population(cls, values: Values) -> NormalInverseGamma:
        """Return the prior of arXiv 2603.11799 (BaVarIA-t): κ = 1, α = 2; μ₀ and E[σ²] = β/(α - 1) are those of all values together.

        Args:
            values: k values of each of n samples, ``[n, k]``.
        """
        return cls(mean=float(values.mean()), kappa=1.0, alpha=2.0, beta=float(values.var()))

    @classmethod
    def of_variances(cls, values: Values) -> NormalInverseGamma:
        """Return the prior with κ = 0 whose α and β fit the samples' variances, by the moments of their logarithms.

        With one value per sample nothing is known of the variances; then α = β = 1, a constant for all samples. Source: Smyth 2004,
        "Linear models and empirical Bayes methods", Section 6.2, with α = d₀/2 and β = α·s₀².

        Args:
            values: k values of each of n samples, ``[n, k]``.
        """
        from scipy.special import digamma, polygamma  # slow to import

        half = (values.shape[1] - 1) / 2
        if not half:
            return cls(mean=0.0, kappa=0.0, alpha=1.0, beta=1.0)
        variances = values.var(axis=1, ddof=1)
        least = max(LEAST_SHARE * float(np.median(variances)), np.finfo(float).tiny)
        logs = np.log(np.maximum(variances, least)) - digamma(half) + np.log(half)
        excess = float(logs.var(ddof=1) - polygamma(1, half))
        alpha = ONE_VARIANCE if excess <= 0 else min(_inverse_trigamma(excess), ONE_VARIANCE)
        beta = alpha * float(np.exp(logs.mean() + digamma(alpha) - np.log(alpha)))
        return cls(mean=0.0, kappa=0.0, alpha=alpha, beta=beta)

    def deviation(self, new: Values, known: Values) -> Values:
        """Return how far new values lie above the predicted ones, ``[m]``, in units of the scale of their Student t distributions.

        The posterior predictive of a sample with k known values is a Student t with 2α + k degrees of freedom, and with 2α + k - 1 where
        nothing is assumed of the mean (Murphy 2007, "Conjugate Bayesian analysis of the Gaussian distribution", Section 3).

        Args:
            new: one further value of each of m samples, ``[m]``.
            known: the known values of each, ``[m, k]``.
        """
        k, average = known.shape[1], known.mean(axis=1)
        squares = ((known - average[:, None]) ** 2).sum(axis=1)
        kappa, alpha = self.kappa + k, self.alpha + (k if self.kappa else k - 1) / 2
        location = (self.kappa * self.mean + k * average) / kappa
        beta = self.beta + squares / 2 + self.kappa * k * (average - self.mean) ** 2 / (2 * kappa)
        return np.asarray((new - location) / np.sqrt(beta * (kappa + 1) / (alpha * kappa)))


def _inverse_trigamma(y: float) -> float:
    """The x > 0 at which the trigamma function, which falls, is y > 0."""
    from scipy.optimize import brentq
    from scipy.special import polygamma

    # 1/x < ψ'(x) < 1/x + 1/x² for all x > 0.
    low, high = 1 / y, (1 + np.sqrt(1 + 4 * y)) / (2 * y)
    return float(brentq(lambda x: float(polygamma(1, x)) - y, low, high, xtol=1e-12 * high))
