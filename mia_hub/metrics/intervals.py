"""Confidence intervals for the figures in `roc`, each as (low, high).

Coverage figures below were measured by simulation at confidence 0.95: members ~ N(mu, 1) against non-members ~ N(0, 1).

Sources:
    Clopper & Pearson 1934, Biometrika 26: exact limits for a proportion.
    DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44; Sun & Xu 2014, IEEE Signal Processing Letters 21: variance of the AUC.
    Newcombe 1998, Statistics in Medicine 17; Donner & Zou 2012, Statistical Methods in Medical Research 21: limits for a sum of two
    figures from the limits of each (MOVER).
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from mia_hub.errors import MetricError
from mia_hub.metrics import roc


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact interval for a proportion (Clopper & Pearson 1934), which never covers less than `confidence`.

    Args:
        successes: integer in [0, n].
        n: number of trials, at least 1.
        confidence: in (0, 1).

    Raises:
        MetricError: if a count or the confidence is out of range.
    """
    if n != int(n) or successes != int(successes) or not 0 <= successes <= n or n < 1:
        raise MetricError(
            f"{successes} of {n} is not a proportion: successes must be an integer from 0 to n, and n an integer ≥ 1. "
            "Count the samples again."
        )
    return _beta_limits(successes, n, _tail(confidence))


