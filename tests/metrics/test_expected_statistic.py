"""The expected statistic against scikit-learn, and valid p-values although the null set is fitted on."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from mia_hub.metrics.expected_statistic import ExpectedStatistic
from mia_hub.metrics.p_values import ConditionalNull
from mia_hub.metrics.roc import auc, tpr_at_fpr


def draw(rng, n, shift=0.0):
    """A statistic whose mean and spread depend on difficulty; ``shift`` lowers it, as membership would."""
    z = rng.normal(size=(n, 3))
    y = z[:, 0] + 0.5 * z[:, 1] ** 2 + np.exp(0.4 * z[:, 2]) * (rng.normal(size=n) - shift)
    return np.column_stack([y, z])


@pytest.mark.parametrize(("n", "degree"), [(60, 1), (199, 1), (200, 2), (900, 2)])
def test_regression_is_the_one_of_scikit_learn(n, degree):
    rows, other = draw(np.random.default_rng(n), n), draw(np.random.default_rng(1), 30)
    pipeline = lambda d: make_pipeline(StandardScaler(), PolynomialFeatures(d, include_bias=False), StandardScaler(), Ridge(10.0))  # noqa: E731
    mean = pipeline(degree).fit(rows[:, 1:], rows[:, 0])
    residual = rows[:, 0] - mean.predict(rows[:, 1:])
    if n >= 200:
        spread = np.exp(pipeline(1).fit(rows[:, 1:], np.log(np.abs(residual) + 1e-3)).predict(other[:, 1:]))
    else:
        spread = residual.std() + 1e-3
    expected = (other[:, 0] - mean.predict(other[:, 1:])) / spread
    found = ExpectedStatistic(rows[:, 1:], rows[:, 0]).deviation(other[:, 1:], other[:, 0])
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n", [60, 199, 200, 900])
def test_what_was_fitted_on_deviates_as_it_would_from_outside(n):
    rows = draw(np.random.default_rng(n), n)
    fit = ExpectedStatistic(rows[:, 1:], rows[:, 0])
    assert fit.own_deviation.tobytes() == fit.deviation(rows[:, 1:], rows[:, 0]).tobytes()


def test_a_difficulty_that_never_varies_is_no_error():
    rows = draw(np.random.default_rng(0), 50)
    rows[:, 2] = 7.0
    assert np.isfinite(ExpectedStatistic(rows[:, 1:], rows[:, 0]).deviation(rows[:, 1:], rows[:, 0])).all()


def test_given_difficulty_members_are_found_that_the_statistic_alone_misses():
    rng = np.random.default_rng(0)
    fitted, nonmembers, members = draw(rng, 1000), draw(rng, 1000), draw(rng, 1000, shift=2)
    labels = np.repeat([0, 1], 1000)
    both = np.vstack([nonmembers, members])
    given = -ExpectedStatistic(fitted[:, 1:], fitted[:, 0]).deviation(both[:, 1:], both[:, 0])
    assert auc(given, labels) > auc(-both[:, 0], labels) + 0.05
    assert tpr_at_fpr(given, labels, 0.01) > 1.8 * tpr_at_fpr(-both[:, 0], labels, 0.01)


@pytest.mark.parametrize("n", [60, 250])
def test_conformal_p_values_are_uniform_although_the_null_is_also_what_is_fitted_on(n):
    rng = np.random.default_rng(n)
    null = lambda: ConditionalNull(draw(rng, n), tuple(map(str, range(n))))  # noqa: E731
    p = [null().judge(draw(rng, 1)[0]).p_value for _ in range(400)]
    assert kstest(p, "uniform").pvalue > 0.01
    caught = [null().judge(draw(rng, 1, shift=4)[0]).p_value for _ in range(50)]
    assert np.mean(np.array(caught) <= 0.05) > 0.6


def test_a_null_image_is_not_compared_with_itself():
    rows = draw(np.random.default_rng(0), 40)
    null = ConditionalNull(rows, tuple(map(str, range(40))))
    assert null.judge(rows[3], "3").n == 39
    assert null.judge(rows[3]).n == 40
    assert null.judge(rows[3], "3").p_value == ConditionalNull(np.delete(rows, 3, 0), tuple("x" * 39)).judge(rows[3]).p_value
