"""Lower bounds on ε: against slow exact sums, against mechanisms of known ε, and what is refused."""

from __future__ import annotations

import math
from bisect import bisect_right
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import beta, binom, norm

from mia_hub.errors import MetricError
from mia_hub.metrics.epsilon import (
    clopper_pearson_bound,
    fewest_guesses,
    gaussian_bound,
    gaussian_delta,
    gaussian_epsilon,
    gaussian_one_run_bound,
    one_run_bound,
    one_run_p_value,
)
from mia_hub.metrics.epsilon_choices import clopper_pearson_audit, one_run_audit

RUNS = 10_000
# ε, m, guesses, δ
MECHANISMS = [
    (0.0, 50, 50, 0.0), (0.5, 400, 100, 0.0), (1.0, 1000, 1000, 0.0), (2.0, 1000, 60, 0.0), (4.0, 300, 300, 0.0), (8.0, 500, 200, 0.0),
    (0.5, 400, 100, 1e-5), (1.0, 500, 500, 1e-5), (2.0, 1000, 60, 1e-4), (4.0, 300, 300, 1e-3), (1.0, 1000, 250, 1e-3),
]  # fmt: skip


def slow_p_value(v: int, r: int, m: int, q: Fraction, delta: Fraction) -> Fraction:
    """The theorem, in fractions, sum by sum."""
    pmf = [math.comb(r, k) * q**k * (1 - q) ** (r - k) for k in range(r + 1)]
    alpha = max((sum(pmf[v - i : v], Fraction(0)) / i for i in range(1, v + 1)), default=Fraction(0))
    return min(sum(pmf[v:], Fraction(0)) + 2 * m * delta * alpha, Fraction(1))


@pytest.mark.parametrize("odds", [Fraction(1), Fraction(3, 2), Fraction(3), Fraction(50)])
@pytest.mark.parametrize("delta", [Fraction(0), Fraction(1, 10**5), Fraction(1, 50)])
def test_p_values_are_those_of_exact_sums(odds, delta):
    for r, m in ((1, 1), (5, 9), (23, 40)):
        for v in range(r + 1):
            expected = slow_p_value(v, r, m, odds / (1 + odds), delta)
            assert one_run_p_value(v, r, m, math.log(odds), float(delta)) == pytest.approx(float(expected), rel=1e-10)


@pytest.mark.parametrize(
    ("correct", "guesses", "epsilon"),
    [
        # All right: q^r = .05, so ε = log(q / (1 - q)).
        (10, 10, math.log(0.05**0.1 / (1 - 0.05**0.1))),
        (100, 100, math.log(0.05**0.01 / (1 - 0.05**0.01))),
        # At least one of two is right with probability 1 - (1 - q)², which is never as small as .05.
        (5, 10, 0.0), (0, 10, 0.0), (8, 10, 0.0),
    ],
)  # fmt: skip
def test_bounds_worked_out_by_hand(correct, guesses, epsilon):
    assert one_run_bound(correct, guesses, guesses).bound == pytest.approx(epsilon, abs=1e-9)


