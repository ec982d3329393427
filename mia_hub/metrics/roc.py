"""The ROC curve of an attack and its figures. See the package docstring for the conventions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mia_hub.errors import MetricError

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


class RocCurve(NamedTuple):
    """Every attainable point of the curve: (0, 0) first, then one point per distinct score.

    Attributes:
        fpr: shape (m + 1,), from 0 to 1, the false positive rate of each point.
        tpr: shape (m + 1,), from 0 to 1, the true positive rate of each point.
        thresholds: shape (m + 1,), strictly decreasing; the first is inf, the others are the m distinct scores.
    """

    fpr: Floats
    tpr: Floats
    thresholds: Floats


def scores_by_class(scores: ArrayLike, is_member: ArrayLike) -> tuple[Floats, Floats]:
    """Validate scores with their labels, and split them by class.

    Args:
        scores: shape (n,), finite numbers; higher means more likely a member.
        is_member: shape (n,), 1 or True for a member, 0 or False for a non-member.

    Returns:
        The members' and the non-members' scores, float64, in the given order; neither is empty.

    Raises:
        MetricError: if the shapes differ or are not flat, a score is not finite, a label is neither 0 nor 1, or a class is missing.
    """
    try:
        values = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise MetricError(f"The scores are not all numbers ({error}). Give one finite number per sample.") from error
    labels = np.asarray(is_member)
    if values.ndim != 1 or labels.shape != values.shape:
        raise MetricError(
            f"Scores have shape {values.shape} and labels {labels.shape}; both must be flat and equally long. "
            "Give one score and one label per sample."
        )
    if bad := int(np.count_nonzero(~np.isfinite(values))):
        raise MetricError(
            f"{bad} of {values.size} scores are NaN or infinite; only finite scores can be ranked. "
            "Find out why the attack gave them (often an overflow in half precision), or leave those samples out."
        )
    if labels.dtype.kind not in "biuf" or (bad := int(np.count_nonzero((labels != 0) & (labels != 1)))):
        given = f"{bad} of {labels.size} labels are" if labels.dtype.kind in "biuf" else f"Labels of type {labels.dtype} are"
        raise MetricError(f"{given} neither 0 nor 1. Label members 1 (or True) and non-members 0 (or False).")
    members, nonmembers = values[labels == 1], values[labels == 0]
    if not values.size:
        raise MetricError("No scores were given; at least one member and one non-member are needed. Score both groups first.")
    for group, label, missing in ((nonmembers, 1, "non-members (0)"), (members, 0, "members (1)")):
        if not group.size:
            raise MetricError(f"All {values.size} labels are {label}; both classes are needed. Add {missing} and score them too.")
    return members, nonmembers


def count_above(values: Floats, thresholds: Floats, *, strictly: bool = False) -> Counts:
    """Return the number of values at or above (or strictly above) each threshold."""
    return values.size - np.searchsorted(np.sort(values), thresholds, side="right" if strictly else "left")


def placements(members: Floats, nonmembers: Floats) -> tuple[Counts, Counts]:
    """Return, for each sample, twice the number of samples of the other class that it outranks; ties count half.

    These are integers, so nothing is rounded.

    Returns:
        ``[m]`` of the members, ``[n]`` of the non-members.
    """
    ranked = np.sort(nonmembers)
    beaten = np.searchsorted(ranked, members, side="left") + np.searchsorted(ranked, members, side="right")
    beating = count_above(members, nonmembers) + count_above(members, nonmembers, strictly=True)
    return beaten, beating


def allowed_false_positives(fpr: float, n_nonmembers: int, *, in_all: Callable[[int], int] | None = None) -> int:
    """Return the largest k with k / n_nonmembers <= fpr, at least 1.

    Args:
        fpr: in (0, 1].
        n_nonmembers: number of those that are reported.
        in_all: where these are a part: how many are needed in all for so many in that part, for the message.

    Raises:
        MetricError: if `fpr` is not in (0, 1], or is below what `n_nonmembers` can measure.
    """
    if not 0 < fpr <= 1:
        raise MetricError(f"The false positive rate {fpr} is out of range; it must be above 0 and at most 1. Give 0.01 for 1%.")
    # The slack absorbs the rounding of fpr and of the product (0.07 * 100 = 7.000000000000001, 0.29 * 100 = 28.999999999999996).
    allowed = min(math.floor(fpr * n_nonmembers * (1 + 1e-12)), n_nonmembers)
    if allowed < 1:
        needed = math.ceil(1 / fpr * (1 - 1e-12))
        whole = f" in the part that is reported, {in_all(needed)} in all" if in_all else ""
        raise MetricError(
            f"A false positive rate of {fpr:g} can't be measured with {n_nonmembers} non-members: one false alarm is already "
            f"{1 / n_nonmembers:.3g}. At least {needed} non-members are needed{whole}, and nothing is extrapolated. "
            "Add non-members or ask for a higher rate."
        )
    return allowed


def roc_curve(scores: ArrayLike, is_member: ArrayLike) -> RocCurve:
    """Return the ROC curve with every attainable point, collinear ones included.

    Args:
        scores: shape (n,), finite; higher means more likely a member.
        is_member: shape (n,), 1 for members, 0 for non-members.

    Raises:
        MetricError: see `scores_by_class`.
    """
    members, nonmembers = scores_by_class(scores, is_member)
    tp, fp, thresholds = _curve_counts(members, nonmembers)
    return RocCurve(fp / nonmembers.size, tp / members.size, thresholds)


def auc(scores: ArrayLike, is_member: ArrayLike) -> float:
    """Return the area under the ROC curve: the chance that a member outscores a non-member, ties counting half (Mann-Whitney). In [0, 1].

    Args and Raises: see `roc_curve`. Takes O(n log n).
    """
    members, nonmembers = scores_by_class(scores, is_member)
    beaten, _ = placements(members, nonmembers)
    return int(beaten.sum()) / (2 * members.size * nonmembers.size)


def asr(scores: ArrayLike, is_member: ArrayLike) -> float:
    """Return the attack success rate: the best balanced accuracy (TPR + 1 - FPR) / 2 over all thresholds. In [0.5, 1].

    The threshold is chosen on the samples that the figure is computed on, so the figure is biased upward: see `asr_interval`.

    Args and Raises: see `roc_curve`.
    """
    return balanced_accuracy_at(scores, is_member, best_threshold(scores, is_member))


def balanced_accuracy_at(scores: ArrayLike, is_member: ArrayLike, threshold: float) -> float:
    """Return the balanced accuracy (TPR + 1 - FPR) / 2 when scores at or above `threshold` are called members. In [0, 1].

    Args:
        scores: shape (n,), finite; higher means more likely a member.
        is_member: shape (n,), 1 for members, 0 for non-members.
        threshold: any number, or inf (nobody is called a member).

    Raises:
        MetricError: see `scores_by_class`; or if the threshold is NaN.
    """
    members, nonmembers = scores_by_class(scores, is_member)
    if math.isnan(threshold):
        raise MetricError("The threshold is NaN; it must be a number or inf. Take it from best_threshold or threshold_at_fpr.")
    return float((np.mean(members >= threshold) + np.mean(nonmembers < threshold)) / 2)


def best_threshold(scores: ArrayLike, is_member: ArrayLike) -> float:
    """Return the threshold that reaches `asr`; of equally good ones that with the lowest FPR (inf if none beats calling nobody a member).

    Args and Raises: see `roc_curve`.
    """
    members, nonmembers = scores_by_class(scores, is_member)
    tp, fp, thresholds = _curve_counts(members, nonmembers)
    # In integers, so that ties are exact; argmax takes the first of them, which has the lowest FPR.
    return float(thresholds[np.argmax(tp * nonmembers.size - fp * members.size)])


def tpr_at_fpr(scores: ArrayLike, is_member: ArrayLike, fpr: float) -> float:
    """Return the largest attainable true positive rate whose false positive rate is at most `fpr`. No interpolation. In [0, 1].

    Args:
        scores: shape (n,), finite; higher means more likely a member.
        is_member: shape (n,), 1 for members, 0 for non-members.
        fpr: the highest accepted false positive rate, in (0, 1].

    Raises:
        MetricError: see `scores_by_class`; or if `fpr` is out of range, or below 1 / (number of non-members).
    """
    threshold = threshold_at_fpr(scores, is_member, fpr)
    members, _ = scores_by_class(scores, is_member)
    return float(np.mean(members >= threshold))


def threshold_at_fpr(scores: ArrayLike, is_member: ArrayLike, fpr: float) -> float:
    """Return the score threshold that `tpr_at_fpr` uses; of those with the same TPR the one with the lowest FPR.

    It is inf if ties at the top make every other threshold exceed `fpr`, or if no member can be caught.

    Args and Raises: see `tpr_at_fpr`.
    """
    members, nonmembers = scores_by_class(scores, is_member)
    allowed = allowed_false_positives(fpr, nonmembers.size)
    tp, fp, thresholds = _curve_counts(members, nonmembers)
    return float(thresholds[np.argmax(np.where(fp <= allowed, tp, -1))])


def legacy_swapped_tpr(scores: ArrayLike, is_member: ArrayLike, fpr: float) -> float:
    """Return what several public repositories print as "TPR@1%FPR", with the classes swapped; only to compare with a printed figure.

    They feed the raw norm (our score times -1) to a ROC routine with the non-members as the positive class, so the figure is the share
    of *non-members* recognised while at most `fpr` of the *members* are mistaken for non-members. It says nothing about how many members
    an attacker can expose: report `tpr_at_fpr`. Some repositories also read the curve just below `fpr`, or at the nearest point; this
    takes the largest rate within `fpr`, which differs by one sample at most when scores are untied.

    Args:
        scores: as for `tpr_at_fpr`: higher means more likely a member.
        is_member: as for `tpr_at_fpr`: 1 for members. This function swaps the classes.
        fpr: in (0, 1]; here a rate among the members.

    Raises:
        MetricError: see `tpr_at_fpr`, with the classes swapped.
    """
    members, nonmembers = scores_by_class(scores, is_member)
    # tpr_at_fpr on swapped input would report too few non-members.
    if 0 < fpr <= 1 and fpr * members.size * (1 + 1e-12) < 1:
        raise MetricError(
            f"With the classes swapped, a false-positive rate of {fpr:g} can't be measured with {members.size} members. "
            f"At least {math.ceil(1 / fpr * (1 - 1e-12))} members are needed. Add members or ask for a higher rate."
        )
    labels = np.repeat([0, 1], [members.size, nonmembers.size])
    return tpr_at_fpr(-np.concatenate([members, nonmembers]), labels, fpr)


def _curve_counts(members: Floats, nonmembers: Floats) -> tuple[Counts, Counts, Floats]:
    """True and false positives at inf and at each distinct score, from the highest threshold to the lowest."""
    thresholds = np.append(np.inf, np.unique(np.concatenate([members, nonmembers]))[::-1])
    return count_above(members, thresholds), count_above(nonmembers, thresholds), thresholds
