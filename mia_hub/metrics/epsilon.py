"""Empirical lower bounds on the ε of differential privacy, from counts of right guesses about who is a member.

A bound says: a training with a smaller ε would hardly ever let anyone guess so well. It is no proof of privacy: a bound of 0 may come from
a weak attack, or from too few images. How the guesses are chosen, without looking at the images that are reported, is in
`mia_hub.metrics.epsilon_choices`.

Sources:
    Steinke, Nasr & Jagielski 2023, arXiv 2305.08846: one training run, in which each image was included by its own fair coin.
    Clopper & Pearson 1934, Biometrika 26; Kairouz, Oh & Viswanath 2015: (ε, δ) from the limits of a true- and a false-positive rate.
    Dong, Roth & Su 2019, arXiv 1905.02383: Gaussian differential privacy.
    Mahloujifar, Melis & Chaudhuri 2024, arXiv 2410.22235: one training run, whose trade-off function is given (f-DP).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from mia_hub.errors import MetricError, integer_at_least

Floats = npt.NDArray[np.float64]

ONE_RUN, RATES, GAUSSIAN, GAUSSIAN_ONE_RUN = "one-run", "clopper-pearson", "gaussian", "gaussian-one-run"
SOURCES = {
    ONE_RUN: "Steinke, Nasr & Jagielski 2023, arXiv 2305.08846, Theorem 5.2",
    RATES: "Clopper & Pearson 1934; Kairouz, Oh & Viswanath 2015, Theorem 2.1",
    GAUSSIAN: "Dong, Roth & Su 2019, arXiv 1905.02383, equation 6 and corollary 2.13",
    GAUSSIAN_ONE_RUN: "Mahloujifar, Melis & Chaudhuri 2024, arXiv 2410.22235, Algorithm 3",
}
CONFIDENCE = 0.95
HALVINGS = 60


@dataclass(frozen=True)
class EpsilonBound:
    """A lower bound on ε.

    Attributes:
        bound: ε is at least this, ≥ 0; 0 says nothing.
        delta: the δ that it holds for, in [0, 1).
        confidence: the share of repetitions in which the bound is right, at least.
        guesses: images that were guessed to be members or non-members; the others were abstained from.
        correct: guesses that were right.
        m: images that were reported on, guessed or not; those that chose anything are not among them.
        method: "one-run", "clopper-pearson", "gaussian" or "gaussian-one-run".
        source: the theorem.
        guessed_members: how many of the guesses were "member".
    """

    bound: float
    delta: float
    confidence: float
    guesses: int
    correct: int
    m: int
    method: str
    source: str
    guessed_members: int | None = None


def one_run_p_value(correct: int, guesses: int, m: int, epsilon: float, delta: float = 0.0) -> float:
    """Return the chance, at most, of so many right guesses if the training is (ε, δ)-private.

    This is β + 2·m·δ·α with q = e^ε / (1 + e^ε), β = P[Binomial(guesses, q) ≥ correct] and
    α = max over i ≥ 1 of P[correct > Binomial(guesses, q) ≥ correct - i] / i.

    Args:
        correct: v, guesses that were right.
        guesses: r, the number of which did not depend on the coins of these images.
        m: images whose coins were tossed independently; also those that were not guessed.
        epsilon: ≥ 0.
        delta: in [0, 1).

    Returns:
        In [0, 1].

    Raises:
        MetricError: for counts, ε or δ out of range.

    Source:
        Steinke, Nasr & Jagielski 2023, Theorem 5.2.
    """
    correct, guesses, m = _counts(correct, guesses, m)
    check_level(delta)
    if not (math.isfinite(epsilon) and epsilon >= 0):
        raise MetricError(f"epsilon must be a number ≥ 0; got {epsilon!r}.")
    return _p_value(correct, guesses, m, epsilon, delta)


def one_run_bound(correct: int, guesses: int, m: int, *, delta: float = 0.0, confidence: float = CONFIDENCE) -> EpsilonBound:
    """Return the largest ε that so many right guesses of one training run refute.

    Each of the m images must have been put into the training set, or left out, by its own fair coin, and nothing about the guesses may
    have been chosen by these coins.

    Args:
        correct, guesses, m, delta: see `one_run_p_value`.
        confidence: in (0, 1): an (ε, δ)-private training exceeds its ε in at most 1 - confidence of all cases.

    Raises:
        MetricError: for values out of range, or fewer guesses than could ever give a bound above 0.

    Source:
        Steinke, Nasr & Jagielski 2023, Theorem 5.2.
    """
    correct, guesses, m = _counts(correct, guesses, m)
    check_level(delta, confidence)
    level = 1 - confidence
    if _p_value(guesses, guesses, m, 0.0, delta) > level:
        raise MetricError(_too_few(guesses, m, delta, confidence))
    return EpsilonBound(
        refuted_epsilon(correct, guesses, m, delta, level), delta, confidence, guesses, correct, m, ONE_RUN, SOURCES[ONE_RUN]
    )


def fewest_guesses(m: int, *, delta: float = 0.0, confidence: float = CONFIDENCE) -> int | None:
    """Return the smallest number of guesses that can give a one-run bound above 0, if all are right; None if m images allow none.

    Raises:
        MetricError: for values out of range.
    """
    check_level(delta, confidence)
    level = 1 - confidence
    fewest = 1 + bisect_left(range(1, m + 1), True, key=lambda guesses: _p_value(guesses, guesses, m, 0.0, delta) <= level)
    return fewest if fewest <= m else None


def clopper_pearson_bound(
    true_positives: int,
    false_positives: int,
    n_members: int,
    n_nonmembers: int,
    *,
    delta: float = 0.0,
    confidence: float = CONFIDENCE,
) -> EpsilonBound:
    """Return the ε that the limits of a true- and a false-positive rate imply.

    It is log((TPR_low - δ) / FPR_high), or the same of the complements if that is more. Each limit is one-sided and fails with half of
    1 - confidence, so that both hold with the confidence by the union bound.

    **What it bounds.** If each pair of counts were of independent trainings, this would bound the ε of the training. With images of one
    training run they are not: all members went into the same model. Then it describes this model: the average image's true-positive
    rate against its false-positive rate. It covers the draw of the images, and no other training run.

    Args:
        true_positives: members at or above a threshold that was not chosen on these images.
        false_positives: non-members at or above it.
        n_members, n_nonmembers: at least 1 each.
        delta: in [0, 1).
        confidence: in (0, 1).

    Raises:
        MetricError: for values out of range.

    Source:
        Clopper & Pearson 1934 for the limits; Kairouz, Oh & Viswanath 2015, Theorem 2.1 for ε.
    """
    limits = _rate_limits(true_positives, false_positives, n_members, n_nonmembers, delta, confidence)
    bound = float(_epsilon_of_rates(*limits, delta))
    return _of_rates(bound, RATES, true_positives, false_positives, n_members, n_nonmembers, delta, confidence)


def gaussian_bound(
    true_positives: int,
    false_positives: int,
    n_members: int,
    n_nonmembers: int,
    *,
    delta: float,
    confidence: float = CONFIDENCE,
) -> EpsilonBound:
    """Return the ε at δ of the least private Gaussian mechanism that the limits of the two rates don't refute.

    μ ≥ Φ⁻¹(1 - FPR_high) - Φ⁻¹(FNR_high), or 0; ε solves δ = Φ(μ/2 - ε/μ) - e^ε·Φ(-μ/2 - ε/μ). It holds more than
    `clopper_pearson_bound` only under an assumption: that the training's trade-off between the two errors is Gaussian, as it nearly is
    for many steps of DP-SGD. Without it, it bounds nothing. What `clopper_pearson_bound` says of one training run holds here, too.

    Args:
        true_positives, false_positives, n_members, n_nonmembers, confidence: as for `clopper_pearson_bound`.
        delta: in (0, 1); at δ = 0 no Gaussian mechanism has an ε.

    Raises:
        MetricError: for values out of range.

    Source:
        Dong, Roth & Su 2019, equation 6 and corollary 2.13.
    """
    tpr_low, fpr_high = (
        float(limit) for limit in _rate_limits(true_positives, false_positives, n_members, n_nonmembers, delta, confidence)
    )
    _refuse_no_delta(delta)
    normal = NormalDist()
    mu = normal.inv_cdf(1 - fpr_high) - normal.inv_cdf(1 - tpr_low) if 0 < tpr_low < 1 and 0 < fpr_high < 1 else 0.0
    bound = gaussian_epsilon(max(mu, 0.0), delta)
    return _of_rates(bound, GAUSSIAN, true_positives, false_positives, n_members, n_nonmembers, delta, confidence)


def gaussian_one_run_bound(correct: int, guesses: int, m: int, *, delta: float, confidence: float = CONFIDENCE) -> EpsilonBound:
    """Return the ε at δ of the least private Gaussian mechanism that so many right guesses of one training run don't refute.

    It holds more than `one_run_bound` only under an assumption: that the training's trade-off between the two errors is Gaussian, as it
    nearly is for many steps of DP-SGD. Without it, it bounds nothing.

    Args:
        correct, guesses, m, confidence: as for `one_run_bound`.
        delta: in (0, 1); at δ = 0 no Gaussian mechanism has an ε.

    Raises:
        MetricError: for values out of range.

    Source:
        Mahloujifar, Melis & Chaudhuri 2024, Algorithm 3 with the inverse blow-up function of a Gaussian mechanism; ε of μ by
        Dong, Roth & Su 2019, corollary 2.13.
    """
    correct, guesses, m = _counts(correct, guesses, m)
    check_level(delta, confidence)
    _refuse_no_delta(delta)
    # Above μ = 40, no guess of a Gaussian mechanism is wrong in double precision.
    mu = _last_true(lambda mu: _refutes_gaussian(correct, guesses, m, mu, 1 - confidence), 40.0)
    return EpsilonBound(gaussian_epsilon(mu, delta), delta, confidence, guesses, correct, m, GAUSSIAN_ONE_RUN, SOURCES[GAUSSIAN_ONE_RUN])


def _refutes_gaussian(correct: int, guesses: int, m: int, mu: float, level: float) -> bool:
    """Return whether so many right guesses have a chance of at most ``level`` under every μ-Gaussian private training.

    Were the chance larger, then ``right`` and ``wrong``, the least that the guesses with i right ones add up to, would make fewer
    guesses than were made.
    """
    from scipy.special import ndtr, ndtri

    right, wrong = level * correct / m, level * (guesses - correct) / m
    for i in range(correct - 1, -1, -1):
        more = max(wrong, float(ndtr(ndtri(min(right, 1.0)) - mu)))
        if more == wrong:
            break
        right, wrong = right + i / (guesses - i) * (more - wrong), more
    return right + wrong > guesses / m


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Return the ε at which a μ-Gaussian private mechanism is (ε, δ)-private (Dong, Roth & Su 2019, corollary 2.13); δ in (0, 1)."""
    if gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    high = 1.0
    while gaussian_delta(mu, high) > delta:
        high *= 2
    return _last_true(lambda epsilon: gaussian_delta(mu, epsilon) > delta, high)


