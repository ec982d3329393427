"""The ROC curve and its figures: against scikit-learn, and against sums done by hand."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics
from support.toy_scores import CONSTANT, INVERTED, PERFECT, TOY, tied_draws

from mia_hub import metrics
from mia_hub.errors import MetricError


def test_agrees_with_scikit_learn():
    for scores, labels in tied_draws():
        fpr, tpr, thresholds = sklearn_metrics.roc_curve(labels, scores, drop_intermediate=False)
        curve = metrics.roc_curve(scores, labels)
        np.testing.assert_allclose(curve.fpr, fpr, atol=1e-15)
        np.testing.assert_allclose(curve.tpr, tpr, atol=1e-15)
        np.testing.assert_array_equal(curve.thresholds, thresholds)
        assert metrics.auc(scores, labels) == pytest.approx(sklearn_metrics.roc_auc_score(labels, scores), abs=1e-12)
        assert metrics.asr(scores, labels) == pytest.approx(np.max(tpr + 1 - fpr) / 2, abs=1e-12)
        n0 = np.sum(labels == 0)
        for k in (1, max(1, n0 // 3), n0):
            assert metrics.tpr_at_fpr(scores, labels, k / n0) == pytest.approx(tpr[fpr <= k / n0 + 1e-9].max(), abs=1e-12)


def test_thresholds_reproduce_their_figures():
    for scores, labels in tied_draws():
        best = metrics.best_threshold(scores, labels)
        predicted = scores >= best
        assert metrics.asr(scores, labels) == pytest.approx(sklearn_metrics.balanced_accuracy_score(labels, predicted), abs=1e-12)
        n0 = np.sum(labels == 0)
        fpr = max(0.2, 1 / n0)
        called = scores >= metrics.threshold_at_fpr(scores, labels, fpr)
        assert np.mean(called[labels == 0]) <= fpr + 1e-12
        assert np.mean(called[labels == 1]) == pytest.approx(metrics.tpr_at_fpr(scores, labels, fpr), abs=1e-12)


def test_toy_curve_by_hand():
    curve = metrics.roc_curve(*TOY)
    assert curve.thresholds.tolist() == [math.inf, 4, 3, 2, 1, 0, -1]
    np.testing.assert_allclose(curve.tpr, np.array([0, 1, 1, 2, 2, 3, 3]) / 3)
    np.testing.assert_allclose(curve.fpr, np.array([0, 0, 1, 2, 3, 3, 4]) / 4)
    # The members with 4, 2 and 0 outrank 4, 2.5 (a tie counts half) and 1 of the 4 non-members.
    assert metrics.auc(*TOY) == 7.5 / 12


@pytest.mark.parametrize(
    ("figure", "arguments", "expected"),
    [
        (metrics.asr, (), (1 / 3 + 1) / 2),
        (metrics.best_threshold, (), 4.0),
        (metrics.balanced_accuracy_at, (2.0,), (2 / 3 + 2 / 4) / 2),
        (metrics.balanced_accuracy_at, (math.inf,), 0.5),
        (metrics.balanced_accuracy_at, (-1.0,), 0.5),
        (metrics.tpr_at_fpr, (0.25,), 1 / 3),
        (metrics.threshold_at_fpr, (0.25,), 4.0),  # 3 has the same TPR, but a false alarm more
        (metrics.tpr_at_fpr, (0.49,), 1 / 3),
        (metrics.tpr_at_fpr, (0.5,), 2 / 3),
        (metrics.threshold_at_fpr, (0.5,), 2.0),
        (metrics.tpr_at_fpr, (0.75,), 1.0),
        (metrics.threshold_at_fpr, (0.75,), 0.0),
        (metrics.tpr_at_fpr, (1.0,), 1.0),
        # Swapped, lowest score first: N -1, M 0, N 1, M = N 2, N 3, M 4; one of 3 members may be mistaken.
        (metrics.legacy_swapped_tpr, (1 / 3,), 2 / 4),
        (metrics.legacy_swapped_tpr, (0.7,), 4 / 4),
    ],
)
def test_toy_figures_by_hand(figure, arguments, expected):
    assert figure(*TOY, *arguments) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("sample", "auc", "asr", "tpr", "threshold", "best"),
    [(PERFECT, 1, 1, 1, 3.0, 3.0), (INVERTED, 0, 0.5, 0, math.inf, math.inf), (CONSTANT, 0.5, 0.5, 0, math.inf, math.inf)],
    ids=["perfect", "inverted", "constant"],
)
def test_extremes(sample, auc, asr, tpr, threshold, best):
    assert metrics.auc(*sample) == auc
    assert metrics.asr(*sample) == asr
    assert metrics.tpr_at_fpr(*sample, 0.34) == tpr
    assert metrics.threshold_at_fpr(*sample, 0.34) == threshold
    assert metrics.best_threshold(*sample) == best


def test_members_are_the_positive_class():
    """Half of the members stand out, the non-members never do: swapping the classes would turn 0.5 into 0.02."""
    scores = np.concatenate([np.full(50, 9.0), np.linspace(0, 1, 50, endpoint=False), np.linspace(0.005, 0.995, 100)])
    labels = np.repeat([1, 0], 100)
    assert metrics.tpr_at_fpr(scores, labels, 0.01) == 0.5
    assert metrics.legacy_swapped_tpr(scores, labels, 0.01) == 0.02
    assert metrics.auc(scores, labels) > 0.7
    raw_norm = -scores
    fpr, tpr, _ = sklearn_metrics.roc_curve(labels == 0, raw_norm)
    assert metrics.legacy_swapped_tpr(scores, labels, 0.01) == tpr[fpr <= 0.01].max()


def test_tpr_at_fpr_counts_false_positives_exactly():
    """With k of n0 allowed, the k-th non-member from the top may be called, the next one may not, whatever fpr * n0 rounds to."""
    cases = [(0.01, 300), (0.07, 100), (0.29, 100), (0.001, 1000), (0.001, 3000), (1 / 3, 3), (1 / 49, 49), (0.3 - 0.1, 5), (0.58, 50)]
    cases += [(k / 1000, 7000) for k in range(1, 1000, 37)]
    assert any(math.floor(fpr * n) != round(Fraction(fpr).limit_denominator(1000) * n) for fpr, n in cases), "no case rounds badly"
    for fpr, n0 in cases:
        k = round(Fraction(fpr).limit_denominator(1000) * n0)
        # Each member sits just above a non-member, so TPR = k + 1 members caught at k false positives.
        scores = np.concatenate([np.arange(n0) + 0.5, np.arange(n0)])
        labels = np.repeat([1, 0], n0)
        assert metrics.tpr_at_fpr(scores, labels, fpr) == min(k + 1, n0) / n0, (fpr, n0)


def test_tied_scores_are_never_separated():
    # 10 members tied with 2 of 10 non-members at the top: at 10% neither those members nor anyone else can be called.
    scores, labels = [1.0] * 12 + [0.0] * 8, [1] * 10 + [0] * 10
    assert metrics.tpr_at_fpr(scores, labels, 0.1) == 0
    assert metrics.threshold_at_fpr(scores, labels, 0.1) == math.inf
    assert metrics.tpr_at_fpr(scores, labels, 0.2) == 1


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([1, 2, 3], [1, 0], r"shape \(3,\) and labels \(2,\)"),
        ([[1, 2]], [[1, 0]], "must be flat"),
        ([1, 2, 3], [1, 1, 1], r"All 3 labels are 1; .* Add non-members"),
        ([1, 2], [False, False], r"All 2 labels are 0; .* Add members"),
        ([1, math.nan, math.inf], [1, 0, 0], "2 of 3 scores are NaN or infinite"),
        ([1, 2, 3], [1, 0, 2], "1 of 3 labels are neither 0 nor 1"),
        ([1, 2], [1.0, math.nan], "1 of 2 labels are neither 0 nor 1"),
        ([1, 2], ["member", "other"], "neither 0 nor 1. Label members 1"),
        (["a", "b"], [1, 0], "not all numbers"),
        ([], [], "No scores were given"),
    ],
)
def test_refuses_bad_samples(scores, labels, message):
    for figure in (metrics.scores_by_class, metrics.roc_curve, metrics.auc, metrics.asr, metrics.delong, metrics.asr_interval):
        with pytest.raises(MetricError, match=message):
            figure(scores, labels)
