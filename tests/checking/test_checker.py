"""The checker on a model that knows its members by heart: evidence for members, uniform p-values for others, and what gets no verdict."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from support.blobs import SIMA, blobs, perfect_memory

import mia_hub
from mia_hub.checking.checker import MOST_DECODED, Checker
from mia_hub.checking.image_answers import ImageCheck
from mia_hub.errors import MiaHubError, SplitError
from mia_hub.metrics.p_values import ALPHA, FALSE_DISCOVERY_RATE


@pytest.fixture(scope="module")
def memory():
    """Members, and the perfect memory of them."""
    members = blobs(60, 0)
    return members, perfect_memory(members)


def test_check_of_a_perfect_memory(memory):
    members, model = memory
    checker = Checker(model, SIMA, nonmembers=blobs(199, 1), progress=False)
    answers = checker.check(np.concatenate([members[:5], blobs(20, 4)]), progress=False)
    assert [answer.verdict for answer in answers[:5]] == ["evidence"] * 5
    assert all(answer.p_value == 1 / 200 for answer in answers[:5])
    fresh = [answer for answer in answers[5:] if answer.comparable]
    assert len(fresh) >= 18
    assert sum(answer.q_value <= FALSE_DISCOVERY_RATE for answer in fresh) <= 1
    one = checker.check(members[0], progress=False)[0]
    assert (one.verdict, one.q_value, one.p_value <= ALPHA) == ("evidence", None, True)
    assert one.sentence.startswith("Evidence that this image was in the training set: it is more like a training image of the model")
    assert len(one.profile.scores) == len(one.profile.nonmembers.middle) == 3
    assert one.profile.members is None


def test_p_values_of_fresh_nonmembers_are_uniform_or_larger(memory):
    _, model = memory
    checker = Checker(model, SIMA, nonmembers=blobs(199, 1), progress=False)
    p = np.array([a.p_value for a in checker.check(blobs(400, 5), progress=False) if a.comparable])
    assert len(p) > 380
    for level in (0.05, 0.2, 0.5, 0.8):
        # The null set is drawn once: its own sampling error adds to that of the 400.
        assert (p <= level).mean() <= level + 3 * math.sqrt(level * (1 - level) * (1 / len(p) + 1 / 199))


def test_nonmembers_checked_against_themselves_are_left_out(memory):
    _, model = memory
    null = blobs(50, 1)
    answers = Checker(model, SIMA, nonmembers=null, progress=False).check(null, progress=False)
    assert {answer.n_null for answer in answers if answer.comparable} == {49}
    assert min(answer.p_value for answer in answers if answer.comparable) == 1 / 50


def test_copies_among_the_nonmembers_count_once(memory):
    _, model = memory
    null = blobs(25, 1)
    checker = Checker(model, SIMA, nonmembers=np.concatenate([null] * 5), progress=False)
    assert len(checker.reference.null) == 25
    assert "100 copies left out" in checker.reference.source
    assert checker.check(blobs(1, 7), progress=False)[0].n_null == 25
    with pytest.raises(SplitError, match="15 different known non-members"):
        Checker(model, SIMA, nonmembers=np.concatenate([null[:15]] * 5), progress=False)


def test_without_nonmembers_there_is_no_verdict(memory):
    members, model = memory
    answer = mia_hub.check_image(members[0], model, SIMA, progress=False)
    assert (answer.verdict, answer.p_value, answer.comparable) == ("no-null", None, None)
    assert answer.sentence.startswith("No verdict is possible")
    assert answer.timestep == SIMA.default_timestep == 60
    with pytest.raises(SplitError, match=r"19 different known non-members are too few"):
        Checker(model, SIMA, nonmembers=blobs(19, 1))


def test_a_long_series_is_decoded_lazily_and_judged_alike(memory):
    members, model = memory
    checker = Checker(model, SIMA, nonmembers=blobs(60, 1), progress=False)
    images = np.concatenate([members[:4], blobs(MOST_DECODED, 6)])
    long = checker.check(images, progress=False)
    short = checker.check(images[:4], progress=False)
    assert [a.p_value for a in long[:4]] == [a.p_value for a in short]


def test_answers_survive_their_json_form(memory):
    members, model = memory
    checker = Checker(model, SIMA, nonmembers=blobs(60, 1), progress=False)
    answers = checker.check(members[:2], progress=False)
    saved = json.loads(json.dumps(checker.to_dict(answers)))
    assert [ImageCheck.from_entry(entry, saved["reference"]) for entry in saved["images"]] == answers
    assert saved["higher_score_means"] == "more likely a member"
    assert saved["reference"]["n_nonmembers"] == 60


def test_captions_for_the_nonmembers_of_an_unconditional_model_are_refused():
    with pytest.raises(MiaHubError, match="takes no captions"):
        Checker("demo", nonmember_captions=["a"], progress=False)