def gaussian_delta(mu: float, epsilon: float) -> float:
    """Return Φ(μ/2 - ε/μ) - e^ε·Φ(-μ/2 - ε/μ), the δ of a μ-Gaussian private mechanism at ε; 0 for μ = 0."""
    from scipy.special import log_ndtr, ndtr

    if mu == 0:
        return 0.0
    return float(ndtr(mu / 2 - epsilon / mu) - math.exp(epsilon + log_ndtr(-mu / 2 - epsilon / mu)))


def check_level(delta: float, confidence: float = CONFIDENCE) -> None:
    """Refuse a δ or a confidence out of range.

    Raises:
        MetricError: with what is accepted.
    """
    if not 0 <= delta < 1:
        raise MetricError(f"delta must be at least 0 and below 1; got {delta!r}. Give 0, or a value far below 1 / (number of images).")
    if not 0 < confidence < 1:
        raise MetricError(f"confidence must lie between 0 and 1; got {confidence!r}. Give 0.95 for 95 %.")


def refuted_epsilon(correct: int, guesses: int, m: int, delta: float, level: float) -> float:
    """Return the largest ε whose `one_run_p_value` is at most ``level``, by bisection from below; 0 if there is none.

    The counts are not checked, for many calls in a row.
    """
    # At this ε all but e^-10 / guesses of a guess are right, and no outcome is refuted.
    return _last_true(lambda epsilon: _p_value(correct, guesses, m, epsilon, delta) <= level, math.log(max(guesses, 1)) + 10)


