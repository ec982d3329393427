"""Which p- and q-values are evidence, and how many false verdicts that gives."""

from __future__ import annotations

import numpy as np
from scipy.stats import false_discovery_control

from mia_hub.checking.verdicts import CANNOT_TELL, EVIDENCE, verdict_of
from mia_hub.metrics.p_values import ALPHA, NullDistribution, adjusted


def null(scores) -> NullDistribution:
    return NullDistribution(scores, tuple(map(str, range(len(scores)))), 5)


def test_false_discoveries_stay_below_five_percent_against_a_shared_null():
    """20 members and 80 non-members, judged together against one null set of 500: the mean false share stays ≤ 5 %."""
    rng = np.random.default_rng(0)
    shares, recognised = [], []
    for _ in range(200):
        one = null(rng.normal(size=500))
        scores = np.concatenate([rng.normal(3.5, 1, 20), rng.normal(size=80)])
        p = [one.p_value(s) for s in scores]
        called = np.array([verdict_of(*both) == EVIDENCE for both in zip(p, adjusted(p))])
        shares.append(called[20:].sum() / max(1, called.sum()))
        recognised.append(called[:20].mean())
    assert np.mean(shares) <= 0.05 + 2 * np.std(shares) / np.sqrt(200)
    assert np.mean(recognised) > 0.5  # it isn't safe by never calling


def test_demanding_a_small_p_value_too_does_not_break_false_discovery_control():
    """Many p-values just above `ALPHA` pull Benjamini and Hochberg's threshold up to them; the few below are then mostly false."""
    rng = np.random.default_rng(0)
    shares = {"after": [], "in": []}
    for _ in range(300):
        p = np.concatenate([np.full(70, 0.03), rng.uniform(size=30)])
        for how, called in (
            ("after", (false_discovery_control(p) <= 0.05) & (p <= ALPHA)),
            ("in", np.array([verdict_of(*both) == EVIDENCE for both in zip(p, adjusted(p))])),
        ):
            shares[how].append(called[70:].sum() / max(1, called.sum()))
    assert np.mean(shares["in"]) <= 0.05
    assert np.mean(shares["after"]) > 0.15  # the rule that looks the same, and isn't


def test_company_never_makes_an_image_look_more_suspicious():
    assert adjusted([0.02, 0.02]).tolist() == [1, 1]
    assert verdict_of(0.04, adjusted([0.04, 0.04])[0]) == verdict_of(0.04, None) == CANNOT_TELL


def test_verdicts():
    assert verdict_of(ALPHA, None) == EVIDENCE
    assert verdict_of(0.0101, None) == CANNOT_TELL
    assert verdict_of(0.001, 0.06) == CANNOT_TELL  # among many images the adjusted value decides
    assert verdict_of(0.01, 0.05) == EVIDENCE
