"""PANORAMIA on made-up images: it finds what is there, and also what isn't, as the study says."""

from __future__ import annotations

import numpy as np
import pytest

from studies import generated_nonmembers as study
from studies.generated_nonmembers import FEATURES, HELPED, MEMBERS, OWN, World, audit

N, F, T = 256, 8, 2


def world(*, look: float, leak: float, manner: float) -> World:
    """Members and generated images, ``N`` of each to fit and to judge: how much they differ in features, and in scores.

    Args:
        look: by which the features of generated images are shifted.
        leak: by which the scores of members are raised.
        manner: by which those of generated images are lowered, because the model knows generated images from real ones.
    """
    rng = np.random.default_rng(0)
    features, scores, helper = (rng.normal(size=(4 * N, columns)) for columns in (F, T, T))
    fit, judged = ({MEMBERS: np.arange(start, start + N), OWN: np.arange(2 * N + start, 2 * N + start + N)} for start in (0, N))
    features[2 * N :, 0] += look
    scores[: 2 * N] += leak
    scores[2 * N :] -= manner
    return World([], features, scores, helper, scores, fit, judged)


@pytest.mark.parametrize(
    ("differences", "found"),
    [
        ({"look": 0, "leak": 0, "manner": 0}, False),
        ({"look": 0.5, "leak": 0, "manner": 0}, False),
        ({"look": 0, "leak": 2, "manner": 0}, True),
        ({"look": 0, "leak": 0, "manner": 2}, True),
        ({"look": 12, "leak": 2, "manner": 0}, False),
    ],
    ids=["nothing", "looks alone", "a leak", "no leak, and a generator that the model knows", "a leak behind looks that tell all"],
)
def test_what_is_found_depends_on_the_generator(monkeypatch, differences, found):
    monkeypatch.setattr(study, "TOSSES", 3)
    result = audit(world(**differences), OWN, MEMBERS, FEATURES)
    assert (result["game"][2] > 0.5) == found
    assert (result["difference"][1] > 0.02) == found


def test_a_helper_that_knows_the_generator_too_takes_the_false_leak_away(monkeypatch):
    monkeypatch.setattr(study, "TOSSES", 3)
    made = world(look=0, leak=0, manner=2)
    made.helper[:] = made.scores
    result = audit(made, OWN, MEMBERS, HELPED)
    assert abs(result["game"][2]) < 0.3 and abs(result["difference"][0]) < 0.01