def rate_epsilons(
    true_positives: npt.NDArray[np.int64],
    false_positives: npt.NDArray[np.int64],
    n_members: int,
    n_nonmembers: int,
    delta: float,
    confidence: float,
) -> Floats:
    """Return `clopper_pearson_bound` for many thresholds at once, float ``[n]``, unchecked."""
    return _epsilon_of_rates(*_limits(true_positives, false_positives, n_members, n_nonmembers, confidence), delta)


def _last_true(holds: Callable[[float], bool], high: float) -> float:
    """Return where ``holds`` ends between 0 and ``high``, from below; 0 if it doesn't hold at 0."""
    if not holds(0.0):
        return 0.0
    low = 0.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low


def _p_value(correct: int, guesses: int, m: int, epsilon: float, delta: float) -> float:
    from scipy.special import betainc

    if correct == 0:
        return 1.0
    q = 1 / (1 + math.exp(-epsilon))
    beta = float(betainc(correct, guesses - correct + 1, q))
    if delta == 0 or beta >= 1:
        return min(beta, 1.0)
    # P[correct > X ≥ correct - i] for i = 1 … correct, as a running sum downwards.
    below = np.cumsum(_binomial(np.arange(correct - 1, -1, -1), guesses, epsilon))
    alpha = float(np.max(below / np.arange(1, correct + 1)))
    return min(beta + 2 * m * delta * alpha, 1.0)


