"""CDI's test of a set (Dubiński et al., arXiv 2411.12858): a classifier that is fitted on one half, and a t-test on the other.

A logistic regression learns to tell suspects from as many known non-members by many features, on half of both. On the other halves its
probabilities are compared by Welch's t-test, one-sided: the suspects' must be higher. The halves are independent of each other, so under
the null hypothesis, that suspects are further non-members of the same kind, the test is as exact as Welch's is.

The authors' public code fits in five folds and tests the held-out probabilities of all folds together (`folds`). Those depend on one
another through the fits, and the p-values are too small: of sets that were never used, some 4 % have p ≤ .01
(tests/metrics/test_dataset_inference.py).
"""

from __future__ import annotations

import numpy as np

from mia_hub.errors import MetricError
from mia_hub.metrics.set_tests import Floats, SetTest, welch

# Ten to fit on, and ten to test.
FEWEST_FOR_CDI = 25


def too_few_for_cdi(n: int) -> MetricError:
    """Return the error for a set of n images, which are too few."""
    return MetricError(
        f"{n} different images are too few for CDI, which fits on one half and tests on the other; give at least {FEWEST_FOR_CDI}, better "
        "70 or more, or choose the default test."
    )


def cdi_test(suspects: Floats, null: Floats, *, folds: int | None = None, seed: int = 0) -> SetTest:
    """Return CDI's test of a set, with the standardised scores of the images that nothing was fitted on.

    Args:
        suspects: features of the set, ``[m, F]``.
        null: of known non-members, ``[m, F]``.
        folds: None for halves; a number for the authors' cross-fitting, whose p-values are too small.
        seed: of the halves or folds.

    Raises:
        MetricError: with fewer than 20 suspects, or another number of non-members.
    """
    if len(suspects) < FEWEST_FOR_CDI:
        raise too_few_for_cdi(len(suspects))
    if len(null) != len(suspects):
        raise MetricError(f"CDI compares a set with as many known non-members; got {len(suspects)} images and {len(null)} non-members.")
    rng = np.random.default_rng(seed)
    sides = [side[rng.permutation(len(side))] for side in (suspects, null)]
    scores = []
    for part in [1] if folds is None else range(folds):
        held_out = np.arange(len(suspects)) % (folds or 2) == part
        fitted, tested = ([side[rows] for side in sides] for rows in (~held_out, held_out))
        scores.append(np.split(_probabilities(fitted[0], fitted[1], np.vstack(tested)), 2))
    own, others = (np.concatenate(side) for side in zip(*scores))
    p_value = welch(own, others)
    centre, spread = others.mean(), others.std(ddof=1) or 1.0
    own, others = (own - centre) / spread, (others - centre) / spread
    return SetTest(p_value, p_value, None, None, own, others, None)


def _probabilities(suspects: Floats, null: Floats, others: Floats) -> Floats:
    """Return P(suspect) of others, by a logistic regression (L2, C = 1) of standardised features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    labels = np.repeat([1, 0], [len(suspects), len(null)])
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(np.vstack([suspects, null]), labels)
    return np.asarray(classifier.predict_proba(others)[:, 1], np.float64)
