"""Answers about sets: of the demo's members and non-members, of images of another kind, and refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest

import mia_hub
from mia_hub.checking.checker import Checker
from mia_hub.checking.checks import get_checker
from mia_hub.errors import MetricError, SplitError
from mia_hub.references.demo_reference import demo_reference


@pytest.fixture(scope="module")
def split():
    return mia_hub.load_split("demo")


def reported(part):
    """Images of the part on which nothing was chosen."""
    ids = set(demo_reference().profiles.ids)
    return [image for image in (part[i] for i in range(120)) if image.id in ids]


@pytest.mark.slow
def test_check_set_end_to_end(split):
    members = reported(split.members)[:30]
    check = mia_hub.check_set([*members, members[0]], progress=False)
    assert check.verdict == "evidence" and check.p_value < 0.001 and check.n == 30
    assert check.sentence.startswith("Evidence that images of this set were in the training set: as a set, the 30 images look more like")
    assert check.notes == ("1 copy of another image in the set was left out.",)
    assert len(check.scores) == 30
    again = mia_hub.check_set(members[::-1], progress=False)
    assert again.verdict == "evidence"
    assert json.loads(json.dumps(check.to_dict()))["p_value"] == check.p_value


def test_known_nonmembers_in_the_set_are_not_compared_with_themselves(split):
    nonmembers = reported(split.nonmembers)[:20]
    check = mia_hub.check_set(nonmembers, progress=False)
    assert check.n_null == 2000 - 20
    assert "20 of the known non-members are in the set themselves" in check.notes[0]
    assert check.verdict in ("cannot-tell", "evidence")


def test_images_of_another_kind_get_no_verdict(split):
    other = np.random.default_rng(0).integers(0, 256, (30, 28, 28, 3), dtype=np.uint8)
    check = mia_hub.check_set(other, progress=False)
    assert check.verdict == "not-comparable" and check.p_value is None and check.fraction is None
    assert "30 of the 30 images are unlike" in check.sentence


def test_a_set_that_can_be_told_apart_without_the_model_gets_no_verdict(split):
    """Each image passes for itself, and together they are of one kind that the known non-members are not."""
    nonmembers = [split.nonmembers[i] for i in range(600)]
    pixels = np.array([image.pixels for image in nonmembers])
    dark = pixels[np.argsort(pixels.mean(axis=(1, 2, 3)))[:40]]
    check = mia_hub.check_set(dark, progress=False)
    assert check.verdict == "not-comparable"
    assert "blind classifier" in check.sentence


def test_without_known_nonmembers_there_is_no_verdict(tiny_pixel_repo):
    check = mia_hub.check_set(np.random.default_rng(0).random((6, 1, 8, 8)), model=str(tiny_pixel_repo()), progress=False)
    assert check.verdict == "no-null" and check.p_value is None
    assert "Give 99 or more" in check.sentence


def test_fewer_than_five_images_are_refused_before_the_model_is_queried():
    with pytest.raises(MetricError, match="2 different images"):
        get_checker("demo").check_set(np.zeros((2, 28, 28), np.uint8) + np.array([0, 9], np.uint8)[:, None, None])


def test_nonmembers_that_are_in_the_set_leave_too_few():
    images = [image.to_pil() for image in mia_hub.load_split("demo").nonmembers[:24]]
    checker = Checker("demo", mia_hub.get_attack("sima", timesteps=(100,)), nonmembers=images[:21], progress=False)
    with pytest.raises(SplitError, match="19 of the known non-members are in the set themselves, and of the others there are only 2"):
        checker.check_set(images[:19])
