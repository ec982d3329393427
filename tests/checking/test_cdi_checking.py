"""Answers about sets by CDI: of a perfect memory's training images, of further non-members, and refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.blobs import blobs, perfect_memory
from support.command_line import run
from support.known_blobs import folder_of

import mia_hub
from mia_hub.checking.checker import Checker
from mia_hub.checking.set_pages import set_text
from mia_hub.errors import AttackError, MetricError, SplitError
from mia_hub.references.reference import Reference

MEMBERS, NONMEMBERS, OTHERS = blobs(26, 1), blobs(60, 2), blobs(26, 3)
ATTACK = mia_hub.get_attack("sima", timesteps=(100,))
QUIET = {"progress": False}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MIA_HUB_HOME", str(tmp_path / "home"))


@pytest.fixture
def checker():
    """One of the exact denoiser of 26 images: it knows them by heart."""
    return Checker(perfect_memory(MEMBERS), ATTACK, nonmembers=NONMEMBERS, **QUIET)


def test_the_training_images_of_a_perfect_memory_are_found(checker):
    check = checker.check_set(MEMBERS, method="cdi", **QUIET)
    assert check.verdict == "evidence" and check.p_value == check.p_welch < 1e-4
    assert (check.n, check.n_null, check.method, check.attack_name) == (26, 26, "cdi", "cdi")
    assert len(check.scores) == 13 and check.fraction is None and check.more_needed is None
    assert any("CDI's test" in caveat and "in whatever way they differ" in caveat for caveat in check.caveats)
    text = set_text(check)
    assert "26 features of CDI" in text and "Welch's t-test on the held-out half" in text and "permutation" not in text
    assert json.loads(json.dumps(check.to_dict()))["method"] == "cdi"
    assert checker.check_set(MEMBERS[::-1].copy(), method="cdi", **QUIET).p_value == check.p_value, "whatever the order"


def test_further_nonmembers_are_no_evidence(checker):
    check = checker.check_set(OTHERS, method="cdi", **QUIET)
    assert check.verdict == "cannot-tell" and check.p_value > 0.01


def test_nonmembers_that_are_in_the_set_are_not_compared_with_themselves(checker):
    check = checker.check_set(np.concatenate([NONMEMBERS[:5], OTHERS[:20]]), method="cdi", **QUIET)
    assert check.n_null == 25 and any("5 of the known non-members are in the set themselves" in note for note in check.notes)


def test_images_of_another_kind_get_no_verdict(checker):
    other = np.random.default_rng(0).integers(0, 256, (25, 12, 12), dtype=np.uint8)
    check = checker.check_set(other, method="cdi", **QUIET)
    assert check.verdict == "not-comparable" and check.p_value is None and check.scores == ()


def test_refusals(checker):
    with pytest.raises(MetricError, match="19 different images are too few for CDI"):
        checker.check_set(MEMBERS[:19], method="cdi", **QUIET)
    with pytest.raises(SplitError, match="compares 70 images with as many known non-members, and there are 60"):
        checker.check_set(blobs(70, 9), method="cdi", **QUIET)
    with pytest.raises(AttackError, match="method must be"):
        checker.check_set(MEMBERS, method="dataset", **QUIET)
    with pytest.raises(AttackError, match="leave the attack out"):
        mia_hub.check_set(MEMBERS, perfect_memory(MEMBERS), "sima", method="cdi", nonmembers=NONMEMBERS, **QUIET)


def test_a_reference_alone_has_no_images_to_query(tmp_path):
    model = perfect_memory(MEMBERS)
    folder = Reference.build(model, NONMEMBERS, ATTACK, **QUIET).save(tmp_path / "reference")
    for options in ({"reference": str(folder)}, {}):
        with pytest.raises(SplitError, match="only their scores, or none"):
            Checker(model, **options, **QUIET).check_set(MEMBERS, method="cdi", **QUIET)


def test_the_command_answers_by_it(capsys, tiny_pixel_repo, tmp_path):
    images, known = folder_of(blobs(25, 5, side=8), tmp_path / "images"), folder_of(blobs(25, 6, side=8), tmp_path / "known")
    command = ["check-set", images, "--model", tiny_pixel_repo(), "--nonmembers", known, "--method", "cdi", "--quiet"]
    status, out, _ = run(capsys, *command)
    assert status == 0 and "26 features of CDI" in out
    status, _, err = run(capsys, *command, "--attack", "sima")
    assert status != 0 and "combines attacks of its own" in err
