"""The shift check: whether members and non-members differ by themselves, judged by the images alone, without the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm.auto import tqdm

from mia_hub.errors import SplitError
from mia_hub.flags import Flag, flag
from mia_hub.images.decoding_ahead import decoded_ahead
from mia_hub.images.features import FEATURES, blind_features_of
from mia_hub.images.image import InputImage
from mia_hub.metrics.estimates import Estimate
from mia_hub.metrics.intervals import delong
from mia_hub.metrics.roc import auc
from mia_hub.system.processes import current_processes

FOLDS = 5
FEWEST_FOR_BLIND = 25
MOST_FOR_BLIND = 10_000
# DeLong's interval assumes independent held-out scores, but folds share training data. Over random halves of one population, from 30 to
# 1,500 images of either kind, the AUC's spread was 1.2 to 1.6 times that of DeLong (`python -m benchmarks.shift_check`).
OVERDISPERSION = 1.6


@dataclass(frozen=True, eq=False)
class Survey:
    """The result of one pass over the images of a split, before the model is queried.

    Attributes:
        ids: content ids, N of them.
        blind: `blind_auc` of the images; None if it was not requested, or with too few of them.
    """

    ids: list[str]
    blind: Estimate | None


def check_unchanged(images: Sequence[InputImage], before: Sequence[str], after: Sequence[str]) -> None:
    """Refuse images that were others when they were read again.

    Args:
        images: that were read twice.
        before, after: their content ids then and now.

    Raises:
        SplitError: with their number and the name of the first.
    """
    changed = [row for row, (then, now) in enumerate(zip(before, after, strict=True)) if then != now]
    if changed:
        count = f"{len(changed):,} image{'s' * (len(changed) != 1)}"
        raise SplitError(
            f"{count} changed after the first reading, {images[changed[0]].name} first, so that the scores are of other images than those "
            "that were checked. Run it again on files that stay as they are."
        )


def survey(images: Sequence[InputImage], is_member: npt.NDArray[Any], *, blind: bool = True, progress: bool = True) -> Survey:
    """Read every image once, and refuse a split whose members and non-members overlap.

    Raises:
        SplitError: if an image is on both sides.
        ImageError: for an image that can't be read.
    """
    return current_processes().first(lambda: _survey(images, np.asarray(is_member), blind, progress))


def _survey(images: Sequence[InputImage], is_member: npt.NDArray[Any], blind: bool, progress: bool) -> Survey:
    ids: list[str] = []
    # Features are computed only of the images that the classifier sees, so that a large split needs no more memory.
    place = {int(row): i for i, row in enumerate(_blind_rows(is_member, 0))} if blind else {}
    features = np.empty((len(place), FEATURES))

    def described(rows: list[int], read: list[InputImage]) -> tuple[list[str], list[int], npt.NDArray[np.float64]]:
        seen = [(place[row], image) for row, image in zip(rows, read) if row in place]
        return [image.id for image in read], [at for at, _ in seen], blind_features_of([image for _, image in seen])

    with tqdm(total=len(images), desc="reading images", unit="image", delay=1.0, disable=not progress) as bar:
        for read_ids, places, seen in decoded_ahead(images, range(len(images)), described):
            ids += read_ids
            features[places] = seen
            bar.update(len(read_ids))
    members = {i for i, label in zip(ids, is_member) if label == 1}
    both = members & {i for i, label in zip(ids, is_member) if label == 0}
    if both:
        row = next(row for row, sample in enumerate(ids) if sample in both)
        raise SplitError(
            f"{len(both)} images are both members and non-members (one is {images[row].name!r}); each must be on one side only. "
            "Remove them from the non-members, or check how the split was made."
        )
    return Survey(ids, _cross_validated(features, is_member[list(place)], 0) if place else None)


def blind_auc(features: npt.NDArray[np.float64], is_member: npt.NDArray[Any], *, seed: int = 0) -> Estimate | None:
    """Return the AUC of a classifier that sees `blind_features` of the images and never the model, cross-validated over 5 folds.

    Scores of held-out folds are pooled; the classifier is a mean of logistic regression and gradient boosting, in ranks. The interval is
    DeLong's, widened by `OVERDISPERSION`, so that about 2.5 % of splits drawn at random are called shifted.

    Args:
        features: float64 ``[N, F]``.
        is_member: ``[N]``, 1 or 0.
        seed: of the folds. Audits use the default, so that nobody can try seeds until a split passes.

    Returns:
        The AUC and its interval; None with fewer than 25 images of either kind, too few to train a classifier.
    """
    labels = np.asarray(is_member)
    rows = _blind_rows(labels, seed)
    return _cross_validated(features[rows], labels[rows], seed) if len(rows) else None


def _blind_rows(is_member: npt.NDArray[Any], seed: int) -> npt.NDArray[np.int64]:
    """Return the rows that the blind classifier sees, in its order; none with too few of either kind."""
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(is_member == label))[:MOST_FOR_BLIND] for label in (1, 0)]
    return np.concatenate(rows) if min(map(len, rows)) >= FEWEST_FOR_BLIND else np.empty(0, int)


def classifier_scores(
    features: npt.NDArray[np.float64], labels: npt.NDArray[Any], judged: npt.NDArray[np.float64], *, seed: int = 0
) -> npt.NDArray[np.float64]:
    """Return the scores of the blind classifier, a mean of logistic regression and gradient boosting, in ranks.

    Args:
        features: float64 ``[N, F]``, what it is fitted on.
        labels: ``[N]``, 1 or 0.
        judged: ``[n, F]``, other images.
        seed: of gradient boosting.

    Returns:
        float64 ``[n]`` in (0, 2]; higher = more likely labelled 1. Comparable among these images alone.
    """
    from scipy.stats import rankdata
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scores = np.zeros(len(judged))
    for classifier in (
        make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)),
        HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=15, random_state=seed),
    ):
        classifier.fit(features, labels)
        scores += rankdata(classifier.decision_function(judged)) / len(judged)
    return scores


def _cross_validated(features: npt.NDArray[np.float64], labels: npt.NDArray[Any], seed: int) -> Estimate:
    from sklearn.model_selection import StratifiedKFold

    scores = np.zeros(len(labels))
    for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(features, labels):
        # Ranks within the fold: folds are calibrated differently, and pooling raw scores would bias the AUC downwards.
        scores[test] = classifier_scores(features[train], labels[train], features[test], seed=seed)
    value, (low, high) = float(auc(scores, labels)), (float(end) for end in delong(scores, labels))
    low, high = max(0.0, value - OVERDISPERSION * (value - low)), min(1.0, value + OVERDISPERSION * (high - value))
    return Estimate(value, low, high, int((labels == 1).sum()), int((labels == 0).sum()))


def shift_flags(blind: Estimate | None) -> tuple[Flag, ...]:
    """Return the flag that the shift check raises, if any."""
    if blind is None:
        return (flag("no-shift-check", f"fewer than {FEWEST_FOR_BLIND} images of either kind, or switched off"),)
    if blind.low > 0.5:
        return (flag("distribution-shift", f"a blind classifier reaches AUC {blind}; chance is 0.5"),)
    return ()
