"""p-values that hold for one null set: the probability of every bound, exactly and by simulation, and what can be reached."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mia_hub.metrics.calibration_conditional import (
    DELTA,
    EXACT_CONSTANTS,
    asymptotic_constant,
    constant,
    coverage,
    enough_for,
    holds_for_reference,
    simes,
    smallest,
    with_constant,
)
from mia_hub.metrics.p_values import ALPHA, CONDITIONAL, CriticalScore, NullDistribution


def bounds(n: int, c: float | None = None) -> np.ndarray:
    return with_constant(n, constant(n) if c is None else c, np.arange(1, n + 1))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([0.3], 0.3),
        ([0.2, 0.5], 2 * 0.2 * 0.5 - 0.2**2),
        ([0.5, 0.5], 0.25),
        ([0.0, 1.0], 0.0),
        ([1.0, 1.0, 1.0], 1.0),
        (np.repeat(0.9, 50), 0.9**50),
        ([0.1, 1.0, 1.0, 1.0], 1 - 0.9**4),  # the smallest of four alone
        (simes(60), 1 - DELTA),  # Simes' inequality is an equality for independent draws
        (simes(501), 1 - DELTA),
    ],
)
def test_the_probability_of_bounds_is_that_of_closed_forms(given, expected):
    assert coverage(np.asarray(given, dtype=float)) == pytest.approx(expected, abs=1e-9)


def test_the_probability_of_bounds_is_that_of_simulated_draws():
    draws, b = np.sort(np.random.default_rng(0).random((20_000, 40)), axis=1), bounds(40, 2.0)
    assert coverage(b) == pytest.approx((draws <= b).all(axis=1).mean(), abs=4 * math.sqrt(0.1 * 0.9 / 20_000))


@pytest.mark.parametrize("n", [n for n in EXACT_CONSTANTS if n <= 1000])
def test_the_constants_are_exact(n):
    assert 1 - DELTA <= coverage(bounds(n)) <= 1 - DELTA + 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("n", [n for n in EXACT_CONSTANTS if 1000 < n <= 20_000])
def test_the_constants_are_exact_for_many(n):
    assert 1 - DELTA <= coverage(bounds(n)) <= 1 - DELTA + 1e-4


@pytest.mark.parametrize("n", [19, 21, 99, 421, 1100])
def test_between_the_constants_they_are_on_the_safe_side(n):
    assert 1 - DELTA <= coverage(bounds(n)) <= 0.98


def test_constants_grow_and_the_asymptotic_one_is_larger():
    values = list(EXACT_CONSTANTS.values())
    assert values == sorted(values)
    assert all(c < asymptotic_constant(n) for n, c in EXACT_CONSTANTS.items())
    assert constant(10**6) == asymptotic_constant(10**6) > values[-1]


def test_no_more_than_one_null_set_in_twenty_fails_at_any_level():
    """Null scores are uniform, so that of fresh non-members exactly 1 - s score above s; p of a score just above s must not be less."""
    rng, n, runs, failed = np.random.default_rng(1), 120, 1000, 0
    adjusted = np.array([holds_for_reference(rank / (n + 1), n) for rank in range(1, n + 2)])
    null = NullDistribution(np.linspace(0, 1, n), tuple(map(str, range(n))), 0)
    assert [null.judge(score).p_conditional for score in (2, 0.5, -1)] == [adjusted[0], adjusted[n // 2], adjusted[-1]]
    for _ in range(runs):
        scores = np.sort(rng.random(n))[::-1]
        # Just above the i-th highest null score the rank is i.
        failed += bool((1 - scores > adjusted[:n]).any())
    assert failed / runs <= DELTA + 3 * math.sqrt(DELTA * (1 - DELTA) / runs)
    assert failed / runs >= DELTA / 3, "the adjustment is needlessly strict"


def test_it_is_monotone_and_never_below_the_conformal_p_value():
    for n in (20, 99, 5000):
        p = np.arange(1, n + 2) / (n + 1)
        adjusted = np.array([holds_for_reference(each, n) for each in p])
        assert (np.diff(adjusted) >= 0).all() and (adjusted >= p).all() and adjusted[-1] == 1.0


def test_what_can_be_reached():
    enough = enough_for(ALPHA)
    assert smallest(enough) <= ALPHA < smallest(enough - 1)
    # No adjustment can do with fewer than log(DELTA)/log(1 - ALPHA); Simes' needs more than this one.
    assert math.log(DELTA) / math.log(1 - ALPHA) < enough < next(n for n in range(300, 1000) if simes(n)[0] <= ALPHA)


@pytest.mark.parametrize(("n", "above"), [(99, None), (421, None), (422, 0), (20_000, 156)])
def test_the_critical_score_is_that_of_the_adjusted_p_value(n, above):
    scores = np.random.default_rng(2).permutation(n).astype(float)
    critical, null = CriticalScore.of(scores, CONDITIONAL), NullDistribution(scores, ("x",) * n, 0)
    assert (None if critical is None else critical.n_above) == above
    if critical is not None:
        assert null.judge(critical.score + 0.5).p_conditional <= ALPHA < null.judge(critical.score).p_conditional
