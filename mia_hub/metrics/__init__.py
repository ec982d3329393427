"""Figures of merit of a membership attack, each with an honest interval.

Everywhere: a higher score means "more likely a member", members are the positive class (label 1), and a sample is called a member
when its score is at or above the threshold. Scores are never rescaled, and tied scores are never separated.
"""

from __future__ import annotations

from mia_hub.metrics.intervals import asr_interval, auc_difference, balanced_accuracy_interval, clopper_pearson, delong, tpr_at_fpr_interval
from mia_hub.metrics.roc import (
    RocCurve,
    asr,
    auc,
    balanced_accuracy_at,
    best_threshold,
    legacy_swapped_tpr,
    roc_curve,
    scores_by_class,
    threshold_at_fpr,
    tpr_at_fpr,
)

__all__ = [
    "RocCurve",
    "asr",
    "asr_interval",
    "auc",
    "auc_difference",
    "balanced_accuracy_at",
    "balanced_accuracy_interval",
    "best_threshold",
    "clopper_pearson",
    "delong",
    "legacy_swapped_tpr",
    "roc_curve",
    "scores_by_class",
    "threshold_at_fpr",
    "tpr_at_fpr",
    "tpr_at_fpr_interval",
]
