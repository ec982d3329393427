"""The public functions: their signatures, the checkers that they reuse, and files that can't be read."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from support.blobs import SIMA, blobs, perfect_memory

import mia_hub
from mia_hub.checking.checks import get_checker, readable_images

OPTIONS = {
    "nonmembers": None, "nonmember_captions": None, "batch_size": None, "seed": 0, "device": None, "dtype": None, "revision": None,
    "base": None, "reference_models": None, "progress": True, "reference": None, "keep": True, "copies": False, "calibration": None,
}  # fmt: skip
FUNCTIONS = {name: getattr(mia_hub, name) for name in ("check_image", "check_images", "check_set", "Checker")}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_option_is_in_the_signature_and_documented(name):
    parameters = inspect.signature(FUNCTIONS[name]).parameters
    keywords = {key: parameter.default for key, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY}
    own = {"on_batch": None} if name == "Checker" else {"captions": None}
    own |= {"method": "permutation"} if name == "check_set" else {}
    assert keywords == own | OPTIONS
    assert parameters["model"].default == "demo" and parameters["attack"].default is None
    documented = FUNCTIONS["Checker" if name == "Checker" else "check_images"].__doc__ + FUNCTIONS[name].__doc__
    assert all(key in documented for key in keywords)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_unknown_option_is_refused_by_name(name):
    with pytest.raises(TypeError, match="unexpected keyword argument 'non_members'"):
        FUNCTIONS[name]("demo", non_members=[])


def test_options_reach_the_checker():
    members = blobs(20, 0)
    model = perfect_memory(members)
    check = mia_hub.check_image(members[0], model, SIMA, nonmembers=blobs(99, 1), progress=False)
    assert (check.n_null, check.p_value, check.verdict) == (99, 0.01, "evidence")


def test_a_checker_is_reused_for_a_models_name_alone():
    checker = get_checker("demo", "sima")
    assert get_checker("demo", mia_hub.get_attack("sima"), progress=False) is checker and get_checker("demo", "sima", seed=0) is checker
    assert get_checker("demo", "sima", seed=1) is not checker


def test_one_bad_file_does_not_cost_the_others_their_answers(tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    good = np.zeros((8, 8), np.uint8)
    images, problems = readable_images([good, bad])
    assert images == [good] and len(problems) == 1 and "bad.png" in problems[0]
