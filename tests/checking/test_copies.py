"""Copies, end to end: a mirrored training image gets evidence, the answer names what was found, and it says when nothing was searched."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from support.blobs import SIMA, perfect_memory

import mia_hub
from mia_hub.checking.answer_page import curve_svg
from mia_hub.checking.checker import Checker
from mia_hub.checking.image_answers import ImageCheck
from mia_hub.checking.image_pages import check_text
from mia_hub.errors import AttackError
from mia_hub.metrics.candidates import FEWEST_FOR_CANDIDATES

ATTACK = mia_hub.get_attack("sima-copies", timesteps=(60,), shifts=True)
TREATED = {
    "as it is": lambda images: images,
    "mirrored": lambda images: images[:, :, ::-1],
    # What was trained on lies one pixel to the right: but for a column, it is the image shifted back.
    "shifted right by one pixel": lambda images: np.concatenate([images[:, :, 1:], images[:, :, -1:]], axis=2),
}


def textures(n, seed):
    """Images of which a shift by a pixel is another image; each from black to white, so that full contrast changes none."""
    pixels = np.random.default_rng(seed).integers(0, 256, (n, 12, 12), dtype=np.uint8)
    pixels[:, 0, 0], pixels[:, 0, 1] = 0, 255
    return pixels


@pytest.fixture(scope="module")
def memory():
    """Members, and the perfect memory of them."""
    members = textures(60, 0)
    return members, perfect_memory(members)


@pytest.fixture(scope="module")
def checker(memory):
    return Checker(memory[1], ATTACK, nonmembers=textures(FEWEST_FOR_CANDIDATES, 1), copies=True, keep=False, progress=False)


@pytest.mark.parametrize("treatment", TREATED)
def test_a_copy_gets_evidence_and_is_named(memory, checker, treatment):
    copies = np.ascontiguousarray(TREATED[treatment](memory[0][:6]))
    answers = checker.check(copies, progress=False)
    assert [answer.verdict for answer in answers] == ["evidence"] * 6
    assert [answer.candidate for answer in answers] == [treatment] * 6
    assert all(answer.n_null == FEWEST_FOR_CANDIDATES and not answer.notes for answer in answers)
    ending = "as it is." if treatment == "as it is" else f"when it is {treatment}."
    assert f" It looks most like one {ending} " in answers[0].sentence
    single = checker.check(copies[:1], progress=False)
    assert re.search(f"Most like a training image +{treatment}\n", check_text(single, model="m", attack="a"))
    # The curve is of the image as it was given.
    drawn = curve_svg(single[0])
    assert f">this image as it is, not {treatment}<" in drawn if treatment != "as it is" else ">this image<" in drawn


def test_p_values_of_fresh_nonmembers_are_uniform_or_larger(memory, checker):
    p = np.array([one.p_value for one in checker.judge(textures(150, 5), progress=False)])
    for level in (0.01, 0.05, 0.2, 0.5):
        assert np.mean(p <= level) <= level + 3 * np.sqrt(level * (1 - level) * (1 / 150 + 1 / FEWEST_FOR_CANDIDATES))


def test_an_answer_is_stored_and_read_with_its_candidate(memory, checker):
    answers = checker.check(memory[0][:2, :, ::-1].copy(), progress=False)
    stored = json.loads(json.dumps(checker.to_dict(answers)))
    assert stored["attack"].startswith("SimACopies(") and stored["images"][0]["candidate"] == "mirrored"
    assert [ImageCheck.from_entry(entry, stored["reference"]) for entry in stored["images"]] == list(answers)
    # Answers of earlier versions have no candidate.
    del stored["images"][0]["candidate"]
    assert ImageCheck.from_entry(stored["images"][0], stored["reference"]).candidate is None


def test_a_stored_reference_gives_the_same_answers(memory, checker, tmp_path):
    checker.reference.save(tmp_path / "reference")
    read = Checker(memory[1], reference=mia_hub.Reference.load(tmp_path / "reference"), copies=True, progress=False)
    images = np.concatenate([memory[0][:2, :, ::-1], textures(2, 9)])
    assert read.check(images, progress=False) == checker.check(images, progress=False)


def test_a_set_is_compared_as_it_is(memory, checker):
    plain = Checker(memory[1], mia_hub.get_attack("sima-lp", timesteps=(60,)), nonmembers=textures(100, 1), keep=False, progress=False)
    few = Checker(memory[1], ATTACK, nonmembers=textures(100, 1), keep=False, progress=False)
    sets = [each.check_set(memory[0][:10], progress=False) for each in (plain, few)]
    assert sets[0].p_value == sets[1].p_value and sets[0].verdict == "evidence"


def test_it_says_when_copies_are_not_searched(memory):
    members, model = memory
    options = {"keep": False, "progress": False, "copies": True}
    attack = mia_hub.get_attack("sima-copies", timesteps=(60,))
    few = mia_hub.check_image(members[0], model, attack, nonmembers=textures(120, 1), **options)
    assert few.candidate is None and few.p_value == 1 / 121
    assert "Copies were not searched: that takes 500 known non-members, and there are 120. The image was judged as it is." in few.notes
    plain = mia_hub.get_attack("sima-lp", timesteps=(60,))
    assert few.p_value == mia_hub.check_image(members[0], model, plain, nonmembers=textures(120, 1), keep=False, progress=False).p_value
    reference = Checker(model, SIMA, nonmembers=textures(120, 1), keep=False, progress=False).reference
    other = mia_hub.check_image(members[0], model, reference=reference, copies=True, progress=False)
    assert any(note.startswith("Copies were not searched: the reference was scored by the attack sima;") for note in other.notes)
    assert not mia_hub.check_image(members[0], model, reference=reference, progress=False).notes


def test_an_attack_that_searches_none_is_refused(memory):
    with pytest.raises(AttackError, match="answered by the attack 'sima-copies'; got 'sima'"):
        Checker(memory[1], SIMA, nonmembers=textures(120, 1), copies=True, keep=False, progress=False)
