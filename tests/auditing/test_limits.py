"""Limits on figures: how they are spelled, and that only a figure that is surely above one exceeds it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from mia_hub.auditing.limits import Limit, parse_limits
from mia_hub.auditing.measurement import measure
from mia_hub.errors import MetricError
from mia_hub.metrics.estimates import Estimate, Rates
from mia_hub.scores import ScoreTable

FIGURES = SimpleNamespace(
    auc=Estimate(0.70, 0.61, 0.79, 50, 50),
    asr=Estimate(0.66, 0.57, 0.74, 50, 50),
    tpr_at_fpr=Rates({0.01: Estimate(0.2, 0.1, 0.33, 50, 50)}),
)


@pytest.mark.parametrize(
    ("text", "limit", "exceeded"),
    [
        ("auc=.6", Limit("auc", 0.6), True),
        ("auc=0.65", Limit("auc", 0.65), False),  # the value is above, the lower end is not
        ("auc=.61", Limit("auc", 0.61), False),  # on the limit is not above it
        (" asr = 0.5", Limit("asr", 0.5), True),
        ("asr=.6", Limit("asr", 0.6), False),
        ("tpr@.01=.05", Limit("tpr", 0.05, 0.01), True),
        ("tpr@1e-2=1e-1", Limit("tpr", 0.1, 0.01), False),
        ("auc=0", Limit("auc", 0), True),
    ],
)
def test_a_limit_is_exceeded_where_the_whole_interval_is_above(text, limit, exceeded):
    (parsed,) = parse_limits(text)
    assert parsed == limit and Limit.parse(str(parsed)) == limit
    assert (parsed.excess(FIGURES) is not None) == exceeded
    if exceeded:
        assert str(limit.of(FIGURES)) in parsed.excess(FIGURES) and f"the limit {limit.limit:g}" in parsed.excess(FIGURES)


@pytest.mark.parametrize(
    "text",
    ["", "auc", "auc=", "auc=x", "auc=nan", "auc=1", "auc=60", "auc=-.1", "auc=60%", "AUC=.6", "auc<.6", "auc@.01=.6", "f1=.5", "tpr=.05",
     "tpr@0=.05", "tpr@2=.05", "tpr@x=.05", "tpr@.01", "tpr@.01=inf", "auc=.6=.7"],
)  # fmt: skip
def test_other_spellings_are_refused_with_what_is_accepted(text):
    with pytest.raises(MetricError, match=r"is no limit\. Accepted are auc=LIMIT, asr=LIMIT and tpr@RATE=LIMIT"):
        parse_limits([text])


@pytest.mark.parametrize(
    ("texts", "rates", "message"),
    [
        (["auc=.6", "auc=.7"], None, "two limits on the AUC"),
        (["tpr@.01=.1", "tpr@0.01=.2"], None, "two limits on the TPR at 1 %"),
        (["tpr@.05=.1"], None, "measured are 0.01, 0.001"),
        (["tpr@.01=.1"], [0.05], "measured are 0.05"),
    ],
)
def test_limits_that_contradict_each_other_or_the_rates_are_refused(texts, rates, message):
    with pytest.raises(MetricError, match=message):
        parse_limits(texts, rates)
    assert len(parse_limits(["tpr@.05=.1", "tpr@.01=.1", "auc=.6"], [0.05, 0.01])) == 3


def test_a_model_at_the_limit_fails_one_run_in_forty_at_most():
    """Scores of the binormal model with AUC Φ(d/√2) = 0.6; the share of runs that exceed the limit is P(low > 0.6) ≤ 2.5 %."""
    rng, d, n, runs = np.random.default_rng(3), 0.3582869, 150, 400
    labels, limit = np.repeat([1, 0], n), Limit("auc", 0.6)
    exceeded = 0
    for _ in range(runs):
        values = rng.normal(size=(2 * n, 1)) + d * labels[:, None]
        table = ScoreTable([str(i) for i in range(2 * n)], labels, np.array([50]), values, "made", {})
        exceeded += limit.excess(measure(table, timestep=50, fprs=[0.05]).at_selected) is not None
    assert 0 < exceeded <= 0.025 * runs + 3 * (runs * 0.025 * 0.975) ** 0.5
