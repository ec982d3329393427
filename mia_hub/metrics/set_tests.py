"""Was this *set* of images used for training? Many weak scores make one strong answer.

After CDI (arXiv 2411.12858), with two differences that guard against a wrong accusation. CDI trains a classifier to distinguish suspects
from known non-members, in whatever direction they differ, and tests whether it succeeds on held-out images; here the direction is fixed
beforehand, "looks more like a training image", so that suspects which merely differ in kind are no evidence. And the test is one-sided.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mia_hub.errors import MetricError
from mia_hub.metrics.expected_statistic import ExpectedStatistic
from mia_hub.metrics.intervals import clopper_pearson
from mia_hub.metrics.p_values import ALPHA, FEWEST_NULL

FOLDS = 5
FEWEST_IN_SET = 5
PERMUTATIONS = 9_999
RESAMPLES = 2_000
POWER = 0.9
# One image that is certainly a member must not decide about a whole set: a larger deviation counts as this one.
LARGEST_DEVIATION = 3.0

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Fraction:
    """Estimated share of members in a set, with its 95 % interval.

    Attributes:
        value, low, high: in [0, 1].
        at_least: whether value and low are lower bounds, as without known members that look like those of the set; high is 1 then.
    """

    value: float
    low: float
    high: float
    at_least: bool


@dataclass(frozen=True)
class SetTest:
    """The figures of `SetCheck`.

    Attributes:
        p_value: of the permutation test, or of CDI's.
        p_welch: of Welch's t-test, for comparison.
        fraction: estimated share of members; None for CDI's test, which has no such estimate.
        more_needed: further images of the same kind that would give evidence; 0 if there is evidence, None if no number would.
        scores: of the set, ``[m]``, in standard deviations; higher = more like a member.
        null_scores: of the known non-members, ``[n]``, likewise.
        member_scores: of known members, if there are any.
    """

    p_value: float
    p_welch: float
    fraction: Fraction | None
    more_needed: int | None
    scores: Floats
    null_scores: Floats
    member_scores: Floats | None


def too_few(n: int) -> MetricError:
    """Return the error for a set of n images, which are too few."""
    images = f"{n} different images are" if n != 1 else "One image is"
    return MetricError(f"{images} too few for a set; give at least {FEWEST_IN_SET} different ones, or have each checked by itself.")


def compare_sets(suspects: Floats, null: Floats, members: Floats | None = None, *, seed: int = 0) -> SetTest:
    """Compares a set with known non-members.

    Each score comes from a fit on other folds of suspects and non-members together, without labels; so under the null hypothesis, that the
    suspects are further non-members of the same kind, all are exchangeable and the permutation test is exact.

    Args:
        suspects: the observations of the set: scores ``[m]``, or ``[m, 1 + F]`` of a conditional attack.
        null: the same of known non-members, ``[n, …]``.
        members: the same of known members, if there are any; they are used for the estimated share alone.
        seed: of folds, permutations and intervals.

    Raises:
        MetricError: with fewer than 5 suspects or 20 non-members.
    """
    m = len(suspects)
    if m < FEWEST_IN_SET:
        raise too_few(m)
    if len(null) < FEWEST_NULL:
        raise MetricError(f"{len(null)} known non-members are too few to compare a set with; at least {FEWEST_NULL} are needed.")
    scores, known = _scores(np.concatenate([suspects, null]), members, seed)
    own, others = scores[:m], scores[m:]
    difference = own.mean() - others.mean()
    drawn = _means_of_draws(scores, m, np.random.default_rng(seed))
    p_value = (1 + int((drawn >= own.mean() - 1e-12).sum())) / (PERMUTATIONS + 1)
    return SetTest(
        p_value,
        welch(own, others),
        _fraction(own, others, known, seed),
        0 if p_value <= ALPHA else _more_needed(own, others, difference),
        own,
        others,
        known,
    )


def _scores(pooled: Floats, members: Floats | None, seed: int) -> tuple[Floats, Floats | None]:
    """Scores ``[m + n]`` of suspects and non-members, and of known members, in standard deviations."""
    if pooled.ndim == 1:
        centre, spread = np.median(pooled), np.subtract(*np.quantile(pooled, (0.8413, 0.1587))) / 2 or 1.0
        scores, known = (pooled - centre) / spread, None if members is None else (members - centre) / spread
    else:
        fold = np.random.default_rng(seed).permutation(len(pooled)) % FOLDS
        scores = np.empty(len(pooled))
        for k in range(FOLDS):
            fit = ExpectedStatistic(pooled[fold != k, 1:], pooled[fold != k, 0])
            scores[fold == k] = -fit.deviation(pooled[fold == k, 1:], pooled[fold == k, 0])
        fit = ExpectedStatistic(pooled[:, 1:], pooled[:, 0])
        known = None if members is None else -fit.deviation(members[:, 1:], members[:, 0])
    return _clipped(scores), None if known is None else _clipped(known)


def _clipped(scores: Floats) -> Floats:
    return np.clip(scores, -LARGEST_DEVIATION, LARGEST_DEVIATION)


def _means_of_draws(scores: Floats, m: int, rng: np.random.Generator) -> Floats:
    """Means of `PERMUTATIONS` random subsets of size m."""
    n = len(scores)
    if m * m < n:
        # With replacement first, which is much faster; few such small subsets have a repeated index, and only those are drawn again.
        rows = np.sort(rng.integers(n, size=(PERMUTATIONS, m)), axis=1)
        again = np.flatnonzero((np.diff(rows, axis=1) == 0).any(axis=1)).tolist()
    else:
        rows, again = np.empty((PERMUTATIONS, m), int), list(range(PERMUTATIONS))
    for i in again:
        rows[i] = rng.choice(n, m, replace=False, shuffle=False)
    return np.asarray(scores[rows].mean(axis=1))


def welch(own: Floats, others: Floats) -> float:
    """Return the p-value of Welch's t-test, one-sided: the first mean is higher. Equal constants have p = 1."""
    from scipy.stats import ttest_ind

    p = float(ttest_ind(own, others, equal_var=False, alternative="greater").pvalue)
    return 1.0 if np.isnan(p) else p


