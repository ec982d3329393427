"""Bounds on ε from scores: how many guesses are made, or at which threshold, is chosen on the calibration part and reported on the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike

from mia_hub.errors import MetricError
from mia_hub.metrics.epsilon import (
    CONFIDENCE,
    EpsilonBound,
    check_level,
    clopper_pearson_bound,
    fewest_guesses,
    one_run_bound,
    one_run_p_value,
    rate_epsilons,
    refuted_epsilon,
)
from mia_hub.metrics.roc import Floats, count_above, scores_by_class

Labels = npt.NDArray[np.int64]
# Shares of the images guessed to be members, and of those guessed to be non-members.
SHARES = (0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
MOST_THRESHOLDS = 2000


class _Guesses(NamedTuple):
    """How many of some images are guessed to be members and non-members, and how many guesses are right."""

    members: int
    nonmembers: int
    correct: int

    @property
    def number(self) -> int:
        return self.members + self.nonmembers


def one_run_audit(
    scores: ArrayLike,
    coins: ArrayLike,
    calibration: ArrayLike,
    *,
    delta: float = 0.0,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> EpsilonBound:
    """Return the one-run bound on ε of scores, with the numbers of guesses chosen on the calibration part.

    Of the reported images, the k₊ with the highest scores are guessed to be members, the k₋ with the lowest to be non-members, and the
    others are abstained from. k₊ and k₋ are the shares of the images that give the largest bound on the calibration part. Ties are broken
    by a seeded draw, which knows no coin.

    Args:
        scores: ``[N]``, finite; higher means more likely a member. Nothing in them may depend on the coins but through the model and
            the calibration part.
        coins: ``[N]``, 1 for an image that its fair coin put into the training set, 0 for one that it left out.
        calibration: bool ``[N]``, the part that the choice is made on. It must not depend on the coins: a part that is balanced by
            label does.
        delta: in [0, 1).
        confidence: in (0, 1).
        seed: of the draw that breaks ties.

    Raises:
        MetricError: for scores that aren't finite, coins other than 0 and 1, values out of range, or too few images in a part.

    Source:
        Steinke, Nasr & Jagielski 2023, arXiv 2305.08846, Theorem 5.2.
    """
    values, labels, mask = _checked(scores, coins, calibration, delta, confidence)
    # Rows usually are sorted by label, so that their order would give the coins of tied scores away.
    order = np.random.default_rng(seed).permutation(len(values))
    values, labels, mask = values[order], labels[order], mask[order]
    for what, part in (("calibration part", mask), ("rest", ~mask)):
        m = int(part.sum())
        fewest = fewest_guesses(m, delta=delta, confidence=confidence) if m else None
        if fewest is None:
            raise MetricError(
                f"The {what} has {m:,} images, which can't give a {confidence * 100:g} % bound on ε above 0 at delta={delta:g}, whatever "
                "is guessed. Give more images, or a smaller delta."
            )
    tried = [(shares, _guess(values[mask], labels[mask], *shares)) for shares in _shares()]
    m, needed = int((~mask).sum()), fewest_guesses(int((~mask).sum()), delta=delta, confidence=confidence) or 1
    possible = [
        (shares, guesses) for shares, guesses in tried if guesses.number and sum(int(share * m + 1e-9) for share in shares) >= needed
    ]
    chosen = _best(possible, int(mask.sum()), delta, 1 - confidence)
    made = _guess(values[~mask], labels[~mask], *chosen)
    return replace(one_run_bound(made.correct, made.number, m, delta=delta, confidence=confidence), guessed_members=made.members)


def clopper_pearson_audit(
    scores: ArrayLike, is_member: ArrayLike, calibration: ArrayLike, *, delta: float = 0.0, confidence: float = CONFIDENCE
) -> EpsilonBound:
    """Return `mia_hub.metrics.epsilon.clopper_pearson_bound` of scores, at the threshold that gives the most on the calibration part.

    Args:
        scores: ``[N]``, finite; higher means more likely a member.
        is_member: ``[N]``, 1 for members, 0 for non-members.
        calibration: bool ``[N]``, the part that the threshold is chosen on; the rest is reported.
        delta: in [0, 1).
        confidence: in (0, 1).

    Raises:
        MetricError: for scores that aren't finite, labels other than 0 and 1, values out of range, or a part without one of the two.
    """
    values, labels, mask = _checked(scores, is_member, calibration, delta, confidence)
    members, nonmembers = scores_by_class(values[mask], labels[mask])
    thresholds = np.unique(values[mask])
    if len(thresholds) > MOST_THRESHOLDS:
        thresholds = thresholds[np.linspace(0, len(thresholds) - 1, MOST_THRESHOLDS).astype(int)]
    hits, alarms = count_above(members, thresholds), count_above(nonmembers, thresholds)
    threshold = thresholds[np.argmax(rate_epsilons(hits, alarms, members.size, nonmembers.size, delta, confidence))]
    members, nonmembers = scores_by_class(values[~mask], labels[~mask])
    counts = int((members >= threshold).sum()), int((nonmembers >= threshold).sum())
    return clopper_pearson_bound(*counts, members.size, nonmembers.size, delta=delta, confidence=confidence)


def _checked(
    scores: ArrayLike, labels: ArrayLike, calibration: ArrayLike, delta: float, confidence: float
) -> tuple[Floats, Labels, npt.NDArray[np.bool_]]:
    check_level(delta, confidence)
    scores_by_class(scores, labels)
    values, mask = np.asarray(scores, np.float64), np.asarray(calibration)
    if mask.dtype != bool or mask.shape != values.shape:
        raise MetricError(
            f"calibration has type {mask.dtype} and shape {mask.shape}; needed is a mask of True and False, one for each of the "
            f"{len(values):,} scores. Make it with mia_hub.splits.partition.calibration_mask."
        )
    return values, np.asarray(labels).astype(np.int64), mask


def _shares() -> list[tuple[float, float]]:
    return [(members, nonmembers) for members in SHARES for nonmembers in SHARES if members + nonmembers > 0]


def _guess(values: Floats, labels: Labels, members: float, nonmembers: float) -> _Guesses:
    """Guess shares of some images: the highest scores to be members, the lowest not to be."""
    ranked = labels[np.argsort(values, kind="stable")]
    top, bottom = (int(share * len(ranked) + 1e-9) for share in (members, nonmembers))
    return _Guesses(top, bottom, int(ranked[len(ranked) - top :].sum() + (ranked[:bottom] == 0).sum()))


def _best(tried: list[tuple[tuple[float, float], _Guesses]], m: int, delta: float, level: float) -> tuple[float, float]:
    """Return the shares with the largest bound; of those without any, the shares that guessing explains least."""
    if not tried:
        return SHARES[-1], SHARES[-1]
    plain = [refuted_epsilon(guesses.correct, guesses.number, m, 0.0, level) for _, guesses in tried]
    best: tuple[float, float] | None = None
    bound = 0.0
    for place in np.argsort(plain)[::-1].tolist():
        # A bound at δ > 0 is never above the one at δ = 0.
        if plain[place] <= bound:
            break
        shares, guesses = tried[place]
        here = refuted_epsilon(guesses.correct, guesses.number, m, delta, level) if delta else plain[place]
        if here > bound:
            best, bound = shares, here
    if best is not None:
        return best
    return min(tried, key=lambda each: one_run_p_value(each[1].correct, each[1].number, m, 0.0))[0]