def delong(scores: ArrayLike, is_member: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval for the AUC by DeLong's variance, from midranks in O(n log n), on the logit scale, so that it stays in [0, 1].

    If the variance estimate is 0 or undefined (perfect or inverted separation, all scores equal, a class with one sample), it would claim
    certainty. Then the Clopper-Pearson limits for AUC * m successes in m = min(members, non-members) trials are used instead; with
    perfect separation they are (tail ** (1 / m), 1).

    Near 1 it covers less: the few samples that are beaten decide both the AUC and its variance. At 250 + 250 and 512 + 4000 samples (400
    runs each; a standard error is 0.011): 0.95 and 0.96 at AUC 0.5, 0.94 and 0.96 at 0.7, 0.96 and 0.95 at 0.9, 0.95 and 0.95 at 0.985,
    0.93 and 0.94 at 0.995. Where the members' scores spread twice as much: 0.93 and 0.94 at 0.985, 0.87 and 0.90 at 0.995. Nearly all
    misses are a low end that is too high.

    Measured coverage (mu 0 to 3, 2000 runs each): 0.98 to 0.99 at 5 + 5 samples, 0.97 to 0.98 at 10 + 10, 0.95 to 0.98 at 20 + 20,
    0.93 to 0.95 at 100 + 200, 0.94 to 0.96 at 256 + 2000. Weak spot: a high AUC with few samples in one class only, 0.95 at mu 1 but
    0.91 at mu 2 and 0.90 at mu 3 with 20 + 200.

    Args:
        scores: shape (n,), finite; higher means more likely a member.
        is_member: shape (n,), 1 for members, 0 for non-members.
        confidence: in (0, 1).

    Raises:
        MetricError: see `roc.scores_by_class`; or if the confidence is out of range.
    """
    members, nonmembers = roc.scores_by_class(scores, is_member)
    tail = _tail(confidence)
    area = roc.auc(scores, is_member)
    smaller = min(members.size, nonmembers.size)
    beaten, beating = roc.placements(members, nonmembers)
    # Variances of integer placements, so that those of constant placements are exactly 0.
    variance = 0.0
    if smaller > 1:
        variance = float(np.var(beaten, ddof=1)) / members.size / (2 * nonmembers.size) ** 2
        variance += float(np.var(beating, ddof=1)) / nonmembers.size / (2 * members.size) ** 2
    if variance == 0:
        return _beta_limits(area * smaller, smaller, tail)
    logit = math.log(area / (1 - area))
    reach = NormalDist().inv_cdf(1 - tail) * math.sqrt(variance) / (area * (1 - area))
    return _expit(logit - reach), _expit(logit + reach)


def auc_difference(scores: ArrayLike, others: ArrayLike, is_member: ArrayLike, confidence: float = 0.95) -> tuple[float, float, float]:
    """Return how much larger one AUC is than another of the same samples, by DeLong's paired variance.

    Samples that are easy for one attack are often easy for the other, so that the interval of the difference is narrower than those of
    the two AUCs suggest. If the variance is 0 (both separate perfectly, or alike), or a class has one sample, the result is (d, -1, 1).

    Args:
        scores, others: shape (n,), finite; higher means more likely a member. Of the same samples in the same order.
        is_member: shape (n,), 1 for members, 0 for non-members.
        confidence: in (0, 1).

    Returns:
        ``(difference, low, high)``.

    Raises:
        MetricError: see `roc.scores_by_class`; or if the confidence is out of range.
    """
    tail, parts = _tail(confidence), []
    for one in (scores, others):
        members, nonmembers = roc.scores_by_class(one, is_member)
        beaten, beating = roc.placements(members, nonmembers)
        parts.append((beaten / (2 * nonmembers.size), beating / (2 * members.size)))
    (share_beaten, share_beating), (other_beaten, other_beating) = parts
    difference = float(share_beaten.mean() - other_beaten.mean())
    if min(share_beaten.size, share_beating.size) < 2:
        return difference, -1.0, 1.0
    variance = np.var(share_beaten - other_beaten, ddof=1) / share_beaten.size
    variance += np.var(share_beating - other_beating, ddof=1) / share_beating.size
    if variance < 1e-30:
        return difference, -1.0, 1.0
    reach = NormalDist().inv_cdf(1 - tail) * math.sqrt(variance)
    return difference, max(-1.0, difference - reach), min(1.0, difference + reach)


def tpr_at_fpr_interval(
    scores: ArrayLike, is_member: ArrayLike, fpr: float, confidence: float = 0.95, seed: int = 0, resamples: int = 20_000
) -> tuple[float, float]:
    """Return the interval for the TPR at a given FPR, with the uncertainty of the threshold as well as that of the members.

    The threshold that truly has this FPR is unknown, but the number of the n0 non-members above it is Binomial(n0, fpr), whatever the
    scores' distribution: the threshold lies next to the J-th highest non-member, where J is such a draw, plus 0 or 1 with equal chance
    since it falls between two non-members. For each draw, the s members above that non-member give the Clopper-Pearson beta distributions,
    Beta(s, n1 - s + 1) for the low end and Beta(s + 1, n1 - s) for the high end; the interval takes its tails over all draws. With
    plenty of non-members it becomes the Clopper-Pearson interval, and like that one it never has zero width (but at fpr = 1).

    Below about 3 / fpr non-members the low end is 0: the true threshold may then lie above all of them, and the scores don't show how
    many members would exceed it.

    Measured coverage (mu 0, 1, 2; 2000 runs each, members + non-members): at fpr 0.01 it was 0.99, 0.98, 0.97 with 256 + 2000;
    0.99, 0.97, 0.97 with 512 + 1000; 1.00, 0.99, 0.99 with 100 + 200; 0.96, 0.95, 0.95 with 25,000 + 25,000. At fpr 0.001: 1.00, 0.99,
    0.99 with 256 + 2000; 1.00, 0.99, 0.98 with 1000 + 1000; 0.97, 0.95, 0.96 with 25,000 + 25,000 (500 runs).
    The usual stratified bootstrap (even united with the Clopper-Pearson interval) was dropped: it covered down to 0.71 with one
    non-member above the threshold and 0.93 with two, nearly always claiming too much.

    Args:
        scores: shape (n,), finite; higher means more likely a member.
        is_member: shape (n,), 1 for members, 0 for non-members.
        fpr: in (0, 1], at least 1 / (number of non-members).
        confidence: in (0, 1).
        seed: of the random draws; the same seed gives the same interval.
        resamples: number of draws, at least 100; a draw costs the same for any n.

    Raises:
        MetricError: see `roc.tpr_at_fpr`; or if the confidence or `resamples` is out of range.
    """
    members, nonmembers = roc.scores_by_class(scores, is_member)
    roc.allowed_false_positives(fpr, nonmembers.size)
    tail = _tail(confidence)
    rng = _generator(seed, resamples)
    if fpr == 1:
        return 1.0, 1.0  # everyone is called a member: true by definition, not an estimate
    ranks = rng.binomial(nonmembers.size, fpr, resamples) + rng.integers(0, 2, resamples)
    # Rank 0 is above all scores, rank n0 + 1 below all.
    descending = np.concatenate([[np.inf], np.sort(nonmembers)[::-1], [-np.inf]])
    above = roc.count_above(members, descending[ranks], strictly=True)
    below = members.size - above
    lows = np.where(above > 0, rng.beta(np.maximum(above, 1), below + 1), 0.0)
    highs = np.where(below > 0, rng.beta(above + 1, np.maximum(below, 1)), 1.0)
    return float(np.quantile(lows, tail)), float(np.quantile(highs, 1 - tail))


def balanced_accuracy_interval(
    tpr_successes: int, n_members: int, tnr_successes: int, n_nonmembers: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the interval for the balanced accuracy at a FIXED threshold: the mean of two independent proportions.

    MOVER (Newcombe 1998; Donner & Zou 2012) on the Clopper-Pearson limits of each; it stays in [0, 1] by construction. The threshold
    must come from other samples; for one chosen on the same samples see `asr_interval`.

    Exact coverage over a grid of 625 pairs of rates, lowest and mean: 0.945 and 0.986 at 5 + 5 samples, 0.950 and 0.980 at 10 + 10,
    0.967 and 0.973 at 20 + 50, 0.956 and 0.963 at 100 + 100, 0.953 and 0.959 at 256 + 256. (With Wilson's limits the mean was 0.95 but
    the lowest 0.88 to 0.94.)

    Args:
        tpr_successes: members called members, in [0, n_members].
        n_members: at least 1.
        tnr_successes: non-members called non-members, in [0, n_nonmembers].
        n_nonmembers: at least 1.
        confidence: in (0, 1).

    Raises:
        MetricError: if a count or the confidence is out of range.
    """
    tpr_low, tpr_high = clopper_pearson(tpr_successes, n_members, confidence)
    tnr_low, tnr_high = clopper_pearson(tnr_successes, n_nonmembers, confidence)
    tpr, tnr = tpr_successes / n_members, tnr_successes / n_nonmembers
    mean = (tpr + tnr) / 2
    low = mean - math.hypot(tpr - tpr_low, tnr - tnr_low) / 2
    high = mean + math.hypot(tpr_high - tpr, tnr_high - tnr) / 2
    return max(low, 0.0), min(high, 1.0)  # the bounds only catch rounding


def asr_interval(
    scores: ArrayLike, is_member: ArrayLike, confidence: float = 0.95, seed: int = 0, resamples: int = 500
) -> tuple[float, float]:
    """Return the interval for the best balanced accuracy that a threshold could reach on fresh samples, in [0.5, 1].

    `roc.asr` picks its threshold on the samples that it is computed on, so it is biased up. Starting from `balanced_accuracy_interval` at
    that threshold, the low end is lowered by twice the bias observed in a stratified bootstrap: twice, because resamples start from a curve
    that is already too high and show only part of the bias. The high end needs no correction: the bias is on its safe side. And if the
    curve is no higher than one-sided Kolmogorov-Smirnov bounds allow for an attack without any power, the low end is 0.5.

    Measured coverage (mu 0, 0.1, 0.2, 0.5, 1, 2, 4; 500 to 1000 runs each): 0.97 to 1.00 at 20 + 20 samples, 0.96 to 1.00 at 50 + 50 and at
    100 + 200, 0.97 to 0.98 at 256 + 2000, 0.96 to 0.98 at 1000 + 1000. Without any power (mu 0) the low end exceeded 0.5 in 0.02 of
    the runs. Nearly all misses are a low end that is too high.
    The percentile bootstrap covered 0.02 to 0.9 here, the reflected one down to 0.32 (mu 4) and 0.85 (mu 0).

    Args:
        scores: shape (n,), finite; higher means more likely a member.
        is_member: shape (n,), 1 for members, 0 for non-members.
        confidence: in (0, 1).
        seed: of the bootstrap; the same seed gives the same interval.
        resamples: number of bootstrap resamples, at least 100. 500 take about 1 s for 25,000 + 25,000 samples.

    Raises:
        MetricError: see `roc.scores_by_class`; or if the confidence or `resamples` is out of range.
    """
    members, nonmembers = roc.scores_by_class(scores, is_member)
    tail = _tail(confidence)
    rng = _generator(seed, resamples)
    n1, n0 = members.size, nonmembers.size
    threshold = roc.best_threshold(scores, is_member)
    caught, cleared = int(np.sum(members >= threshold)), int(np.sum(nonmembers < threshold))
    low, high = balanced_accuracy_interval(caught, n1, cleared, n0, confidence)
    best = (caught / n1 + cleared / n0) / 2
    no_power = 0.5 + math.sqrt(-math.log(tail) / 2 * (1 / n1 + 1 / n0)) / 2
    if best <= no_power:
        return 0.5, high

    # Each sample's place among the distinct scores, highest first: the curve rises by 1 / n1 per member and falls by 1 / n0 per non-member.
    levels, place = np.unique(-np.concatenate([members, nonmembers]), return_inverse=True)
    resampled = np.empty(resamples)
    for index in range(resamples):
        rise = np.bincount(place[rng.integers(0, n1, n1)], minlength=levels.size) / n1
        fall = np.bincount(place[n1 + rng.integers(0, n0, n0)], minlength=levels.size) / n0
        resampled[index] = 0.5 + np.cumsum(rise - fall).max() / 2
    bias = max(resampled.mean() - best, 0.0)
    return float(max(low - 2 * bias, 0.5)), high


def _tail(confidence: float) -> float:
    """The probability outside the interval at each end."""
    if not 0 < confidence < 1:
        raise MetricError(f"The confidence {confidence} is out of range; it must lie between 0 and 1. Give 0.95 for 95%.")
    return (1 - confidence) / 2


def _generator(seed: int, resamples: int) -> np.random.Generator:
    if resamples < 100:
        raise MetricError(f"{resamples} resamples are too few for an interval; at least 100 are needed. Leave resamples at its default.")
    return np.random.default_rng(seed)


@lru_cache(maxsize=1024)
def _beta_limits(successes: float, n: int, tail: float) -> tuple[float, float]:
    """Clopper-Pearson limits, which are also defined for fractions of a success."""
    from scipy.special import betaincinv  # slow to import

    low = 0.0 if successes == 0 else float(betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes == n else float(betaincinv(successes + 1, n - successes, 1 - tail))
    return low, high


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))
