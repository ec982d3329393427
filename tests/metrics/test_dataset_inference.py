"""CDI's test: calibrated on halves, too small p-values by cross-fitting, an independent reference, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest, ttest_ind
from sklearn.linear_model import LogisticRegression

from mia_hub.errors import MetricError
from mia_hub.metrics.dataset_inference import cdi_test

MIXING = np.random.default_rng(0).normal(size=(4, 12))


def features(n, rng, shift=0.0):
    """Correlated features, the first of which members have higher."""
    values = rng.normal(size=(n, 4)) @ MIXING + 0.5 * rng.normal(size=(n, 12))
    values[:, 0] += shift
    return values


def p_values(repetitions, m=30, **options):
    rng = np.random.default_rng(1)
    return np.array([cdi_test(features(m, rng), features(m, rng), seed=seed, **options).p_value for seed in range(repetitions)])


def test_p_values_of_nonmembers_are_uniform():
    p = p_values(300)
    assert kstest(p, "uniform").pvalue > 0.01 and (p <= 0.05).mean() < 0.09


@pytest.mark.slow
def test_those_of_the_authors_cross_fitting_are_too_small():
    p = p_values(200, folds=5)
    assert (p <= 0.05).mean() > 0.07 and (p <= 0.01).mean() > 0.015


def test_a_difference_is_found_and_its_direction_is_that_of_the_suspects():
    rng = np.random.default_rng(2)
    test = cdi_test(features(60, rng, 1.5), features(60, rng))
    assert test.p_value < 1e-3 and test.scores.mean() > 1
    assert (test.fraction, test.more_needed, test.member_scores) == (None, None, None)
    # Whatever the direction: a classifier is indifferent to it.
    assert cdi_test(features(60, rng, -1.5), features(60, rng)).p_value < 1e-3


@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_that_of_the_steps_by_themselves(seed):
    rng = np.random.default_rng(3)
    own, null = features(25, rng, 0.5), features(25, rng)
    order = np.random.default_rng(seed)
    own_order, null_order = order.permutation(25), order.permutation(25)
    parts = [[side[rows[start::2]] for side, rows in ((own, own_order), (null, null_order))] for start in (0, 1)]
    fit, held = (np.vstack(part) for part in parts)
    mean, spread = fit.mean(0), fit.std(0)
    labels = [1] * len(parts[0][0]) + [0] * len(parts[0][1])
    probability = LogisticRegression(C=1.0, max_iter=1000).fit((fit - mean) / spread, labels).predict_proba((held - mean) / spread)[:, 1]
    expected = ttest_ind(probability[:12], probability[12:], equal_var=False, alternative="greater").pvalue
    test = cdi_test(own, null, seed=seed)
    assert test.p_value == pytest.approx(expected, rel=1e-6) and len(test.scores) == len(test.null_scores) == 12
    assert test.null_scores.mean() == pytest.approx(0, abs=1e-9) and test.null_scores.std(ddof=1) == pytest.approx(1)


@pytest.mark.parametrize(("m", "n", "says"), [(19, 30, "19 different images are too few for CDI"), (30, 29, "got 30 images and 29")])
def test_refusals(m, n, says):
    with pytest.raises(MetricError, match=says):
        cdi_test(np.zeros((m, 3)), np.zeros((n, 3)))


@pytest.mark.filterwarnings("ignore:Precision loss")
def test_features_that_say_nothing_are_no_evidence():
    assert cdi_test(np.zeros((25, 3)), np.zeros((25, 3))).p_value == 1.0
