"""How the verdict's scores of known images are distributed: counted once each, and read back as written."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.made_reports import doubtful, evidence

from mia_hub.checking.image_answers import ImageCheck
from mia_hub.references.verdict_scores import BINS, VerdictScores

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("nonmembers", "members", "critical"),
    [
        (RNG.normal(size=500), RNG.normal(3, 1, 100), 2.4),
        (RNG.normal(size=30), None, None),
        (np.zeros(25), None, None),
        (np.arange(25.0), np.empty(0), None),
        (np.array([*np.zeros(20), 1e6]), np.array([-1e6]), 5.0),
    ],
)
def test_each_image_is_counted_once(nonmembers, members, critical):
    scores = VerdictScores.of(nonmembers, members, critical)
    assert len(scores.edges) == BINS + 1 and list(scores.edges) == sorted(scores.edges)
    assert sum(scores.nonmembers) == len(nonmembers) and (scores.members is None) == (members is None or not len(members))
    assert scores.members is None or sum(scores.members) == len(members)
    assert VerdictScores.from_dict(json.loads(json.dumps(vars(scores)))) == scores
    # Counted by hand: a bin holds its lower edge, and the last bin both.
    edges, last = scores.edges, BINS - 1
    for k, count in enumerate(scores.nonmembers):
        assert count == sum(edges[k] <= score < edges[k + 1] or (k == last and score == edges[-1]) for score in nonmembers)


@pytest.mark.parametrize("check", [evidence(), doubtful()])
def test_an_answer_keeps_them_where_answers_share_them(check):
    shared = {"member_band": vars(check.profile.members), "nonmember_band": vars(check.profile.nonmembers)}
    reference = json.loads(json.dumps(shared | {"verdict_scores": vars(check.known_scores)}))
    entry = json.loads(json.dumps(check.to_entry()))
    assert "known_scores" not in entry and ImageCheck.from_entry(entry, reference) == check
