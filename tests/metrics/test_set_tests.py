"""Tests of sets: exact p-values, power, the share of members, and refusals; figures of the demo come from what was stored with it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest, permutation_test, ttest_ind

from mia_hub.errors import MetricError
from mia_hub.metrics import set_tests
from mia_hub.metrics.set_tests import compare_sets
from mia_hub.references.demo_reference import demo_reference


@pytest.fixture(scope="module")
def demo():
    """What verdicts' attack saw of the demo's reported non-members and members."""
    reference = demo_reference()
    labels = reference.profiles.is_member
    return reference.observations[labels == 0], reference.observations[labels == 1]


@pytest.fixture
def few_permutations(monkeypatch):
    """The test is exact with any number of permutations."""
    monkeypatch.setattr(set_tests, "PERMUTATIONS", 199)


def test_thirty_members_are_found(demo):
    null, members = demo
    for seed in range(10):
        rows = np.random.default_rng(seed).permutation(len(members))
        test = compare_sets(members[rows[:30]], null, members[rows[30:]], seed=seed)
        assert test.p_value < 0.001 and test.p_welch < 0.001
        assert test.fraction.low <= 1.0 <= test.fraction.high and test.fraction.value > 0.7
        assert test.more_needed == 0


def test_thirty_nonmembers_give_uniform_p_values(demo, few_permutations):
    null, _ = demo
    rng = np.random.default_rng(0)
    p, welch = [], []
    for repetition in range(200):
        rows = rng.permutation(len(null))
        test = compare_sets(null[rows[:30]], null[rows[30:630]], seed=repetition)
        p.append(test.p_value)
        welch.append(test.p_welch)
    assert kstest(p, "uniform").pvalue > 0.01
    assert kstest(welch, "uniform").pvalue > 0.01


@pytest.mark.parametrize("share, size", [(0.0, 100), (0.5, 100), (0.2, 5), (0.8, 5), (0.5, 10)])
def test_the_share_of_members_is_covered_by_its_interval(demo, few_permutations, share, size):
    null, members = demo
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(20):
        m, n = rng.permutation(len(members)), rng.permutation(len(null))
        inside = round(size * share)
        suspects = np.vstack([members[m[:inside]], null[n[: size - inside]]])
        fraction = compare_sets(suspects, null[n[size:]], members[m[inside:]], seed=seed).fraction
        covered += fraction.low <= share <= fraction.high
    assert covered >= 16  # of 20, where 95 % are aimed at: fewer has a chance below 3 in 1,000


def test_without_known_members_the_share_is_a_lower_bound(demo):
    null, members = demo
    fraction = compare_sets(np.vstack([members[:40], null[:40]]), null[40:]).fraction
    assert fraction.at_least and fraction.high == 1.0
    assert 0.05 < fraction.low < 0.5
    assert fraction.low <= fraction.value <= 0.6


def test_a_set_that_scores_above_known_members_gets_a_bound_of_its_share():
    """An interval from 100 % to 100 % would claim a certainty that known members of another kind can't give."""
    rng = np.random.default_rng(0)
    null, members, own = (rng.normal(mean, 1, (n, 1)) for mean, n in ((0, 400), (-2, 400), (-8, 40)))
    fraction = compare_sets(own, null, members).fraction
    assert fraction == compare_sets(own, null).fraction
    assert fraction.at_least and 0.7 < fraction.low < 1 and fraction.high == 1


def test_more_images_are_needed_for_a_weak_set_and_that_many_suffice(demo):
    null, members = demo
    tried = ((k, compare_sets(np.vstack([members[:k], null[: 20 - k]]), null[500:], seed=3)) for k in range(1, 20))
    k, test = next((k, test) for k, test in tried if test.p_value < 0.2)
    assert test.p_value > 0.01 and test.more_needed > 0
    scale = 1 + test.more_needed / 20
    larger = np.vstack([members[: round(k * scale)], null[: round((20 - k) * scale)]])
    assert compare_sets(larger, null[500:], seed=3).p_value <= 0.01
    # A set that looks less like members than non-members do: no number of such images would do.
    easiest = null[np.argsort(-compare_sets(null[:100], null[100:]).scores)[-20:]]
    assert compare_sets(easiest, null[100:]).more_needed is None


def test_p_values_are_those_of_scipy_on_plain_scores():
    """With plain scores nothing is fitted, so both tests can be compared with an independent implementation."""
    rng = np.random.default_rng(0)
    own, null = rng.normal(0.25, 1, 25), rng.normal(size=300)
    test = compare_sets(own, null)
    own_scaled = test.scores
    centre, spread = np.median(np.concatenate([own, null])), np.subtract(*np.quantile(np.concatenate([own, null]), (0.8413, 0.1587))) / 2
    null_scaled = np.clip((null - centre) / spread, -3, 3)
    np.testing.assert_allclose(own_scaled, np.clip((own - centre) / spread, -3, 3))
    assert test.p_welch == pytest.approx(ttest_ind(own_scaled, null_scaled, equal_var=False, alternative="greater").pvalue, rel=1e-9)
    scipys = permutation_test(
        (own_scaled, null_scaled), lambda a, b, axis: a.mean(axis) - b.mean(axis), alternative="greater", n_resamples=20000, vectorized=True
    )
    assert test.p_value == pytest.approx(scipys.pvalue, abs=0.012)


def test_one_extreme_image_does_not_carry_a_set():
    null = np.random.default_rng(0).normal(size=500)
    own = np.concatenate([np.random.default_rng(1).normal(size=19), [1e6]])
    assert compare_sets(own, null).p_value > 0.05


def test_evidence_needs_no_further_images():
    # A weak but sure difference: of many non-members, with little to spare.
    rng = np.random.default_rng(0)
    for shift in np.linspace(0.2, 1.5, 14):
        test = compare_sets(rng.normal(shift, 1, 30), rng.normal(0, 1, 500))
        assert (test.more_needed == 0) >= (test.p_value <= 0.01)


def test_a_set_too_small_is_refused():
    with pytest.raises(MetricError, match="4 different images are too few"):
        compare_sets(np.zeros(4), np.arange(100.0))


def test_too_few_nonmembers_are_refused():
    with pytest.raises(MetricError, match="19 known non-members are too few"):
        compare_sets(np.arange(5.0), np.arange(19.0))