def test_the_p_value_grows_with_epsilon_up_to_the_level():
    """Else bisection could pass over an ε that is not refuted."""
    grid = np.linspace(0, 8, 161)
    for r, m, delta in ((20, 20, 1e-3), (60, 1000, 1e-4), (300, 300, 1e-3), (200, 4000, 1e-5)):
        for v in range(r // 2, r + 1, max(r // 40, 1)):
            values = np.array([one_run_p_value(v, r, m, epsilon, delta) for epsilon in grid])
            refuted = values <= 0.05
            assert not (refuted[1:] & ~refuted[:-1]).any(), (r, m, delta, v)


def bounds_of(guesses: int, m: int, delta: float) -> np.ndarray:
    """The bound for each possible number of right guesses; it never falls, so few are computed where it is 0."""
    first = next(v for v in range(guesses + 1) if one_run_p_value(v, guesses, m, 0.0, delta) <= 0.05)
    return np.array([0.0] * first + [one_run_bound(v, guesses, m, delta=delta).bound for v in range(first, guesses + 1)])


@pytest.mark.parametrize(("epsilon", "m", "guesses", "delta"), MECHANISMS)
def test_a_mechanism_of_known_epsilon_exceeds_it_in_one_run_of_twenty_at_most(epsilon, m, guesses, delta):
    bounds = bounds_of(guesses, m, delta)
    assert (np.diff(bounds) >= 0).all()
    q, exceeds = 1 / (1 + math.exp(-epsilon)), bounds > epsilon
    # Randomised response that gives each bit away with probability δ: exactly, and simulated.
    leaking = delta + (1 - delta) * q
    assert binom.pmf(np.arange(guesses + 1), guesses, leaking)[exceeds].sum() <= 0.05
    drawn = np.random.default_rng(7).binomial(guesses, leaking, RUNS)
    assert exceeds[drawn].mean() <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / RUNS)
    if not delta:
        return
    # The same failures at once: with probability δ·m/i, i of the bits are given away together.
    for given in (1, 5, guesses // 4, guesses // 2, guesses):
        together = min(delta * m / given, 1)
        lucky = binom.pmf(np.arange(guesses + 1) - given, guesses - given, q)[exceeds].sum()
        usual = binom.pmf(np.arange(guesses + 1), guesses, q)[exceeds].sum()
        assert together * lucky + (1 - together) * usual <= 0.05 + 1e-12, given


@pytest.mark.parametrize("epsilon", [1.0, 2.0, 3.0, 4.0])
@pytest.mark.parametrize("delta", [0.0, 1e-5])
def test_with_ten_thousand_images_the_bound_comes_close(epsilon, delta):
    m, q = 10_000, 1 / (1 + math.exp(-epsilon))
    low = one_run_bound(int(binom.ppf(0.05, m, q)), m, m, delta=delta).bound
    assert 0.8 * epsilon <= low <= epsilon
    assert one_run_bound(int(binom.ppf(0.05, m, q)), m, m).bound >= low


def test_more_delta_or_more_images_that_are_not_guessed_never_raise_the_bound():
    bounds = [one_run_bound(90, 100, 100, delta=delta).bound for delta in (0, 1e-6, 1e-4, 1e-3)]
    assert bounds == sorted(bounds, reverse=True) and bounds[0] > bounds[-1]
    assert one_run_bound(90, 100, 10_000, delta=1e-5).bound < one_run_bound(90, 100, 100, delta=1e-5).bound
    assert one_run_bound(90, 100, 10_000).bound == one_run_bound(90, 100, 100).bound


@pytest.mark.parametrize(("mu", "m", "guesses"), [(0.0, 300, 60), (0.7, 1000, 100), (2.0, 400, 400), (3.0, 400, 40)])
def test_a_gaussian_mechanism_exceeds_its_epsilon_in_one_run_of_twenty_at_most_and_is_bounded_tighter(mu, m, guesses):
    rng, runs, true = np.random.default_rng(11), 2000, gaussian_epsilon(mu, 1e-5)
    coins = rng.integers(0, 2, (runs, m))
    ranked = np.take_along_axis(coins, np.argsort(rng.normal(mu * coins, 1), axis=1), axis=1)
    right = ranked[:, m - guesses // 2 :].sum(1) + (ranked[:, : guesses // 2] == 0).sum(1)
    # The bound grows with the number of right guesses.
    first = bisect_right(range(guesses + 1), true + 1e-9, key=lambda v: gaussian_one_run_bound(v, guesses, m, delta=1e-5).bound)
    assert np.mean(right >= first) <= 0.05
    usual = int(np.median(right))
    plain, gaussian = (bound(usual, guesses, m, delta=1e-5).bound for bound in (one_run_bound, gaussian_one_run_bound))
    assert 0 <= plain <= gaussian and (mu < 0.7 or gaussian > 1.2 * plain > 0)


# --- true- and false-positive rates ---


def test_clopper_pearson_bounds_worked_out_by_hand():
    low, high = 0.025 ** (1 / 100), 1 - 0.025 ** (1 / 200)
    perfect = clopper_pearson_bound(100, 0, 100, 200)
    assert perfect.bound == pytest.approx(max(math.log(low / high), math.log((1 - high) / (1 - low))))
    assert (perfect.guesses, perfect.correct, perfect.m, perfect.guessed_members) == (300, 300, 300, 100)
    low, high = beta.ppf(0.025, 40, 61), beta.ppf(0.975, 3, 198)
    assert clopper_pearson_bound(40, 2, 100, 200, delta=0.01).bound == pytest.approx(math.log((low - 0.01) / high))
    for counts in ((0, 0, 10, 10), (10, 10, 10, 10), (5, 5, 10, 10), (0, 10, 10, 10)):
        assert clopper_pearson_bound(*counts).bound == 0


@pytest.mark.parametrize(("tpr", "fpr"), [(0.5, 0.5), (0.3, 0.02), (0.98, 0.5), (0.9, 0.1)])
def test_the_bound_of_rates_exceeds_the_epsilon_of_the_rates_in_one_run_of_twenty_at_most(tpr, fpr):
    rng, n, epsilon = np.random.default_rng(0), 200, max(math.log(tpr / fpr), math.log((1 - fpr) / (1 - tpr)))
    table = {}
    exceeded = 0
    for counts in zip(rng.binomial(n, tpr, RUNS).tolist(), rng.binomial(n, fpr, RUNS).tolist()):
        if counts not in table:
            table[counts] = clopper_pearson_bound(*counts, n, n).bound
        exceeded += table[counts] > epsilon
    assert exceeded <= 0.05 * RUNS


def test_gaussian_bounds_agree_with_the_gaussian_mechanism():
    for mu in (0.5, 1.0, 3.0):
        for epsilon in (0.1, 1.0, 4.0):
            # δ is how far the likelihood ratio of N(μ, 1) against N(0, 1) exceeds e^ε, over the reals.
            x = np.linspace(-12, 16, 400_001)
            excess = np.maximum(norm.pdf(x, mu) - math.exp(epsilon) * norm.pdf(x), 0).sum() * (x[1] - x[0])
            assert gaussian_delta(mu, epsilon) == pytest.approx(excess, abs=1e-6)
        assert gaussian_delta(mu, gaussian_epsilon(mu, 1e-5)) == pytest.approx(1e-5, rel=1e-6)
    assert gaussian_bound(50, 50, 100, 100, delta=1e-5).bound == 0
    counts = (round(2000 * norm.sf(2 - 3)), round(2000 * norm.sf(2)), 2000, 2000)
    bound = gaussian_bound(*counts, delta=1e-5).bound
    assert clopper_pearson_bound(*counts, delta=1e-5).bound < bound <= gaussian_epsilon(3.0, 1e-5)


# --- scores ---


def scored(n: int, epsilon: float, seed: int):
    """Scores of ε-private randomised response: two values, noise that ties them apart, and a mask."""
    rng = np.random.default_rng(seed)
    coins = rng.integers(0, 2, n)
    said = np.where(rng.random(n) < 1 / (1 + math.exp(-epsilon)), coins, 1 - coins)
    return said + 0.5 * rng.random(n), coins, rng.random(n) < 0.5


def test_scores_of_randomised_response_come_close_and_seldom_exceed():
    results = [one_run_audit(*scored(1000, 2.0, seed), seed=seed) for seed in range(60)]
    assert sum(result.bound > 2.0 for result in results) <= binom.ppf(0.999, 60, 0.05)
    assert np.median([result.bound for result in results]) > 1.4
    assert all(result.m > result.guesses > 0 or result.guesses == result.m for result in results)
    scores, coins, mask = scored(4000, 2.0, 1)
    assert one_run_audit(scores, coins, mask, delta=1e-5).bound <= one_run_audit(scores, coins, mask).bound < 2.0
    assert 1.5 < clopper_pearson_audit(scores, coins, mask).bound < 2.2


def test_few_certain_members_are_worth_more_than_many_uncertain_guesses():
    rng = np.random.default_rng(3)
    coins = rng.integers(0, 2, 4000)
    scores = rng.random(4000) + np.where((coins == 1) & (rng.random(4000) < 0.1), 1.0, 0.0)
    result = one_run_audit(scores, coins, rng.random(4000) < 0.5)
    assert result.bound > 2.5 and result.guesses < 300 and result.guessed_members > 0.9 * result.guesses


@pytest.mark.parametrize("how", ["permuted", "constant", "two values"])
def test_without_information_the_bound_is_zero(how):
    """Rows are sorted by label, as in a split: ties must not give that away."""
    positive, runs = 0, 150
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        coins = np.sort(rng.integers(0, 2, 200))[::-1]
        scores = {"permuted": rng.random(200), "constant": np.zeros(200), "two values": rng.integers(0, 2, 200)}[how]
        positive += one_run_audit(scores, coins, rng.random(200) < 0.5, seed=seed).bound > 0
    assert positive <= binom.ppf(0.999, runs, 0.05)


def test_reported_images_choose_nothing():
    scores, coins, mask = scored(600, 3.0, 5)
    flipped = np.where(mask, coins, 1 - coins)
    one, other = one_run_audit(scores, coins, mask), one_run_audit(scores, flipped, mask)
    assert (one.guesses, one.guessed_members) == (other.guesses, other.guessed_members)
    assert one.correct == other.guesses - other.correct and other.bound == 0 < one.bound


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: one_run_bound(4, 4, 100), "at least 5 guesses"),
        (lambda: one_run_bound(4, 4, 4), "nor can any number"),
        (lambda: one_run_bound(10, 10, 10, delta=0.1), "nor can any number"),
        (lambda: one_run_bound(6, 6, 100, confidence=0.99), "at least 7 guesses"),
        (lambda: one_run_bound(9, 8, 100), "impossible"),
        (lambda: one_run_bound(9, 11, 10), "impossible"),
        (lambda: one_run_bound(2.5, 8, 100), "correct must be an integer"),
        (lambda: one_run_bound(8, 8, 100, delta=-1e-9), "delta must be"),
        (lambda: one_run_bound(8, 8, 100, delta=1), "delta must be"),
        (lambda: one_run_bound(8, 8, 100, delta=math.nan), "delta must be"),
        (lambda: one_run_bound(8, 8, 100, confidence=1), "confidence must"),
        (lambda: one_run_bound(8, 8, 100, confidence=95), "confidence must"),
        (lambda: one_run_p_value(8, 8, 100, -1), "epsilon must"),
        (lambda: clopper_pearson_bound(11, 1, 10, 10), "more than the 10"),
        (lambda: clopper_pearson_bound(1, -1, 10, 10), "integer ≥ 0"),
        (lambda: clopper_pearson_bound(0, 0, 0, 10), "n_members must be an integer ≥ 1"),
        (lambda: gaussian_bound(5, 1, 10, 10, delta=0), "no finite ε"),
        (lambda: one_run_audit([0.1, math.nan] * 50, [0, 1] * 50, [True, False] * 50), "NaN"),
        (lambda: one_run_audit(range(100), [0, 2] * 50, [True, False] * 50), "neither 0 nor 1"),
        (lambda: one_run_audit(range(100), [0, 1] * 50, [0, 1] * 50), "a mask of True and False"),
        (lambda: one_run_audit(range(8), [0, 1] * 4, [True, False] * 4), "4 images, which can't give"),
        (lambda: one_run_audit(range(100), [0, 1] * 50, [True] * 100), "The rest has 0 images"),
        (lambda: clopper_pearson_audit(range(100), [0, 1] * 50, [True, False] * 50), "both classes"),
    ],
)  # fmt: skip
def test_what_is_refused(call, message):
    with pytest.raises(MetricError, match=message):
        call()


def test_the_fewest_guesses_are_the_first_that_can_give_a_bound():
    for m, delta, confidence in ((100, 0.0, 0.95), (1000, 1e-5, 0.95), (1000, 1e-4, 0.99), (10_000, 1e-5, 0.95)):
        fewest = fewest_guesses(m, delta=delta, confidence=confidence)
        refuted = [one_run_p_value(r, r, m, 0.0, delta) <= 1 - confidence for r in range(1, min(m, 400) + 1)]
        assert fewest == refuted.index(True) + 1 and all(refuted[fewest:])
