"""Intervals: against their literal definitions and printed tables, and by simulation with a known truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats
from support.toy_scores import CONSTANT, INVERTED, PERFECT, TOY, draw, tied_draws

from mia_hub import metrics
from mia_hub.errors import MetricError


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.tpr_at_fpr(*TOY, 0.01), "can't be measured with 4 non-members.*At least 100 non-members.*nothing is extrapolated"),
        (lambda: metrics.threshold_at_fpr(*TOY, 0.001), "At least 1000 non-members"),
        (lambda: metrics.tpr_at_fpr_interval(*TOY, 0.2), "At least 5 non-members"),
        (lambda: metrics.legacy_swapped_tpr(*TOY, 0.01), "can't be measured with 3 members.*At least 100 members"),
        (lambda: metrics.tpr_at_fpr(*TOY, 0), "must be above 0 and at most 1"),
        (lambda: metrics.tpr_at_fpr(*TOY, 1.5), "1.5 is out of range"),
        (lambda: metrics.legacy_swapped_tpr(*TOY, math.nan), "nan is out of range"),
        (lambda: metrics.balanced_accuracy_at(*TOY, math.nan), "threshold is NaN"),
        (lambda: metrics.clopper_pearson(6, 5), "6 of 5 is not"),
        (lambda: metrics.clopper_pearson(0, 0), "0 of 0 is not"),
        (lambda: metrics.clopper_pearson(1.5, 5), "successes must be an integer from 0 to n"),
        (lambda: metrics.balanced_accuracy_interval(1, 5, -1, 5), "-1 of 5 is not"),
        (lambda: metrics.delong(*TOY, confidence=95), "95 is out of range.*Give 0.95 for 95%"),
        (lambda: metrics.asr_interval(*TOY, resamples=10), "10 resamples are too few"),
        (lambda: metrics.tpr_at_fpr_interval(*TOY, 0.5, confidence=1), "confidence 1 is out of range"),
    ],
)
def test_refuses_bad_arguments(call, message):
    with pytest.raises(MetricError, match=message):
        call()


@pytest.mark.parametrize(
    ("successes", "n", "confidence", "low", "high"),
    [  # printed tables of exact binomial limits
        (0, 10, 0.95, 0.0, 0.3085),
        (1, 10, 0.95, 0.0025, 0.4450),
        (5, 10, 0.95, 0.1871, 0.8129),
        (10, 10, 0.95, 0.6915, 1.0),
        (2, 20, 0.95, 0.0123, 0.3170),
        (50, 100, 0.95, 0.3983, 0.6017),
        (0, 10, 0.99, 0.0, 0.4113),
    ],
)
def test_clopper_pearson_table(successes, n, confidence, low, high):
    assert metrics.clopper_pearson(successes, n, confidence) == pytest.approx((low, high), abs=6e-5)


def test_delong_agrees_with_the_literal_definition():
    compared = 0
    for scores, labels in tied_draws():
        members, nonmembers = scores[labels == 1], scores[labels == 0]
        wins = (members[:, None] > nonmembers) + 0.5 * (members[:, None] == nonmembers)
        by_member, by_nonmember = wins.mean(1), wins.mean(0)
        if min(wins.shape) < 2:
            continue
        variance = by_member.var(ddof=1) / members.size + by_nonmember.var(ddof=1) / nonmembers.size
        if variance < 1e-20:
            continue
        area = wins.mean()
        reach = stats.norm.ppf(0.95) * math.sqrt(variance) / (area * (1 - area))
        expected = [1 / (1 + math.exp(-(math.log(area / (1 - area)) + sign * reach))) for sign in (-1, 1)]
        assert metrics.delong(scores, labels, confidence=0.9) == pytest.approx(expected, abs=1e-9)
        compared += 1
    assert compared > 100


@pytest.mark.parametrize(
    ("sample", "low", "high"),
    [
        (PERFECT, 0.025 ** (1 / 3), 1.0),
        (INVERTED, 0.0, 1 - 0.025 ** (1 / 3)),
        (([2.0, 1.0, 0.0], [1, 0, 0]), 0.025, 1.0),  # one member
        (CONSTANT, stats.beta.ppf(0.025, 1.5, 2.5), stats.beta.ppf(0.975, 2.5, 1.5)),
    ],
)
def test_delong_never_claims_certainty(sample, low, high):
    assert metrics.delong(*sample) == pytest.approx((low, high), abs=1e-9)


@pytest.mark.parametrize("sample", [PERFECT, INVERTED, CONSTANT, TOY])
def test_intervals_are_honest_on_tiny_samples(sample):
    for figure, interval, arguments in (
        (metrics.auc, metrics.delong, ()),
        (metrics.tpr_at_fpr, metrics.tpr_at_fpr_interval, (0.34,)),
        (metrics.asr, metrics.asr_interval, ()),
    ):
        low, high = interval(*sample, *arguments)
        assert 0 <= low <= figure(*sample, *arguments) <= high <= 1
        assert high - low > 0.3


def test_intervals_hold_their_figure_and_widen_with_confidence():
    for scores, labels in tied_draws():
        n0 = np.sum(labels == 0)
        for figure, interval, arguments in (
            (metrics.auc, metrics.delong, ()),
            (metrics.tpr_at_fpr, metrics.tpr_at_fpr_interval, (max(0.3, 1 / n0),)),
            (metrics.asr, metrics.asr_interval, ()),
        ):
            options = {} if interval is metrics.delong else {"resamples": 1000 if arguments else 100}
            low, high = interval(scores, labels, *arguments, **options)
            wide_low, wide_high = interval(scores, labels, *arguments, confidence=0.99, **options)
            assert 0 <= wide_low <= low <= figure(scores, labels, *arguments) + 1e-12
            assert figure(scores, labels, *arguments) - 1e-12 <= high <= wide_high <= 1


@pytest.mark.parametrize("interval", [lambda *s, **k: metrics.tpr_at_fpr_interval(*s, 0.05, **k), metrics.asr_interval])
def test_seed_fixes_the_interval(interval):
    sample = draw(np.random.default_rng(3), 300, 300, 1)
    assert interval(*sample, seed=1) == interval(*sample, seed=1)
    assert interval(*sample, seed=1) != interval(*sample, seed=2)
    assert interval(*sample, seed=1) == pytest.approx(interval(*sample, seed=2), abs=0.02)


def test_tpr_interval_is_the_tail_of_the_exact_mixture():
    """The random draws stand for a mixture of beta distributions over the rank, which can be summed: same quantiles."""
    rng = np.random.default_rng(4)
    for n1, n0, mu, fpr in [(60, 80, 1.0, 0.1), (100, 400, 2.0, 0.02), (40, 50, 0.5, 0.3)]:
        scores, labels = draw(rng, n1, n0, mu)
        members, nonmembers = scores[labels == 1], sorted(scores[labels == 0], reverse=True)
        rank_weights = np.convolve(stats.binom.pmf(np.arange(n0 + 1), n0, fpr), [0.5, 0.5])
        edges = [math.inf, *nonmembers, -math.inf]
        above = np.array([np.sum(members > edge) for edge in edges])

        def low_cdf(x, above=above, weights=rank_weights, n=n1):
            return weights @ np.where(above == 0, 1.0, stats.beta.cdf(x, np.maximum(above, 1), n - above + 1))

        def high_cdf(x, above=above, weights=rank_weights, n=n1):
            return weights @ np.where(above == n, 0.0, stats.beta.cdf(x, above + 1, np.maximum(n - above, 1)))

        expected_low = optimize.brentq(lambda x: low_cdf(x) - 0.025, 0, 1)
        expected_high = optimize.brentq(lambda x: high_cdf(x) - 0.975, 0, 1)
        low, high = metrics.tpr_at_fpr_interval(scores, labels, fpr, resamples=200_000)
        assert (low, high) == pytest.approx((expected_low, expected_high), abs=0.004)


def test_tpr_interval_knows_what_is_known():
    rng = np.random.default_rng(6)
    # With the threshold all but known (no members near it), only the members' own uncertainty is left.
    scores = np.concatenate([np.full(30, 50.0), np.full(70, -50.0), rng.normal(size=20_000)])
    labels = np.repeat([1, 0], [100, 20_000])
    assert metrics.tpr_at_fpr_interval(scores, labels, 0.01) == pytest.approx(metrics.clopper_pearson(30, 100), abs=0.005)
    # At one allowed false positive the true threshold may lie above all non-members: nothing is known from below.
    assert metrics.tpr_at_fpr_interval(*draw(rng, 100, 100, 2), 0.01)[0] == 0
    assert metrics.tpr_at_fpr_interval(scores, labels, 1.0) == (1, 1)


def test_balanced_accuracy_interval_covers_everywhere():
    """Exactly, by summing over all outcomes."""
    n1, n0 = 12, 25
    limits = np.array([[metrics.balanced_accuracy_interval(a, n1, b, n0) for b in range(n0 + 1)] for a in range(n1 + 1)])
    assert limits.min() >= 0
    assert limits.max() <= 1
    assert np.all(limits[..., 1] - limits[..., 0] > 0.1)
    for tpr in (0.01, 0.1, 0.5, 0.8, 0.99):
        for tnr in (0.02, 0.3, 0.6, 0.95, 0.99):
            truth = (tpr + tnr) / 2
            chance = np.outer(stats.binom.pmf(range(n1 + 1), n1, tpr), stats.binom.pmf(range(n0 + 1), n0, tnr))
            assert chance[(limits[..., 0] <= truth) & (truth <= limits[..., 1])].sum() >= 0.95


def test_balanced_accuracy_interval_by_hand():
    (tpr_low, tpr_high), (tnr_low, tnr_high) = metrics.clopper_pearson(8, 10), metrics.clopper_pearson(15, 20)
    low, high = metrics.balanced_accuracy_interval(8, 10, 15, 20)
    assert low == pytest.approx(0.775 - 0.5 * math.sqrt((0.8 - tpr_low) ** 2 + (0.75 - tnr_low) ** 2))
    assert high == pytest.approx(0.775 + 0.5 * math.sqrt((tpr_high - 0.8) ** 2 + (tnr_high - 0.75) ** 2))


@pytest.mark.parametrize("mu", [0, 1, 2])
@pytest.mark.parametrize(("n1", "n0"), [(30, 60), (256, 1000)])
@pytest.mark.parametrize("name", ["delong", "tpr_at_fpr_interval", "asr_interval"])
def test_coverage(name, n1, n0, mu):
    """Over 300 samples with a known truth. 0.05 below 0.95 is four standard errors; an interval that covers 0.88 fails half the time."""
    fpr = 0.05
    interval, truth = {
        "delong": (metrics.delong, stats.norm.cdf(mu / math.sqrt(2))),
        "tpr_at_fpr_interval": (
            lambda *sample: metrics.tpr_at_fpr_interval(*sample, fpr, resamples=2000),
            stats.norm.sf(stats.norm.isf(fpr) - mu),
        ),
        "asr_interval": (lambda *sample: metrics.asr_interval(*sample, resamples=100), stats.norm.cdf(mu / 2)),
    }[name]
    rng = np.random.default_rng(7)
    runs = 300
    limits = np.array([interval(*draw(rng, n1, n0, mu)) for _ in range(runs)])
    covered = np.mean((limits[:, 0] <= truth) & (truth <= limits[:, 1]))
    assert covered >= 0.95 - 4 * math.sqrt(0.95 * 0.05 / runs)
    # Informative too: the width at a standard error of sqrt(1 / n1 + 1 / n0) / 2, or more where the FPR's threshold is uncertain.
    widest = {"delong": 4.2, "tpr_at_fpr_interval": 11.0, "asr_interval": 4.2}[name] * math.sqrt(1 / n1 + 1 / n0) / 2
    assert np.mean(limits[:, 1] - limits[:, 0]) < widest


def test_asr_interval_does_not_claim_power_that_is_not_there():
    rng = np.random.default_rng(8)
    lows = [metrics.asr_interval(*draw(rng, 200, 200, 0), resamples=100)[0] for _ in range(400)]
    claimed = np.mean(np.array(lows) > 0.5)
    assert claimed <= 0.025 + 4 * math.sqrt(0.025 * 0.975 / 400)


def test_asr_interval_needs_more_than_a_lucky_threshold():
    """The one-sided Kolmogorov-Smirnov bound for 1000 + 1000 samples is 0.5304; at a threshold fixed beforehand 0.5285 would do."""
    labels = np.repeat([1, 0], 1000)

    def sample(caught):
        return np.concatenate([np.arange(1000) < caught, np.arange(1000) < 500]).astype(float)

    assert metrics.asr(sample(557), labels) == pytest.approx(0.5285)
    assert metrics.balanced_accuracy_interval(557, 1000, 500, 1000)[0] > 0.5
    assert metrics.asr_interval(sample(557), labels)[0] == 0.5
    assert metrics.asr_interval(sample(565), labels)[0] > 0.5


def test_the_interval_of_a_difference_holds_the_true_one_and_is_narrower_for_paired_scores():
    rng, held, widths = np.random.default_rng(5), 0, []
    truth = stats.norm.cdf(1.0 / math.sqrt(2)) - stats.norm.cdf(0.7 / math.sqrt(2))
    for _ in range(1000):
        common, labels = rng.normal(0, 0.8, 300), np.repeat([1, 0], [100, 200])
        one, other = (common + rng.normal(0, 0.6, 300) + mean * labels for mean in (1.0, 0.7))
        difference, low, high = metrics.auc_difference(one, other, labels)
        assert difference == pytest.approx(metrics.auc(one, labels) - metrics.auc(other, labels), abs=1e-12)
        held += low <= truth <= high
        widths.append(high - low)
    assert 0.93 <= held / 1000 <= 0.97
    low, high = metrics.delong(one, labels)
    assert np.mean(widths) < high - low


def test_a_difference_that_cannot_be_judged_says_so():
    scores, labels = TOY
    assert metrics.auc_difference(scores, scores, labels) == (0.0, -1.0, 1.0)
    assert metrics.auc_difference([1.0, 0.0], [0.0, 1.0], [1, 0]) == (1.0, -1.0, 1.0)