def _binomial(k: npt.NDArray[np.int64], n: int, epsilon: float) -> Floats:
    """Return P[Binomial(n, e^ε / (1 + e^ε)) = k]."""
    from scipy.special import gammaln

    log_choose = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    probabilities: Floats = np.exp(log_choose - (n - k) * epsilon - n * math.log1p(math.exp(-epsilon)))
    return probabilities


def _refuse_no_delta(delta: float) -> None:
    if not delta > 0:
        raise MetricError(f"A Gaussian mechanism has no finite ε at delta={delta}; give a delta above 0, such as 1e-5.")


def _rate_limits(tp: int, fp: int, n_members: int, n_nonmembers: int, delta: float, confidence: float) -> tuple[Any, Any]:
    check_level(delta, confidence)
    for what, count, n in (("true_positives", tp, n_members), ("false_positives", fp, n_nonmembers)):
        integer_at_least("n_members" if what == "true_positives" else "n_nonmembers", n, 1, MetricError)
        if integer_at_least(what, count, 0, MetricError) > n:
            raise MetricError(f"{what}={count} is more than the {n} images of that side. Count them again.")
    return _limits(np.array(tp), np.array(fp), n_members, n_nonmembers, confidence)


def _limits(tp: npt.NDArray[Any], fp: npt.NDArray[Any], n_members: int, n_nonmembers: int, confidence: float) -> tuple[Floats, Floats]:
    """Return the one-sided Clopper-Pearson limits TPR_low and FPR_high, each of half the error."""
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    low = np.where(tp > 0, betaincinv(np.maximum(tp, 1), n_members - np.maximum(tp, 1) + 1, tail), 0.0)
    most = np.minimum(fp, n_nonmembers - 1)
    high = np.where(fp < n_nonmembers, betaincinv(most + 1, n_nonmembers - most, 1 - tail), 1.0)
    return low, high


def _epsilon_of_rates(tpr_low: Any, fpr_high: Any, delta: float) -> Floats:
    """Return the larger of log((TPR - δ) / FPR) and log((TNR - δ) / FNR) at the limits, at least 0."""
    # No limit FPR_high is 0, and no TPR_low is 1.
    one = np.maximum(tpr_low - delta, 0) / fpr_high
    other = np.maximum(1 - fpr_high - delta, 0) / (1 - tpr_low)
    bounds: Floats = np.log(np.maximum(np.maximum(one, other), 1.0))
    return bounds


def _of_rates(
    bound: float, method: str, tp: int, fp: int, n_members: int, n_nonmembers: int, delta: float, confidence: float
) -> EpsilonBound:
    m, correct = n_members + n_nonmembers, tp + n_nonmembers - fp
    return EpsilonBound(bound, delta, confidence, m, correct, m, method, SOURCES[method], tp + fp)


def _counts(correct: Any, guesses: Any, m: Any) -> tuple[int, int, int]:
    correct = integer_at_least("correct", correct, 0, MetricError)
    guesses, m = integer_at_least("guesses", guesses, 1, MetricError), integer_at_least("m", m, 1, MetricError)
    if not correct <= guesses <= m:
        raise MetricError(
            f"{correct} right of {guesses} guesses about {m} images is impossible: correct ≤ guesses ≤ m is needed. Count them again."
        )
    return correct, guesses, m


def _too_few(guesses: int, m: int, delta: float, confidence: float) -> str:
    fewest = fewest_guesses(m, delta=delta, confidence=confidence)
    level = f"{confidence * 100:g} %"
    said = f"{guesses:,} guesses about {m:,} images can't give a {level} bound above 0 at delta={delta:g}, even if all are right"
    if fewest is None:
        return f"{said}; nor can any number of guesses about so many images. Give a smaller delta, or more images."
    return f"{said}; at least {fewest:,} guesses are needed. Make more, or accept a lower confidence."