def _fraction(own: Floats, others: Floats, members: Floats | None, seed: int) -> Fraction:
    """π in mean(set) = π·mean(members) + (1-π)·mean(non-members); without known members like those of the set, a lower bound.

    Without them, or if the set scores higher than known members do: if every member of the set scored above the non-members' median, its
    share above would be π + (1-π)/2; so π ≥ 2·(share above) - 1, whatever members look like.
    """
    if members is None or len(members) < 2:
        return _least_fraction(own, others)
    rng = np.random.default_rng(seed)
    # Means are drawn from Student's t, which accounts for how little five images show of their own spread; a bootstrap is too narrow.
    means = [
        part.mean() + np.concatenate([[0.0], part.std(ddof=1) / np.sqrt(len(part)) * rng.standard_t(len(part) - 1, RESAMPLES)])
        for part in (own, others, members)
    ]
    fractions = ((means[0] - means[1]) / np.maximum(means[2] - means[1], 1e-9)).clip(0, 1)
    low, high = np.quantile(fractions[1:], (0.025, 0.975))
    if low == 1:  # known members don't score like those of the set, and can't measure their share
        return _least_fraction(own, others)
    return Fraction(float(fractions[0]), float(low), float(high), at_least=False)


def _least_fraction(own: Floats, others: Floats) -> Fraction:
    above = int((own > np.median(others)).sum())
    low, _ = clopper_pearson(above, len(own))
    return Fraction(max(0.0, 2 * above / len(own) - 1), max(0.0, 2 * low - 1), 1.0, at_least=True)


def _more_needed(own: Floats, others: Floats, difference: float) -> int | None:
    """Further images that the two-sample z-test needs: n with (z_α + z_power)²·(s²/n + s0²/n0) ≤ difference²."""
    from scipy.stats import norm

    if difference <= 0:
        return None
    z = norm.ppf(1 - ALPHA) + norm.ppf(POWER)
    left = difference**2 / z**2 - others.var(ddof=1) / len(others)
    return max(0, int(np.ceil(own.var(ddof=1) / left)) - len(own)) if left > 0 else None
