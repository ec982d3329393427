"""The predictive distribution against numerical integration, and the prior that is fitted on variances against the one drawn from."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import invgamma, norm, t

from mia_hub.metrics.normal_inverse_gamma import NormalInverseGamma


def integrated_cdf(prior, known, at):
    """P(next value ≤ at) by the rule of the trapezium over mean and log σ, from Bayes' theorem alone."""
    means, logs = np.linspace(-6, 6, 1201), np.linspace(-4, 4, 801)
    mean, sigma = np.meshgrid(means, np.exp(logs), indexing="ij")
    # dσ² = 2σ²·d log σ
    log_weight = invgamma.logpdf(sigma**2, prior.alpha, scale=prior.beta) + 2 * np.log(sigma)
    log_weight += norm.logpdf(mean, prior.mean, sigma / np.sqrt(prior.kappa)) if prior.kappa else 0
    log_weight += sum(norm.logpdf(value, mean, sigma) for value in known)
    weight = np.exp(log_weight - log_weight.max())
    return float((weight * norm.cdf(at, mean, sigma)).sum() / weight.sum())


@pytest.mark.parametrize("kappa", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("known", [[0.4], [0.4, -0.3], [1.0, 0.2, 0.3, 0.8]])
def test_the_predictive_distribution_is_a_student_t(kappa, known):
    prior = NormalInverseGamma(mean=0.2, kappa=kappa, alpha=3.0, beta=0.5)
    for at in (-0.5, 0.3, 1.2):
        deviation = prior.deviation(np.array([at]), np.array([known]))
        expected = integrated_cdf(prior, known, at)
        freedom = 2 * prior.alpha + len(known) - (kappa == 0)
        assert t.cdf(deviation[0], freedom) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(("k", "alpha"), [(2, 1.5), (4, 1.5), (4, 4.0), (10, 4.0)])
def test_the_prior_of_variances_is_recovered(k, alpha):
    rng = np.random.default_rng(0)
    variances = invgamma.rvs(alpha, scale=0.02 * alpha, size=200_000, random_state=rng)
    values = rng.normal(size=(200_000, 1)) + np.sqrt(variances)[:, None] * rng.standard_normal((200_000, k))
    prior = NormalInverseGamma.of_variances(values)
    assert prior.kappa == 0 and prior.alpha == pytest.approx(alpha, rel=0.1) and prior.beta == pytest.approx(0.02 * alpha, rel=0.1)


def test_one_variance_of_all_samples_is_recognised():
    values = np.random.default_rng(0).normal(scale=0.3, size=(3000, 3))
    prior = NormalInverseGamma.of_variances(values)
    assert prior.alpha > 20 and prior.beta / prior.alpha == pytest.approx(0.09, rel=0.05)


def test_samples_without_spread_are_no_error():
    values = np.random.default_rng(0).normal(size=(50, 3))
    values[0] = 1.0
    prior = NormalInverseGamma.of_variances(values)
    assert np.isfinite(prior.deviation(values[:, 0] + 1, values)).all()


def test_with_one_value_per_sample_the_deviation_is_their_difference_up_to_a_factor():
    rng = np.random.default_rng(0)
    new, known = rng.normal(size=20), rng.normal(size=(20, 1))
    ratio = NormalInverseGamma.of_variances(known).deviation(new, known) / (new - known[:, 0])
    np.testing.assert_allclose(ratio, ratio[0])
    assert ratio[0] > 0


def test_the_prior_of_the_population_has_its_mean_and_variance():
    values = np.random.default_rng(0).normal(3, 2, (500, 4))
    prior = NormalInverseGamma.of_population(values)
    assert (prior.kappa, prior.alpha, prior.mean) == (1, 2, pytest.approx(values.mean()))
    assert prior.beta / (prior.alpha - 1) == pytest.approx(values.var())
