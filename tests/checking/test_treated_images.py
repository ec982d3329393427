"""An attack that calls treated non-members evidence too often gives no verdict on images that were treated."""

from __future__ import annotations

import numpy as np
import pytest
from support.blobs import blobs, perfect_memory

import mia_hub
from mia_hub.checking import treated_images
from mia_hub.checking.checker import Checker
from mia_hub.checking.treated_images import MOST_FALSE, OWN_OUTPUT, FalseEvidence, is_measured, measured_name, ruled_out, worst
from mia_hub.checking.verdict_texts import treated_text
from mia_hub.defaults import (
    COPIES_ATTACK,
    COPIES_ATTACK_GIVEN_BASE_ON_LATENTS,
    COPIES_ATTACK_ON_LATENTS,
    VERDICT_ATTACK,
    VERDICT_ATTACK_GIVEN_BASE,
    VERDICT_ATTACK_GIVEN_BASE_ON_LATENTS,
    VERDICT_ATTACK_ON_LATENTS,
)
from mia_hub.images.treatments import TREATMENTS, UNTREATED, treated
from mia_hub.metrics.candidates import CandidatesNull
from mia_hub.metrics.intervals import clopper_pearson
from mia_hub.references.demo_reference import demo_copies_reference, demo_reference
from mia_hub.references.treatment_check import COMPRESSED


@pytest.mark.parametrize("name", [VERDICT_ATTACK, VERDICT_ATTACK_GIVEN_BASE, COPIES_ATTACK])
def test_attacks_that_give_verdicts_by_default_hold_under_every_treatment(name):
    counts = treated_images._measured()[name]
    assert set(counts) == {*TREATMENTS, OWN_OUTPUT}
    assert all(
        n >= 250 and clopper_pearson(count, n)[0] <= MOST_FALSE for treatment, (count, n) in counts.items() if treatment != OWN_OUTPUT
    )
    assert ruled_out(mia_hub.get_attack(name)) is None


@pytest.mark.parametrize(
    "name",
    [VERDICT_ATTACK_ON_LATENTS, VERDICT_ATTACK_GIVEN_BASE_ON_LATENTS, COPIES_ATTACK_ON_LATENTS, COPIES_ATTACK_GIVEN_BASE_ON_LATENTS],
)
def test_the_defaults_on_latents_are_measured_there(name):
    counts = treated_images._measured_on_latents()[name]
    assert set(counts) == set(TREATMENTS) and all(n >= 250 for _, n in counts.values())
    # All hold under every treatment but the one that judges copies without a base, which takes 500 non-members and so sees treatment.
    assert (ruled_out(mia_hub.get_attack(name), on_pixels=False) is None) == (name != COPIES_ATTACK_ON_LATENTS)


def test_pixels_and_latents_have_figures_of_their_own():
    given_base, low_pass = (mia_hub.get_attack(name) for name in ("sima-b", "sima-lpb"))
    assert ruled_out(given_base, on_pixels=False) is None and ruled_out(given_base) is not None
    assert ruled_out(low_pass, on_pixels=False) is not None and ruled_out(low_pass) is None
    # Where an attack was not run on latents, its figures on pixels count; one of latents is judged on pixels as what it is made from.
    assert (
        ruled_out(mia_hub.get_attack("sima-lp", given=("complexity",)), on_pixels=False).treatment
        == ruled_out(mia_hub.get_attack("sima-lp", given=("complexity",))).treatment
    )
    for name, like in (("sima-cc", "sima-c"), ("sima-cc-copies", "sima-c"), ("sima-b-copies", "sima-b")):
        assert ruled_out(mia_hub.get_attack(name)) == ruled_out(mia_hub.get_attack(like)) is not None
        assert not is_measured(mia_hub.get_attack(name), on_pixels=True)
    assert measured_name(mia_hub.get_attack("sima-cc-copies", copies=("mirror", "stride"))) is None


def test_the_rule(monkeypatch):
    measured = {
        "sima": {"mirrored": [5, 250], "blurred, radius 0.5": [0, 250], OWN_OUTPUT: [90, 100]},
        "sima-c": {"mirrored": [30, 1000], "noise, 4 grey levels": [40, 250], OWN_OUTPUT: [0, 100]},
        "sima-copies": {"mirrored": [0, 250]},
        "sima-copies, shifts": {"mirrored": [0, 250], "shifted right by 1 pixel": [16, 250]},
    }
    monkeypatch.setattr(treated_images, "_measured", lambda: measured)
    assert worst("sima") == FalseEvidence("mirrored", 5, 250) and ruled_out(mia_hub.get_attack("sima")) is None
    assert ruled_out(mia_hub.get_attack("sima-c")) == FalseEvidence("noise, 4 grey levels", 40, 250)
    assert ruled_out(mia_hub.get_attack("pia")) is None and measured_name(mia_hub.get_attack("pia")) is None
    assert ruled_out(mia_hub.get_attack("sima-copies")) is None
    assert ruled_out(mia_hub.get_attack("sima-copies", shifts=True)).treatment == "shifted right by 1 pixel"


NEIGHBOURS, ALONE, TWO_SCALES = ("complexity", "shift-left"), ("complexity",), ("complexity", "coarse-complexity")


@pytest.mark.parametrize(
    ("name", "given", "measured"),
    [
        ("sima-c", ALONE, "sima-c"),
        ("sima-c", NEIGHBOURS, "sima-cn"),
        ("sima-c", TWO_SCALES, "sima-cc"),
        ("sima-cc", TWO_SCALES, "sima-cc"),
        ("sima-cc", ALONE, "sima-c"),
        ("sima-b", ("base", *TWO_SCALES), None),
        ("sima-cn", ("shift-left", *TWO_SCALES), None),
        ("sima-cn", "auto", "sima-cn"),
        ("sima-cn", NEIGHBOURS, "sima-cn"),
        ("sima-cn", ALONE, "sima-c"),
        ("sima-lp", NEIGHBOURS, "sima-lp"),
        ("sima-lp", ALONE, "sima-lp, no neighbours"),
        ("sima-cn", ("base", *NEIGHBOURS), "sima-b, neighbours"),
        ("sima-b", ("base", *NEIGHBOURS), "sima-b, neighbours"),
        ("sima-b", ("base", "shift-left"), None),
        ("sima-lp", ("base", *NEIGHBOURS), "sima-lpb"),
        ("sima-lpb", ("base", *NEIGHBOURS), "sima-lpb"),
        ("sima-lpb", NEIGHBOURS, "sima-lp"),
        ("sima", ALONE, None),
        ("sima-b", ("base", "complexity"), "sima-b"),
        ("sima-c", ("complexity", "base"), "sima-b"),
        ("sima-b", ALONE, "sima-c"),
        ("sima-b", NEIGHBOURS, "sima-cn"),
        ("sima-b", ("base",), None),
        ("loss-b", ("base", "complexity"), "loss-b"),
        ("loss-b", ALONE, None),
        ("loss-b", ("base", *NEIGHBOURS), None),
    ],
)
def test_what_an_attack_is_given_decides_which_measurement_is_its_own(name, given, measured):
    """Without neighbours, compressed and noisy non-members get evidence too often, whatever the attack is called."""
    attack = mia_hub.get_attack(name, given=given)
    assert measured_name(attack) == measured
    if "base" not in given:
        assert (ruled_out(attack) is not None) == (measured in ("sima-c", "sima-cc", "sima-lp, no neighbours"))


@pytest.fixture
def model():
    return perfect_memory(blobs(60, 0))


@pytest.fixture
def failing(monkeypatch):
    monkeypatch.setattr(treated_images, "_measured", lambda: {"sima-c": {"noise, 4 grey levels": [40, 250]}})
    return mia_hub.get_attack("sima-c", timesteps=(60,))


def test_a_failing_attack_gives_verdicts_on_images_that_were_not_treated(model, failing):
    checker = Checker(model, failing, nonmembers=blobs(300, 1), keep=False, progress=False)
    plain = checker.check(blobs(12, 0), progress=False)
    assert sum(answer.p_value is not None for answer in plain) >= 10
    evidence = [answer for answer in checker.check(blobs(60, 0), progress=False) if answer.verdict == "evidence"]
    assert all("sima-c gave evidence to 40 of 250 images" in " ".join(answer.caveats) for answer in evidence)
    compressed = checker.check(np.stack([treated("JPEG, quality 95", image) for image in blobs(12, 0)]), progress=False)
    refused = [answer for answer in compressed if answer.sentence.startswith("Not comparable: the attack sima-c gives a verdict only on")]
    assert len(refused) >= 8
    assert all((answer.verdict, answer.p_value, answer.comparable) == ("not-comparable", None, False) for answer in refused)
    assert "it has been JPEG-compressed more strongly than the reference images. Where it was measured" in refused[0].sentence
    assert "choose the attack sima-lp." in refused[0].sentence


def test_with_few_nonmembers_a_failing_attack_gives_no_verdict(model, failing):
    answer = mia_hub.check_image(blobs(1, 0)[0], model, failing, nonmembers=blobs(120, 1), keep=False, progress=False)
    assert answer.verdict == "not-comparable" and "that shows only with 199 known non-members or more" in answer.sentence


def test_the_advice_names_what_is_known_of_the_other_attack():
    found = FalseEvidence("mirrored", 30, 100)
    assert treated_text("sima-b", found, (), other="sima-lpb").endswith("choose the attack sima-lpb, which holds on treated images.")
    assert treated_text("sima-cc", found, (COMPRESSED,)).endswith("For a verdict, give non-members that were treated like this image.")
    few = treated_text("sima-cc", found, ())
    assert "that shows only with 199 known non-members or more." in few and few.endswith("For a verdict, give 199 or more.")
    text = treated_text("sima-b", found, (), other="sima-cn", without_base=True, measured=False)
    assert text.endswith("For a verdict, choose the attack sima-cn and leave the base out.")


def test_an_attack_that_holds_names_the_treatment_and_gives_a_verdict():
    """On the demo: JPEG is named in a note, and reduced contrast is refused with the way out."""
    image = mia_hub.load_split("demo").nonmembers[3].to_pil()
    pixels = np.asarray(image)
    compressed = mia_hub.check_image(treated("JPEG, quality 50", pixels), progress=False)
    assert compressed.p_value is not None
    assert any(note.startswith("It has been JPEG-compressed more strongly than the reference images") for note in compressed.notes)
    faint = mia_hub.check_image(treated("contrast × 0.8", pixels), progress=False)
    assert faint.verdict == "not-comparable"
    assert any("spans fewer grey levels" in note for note in faint.notes)
    assert any(note.startswith("Stretched to full contrast (PIL.ImageOps.autocontrast) it would be comparable") for note in faint.notes)
    assert not mia_hub.check_image(pixels, progress=False).notes[1:]


def test_the_demos_reference_for_copies():
    """A mirrored member is recognised and named; the stored numbers are those that the model gives."""
    reference = demo_copies_reference()
    assert isinstance(reference.null, CandidatesNull) and len(reference.null) >= 500
    known = demo_reference().labels_by_id
    assert all(known[sample] == label for sample, label in reference.labels_by_id.items())
    assert reference.power.low > 0.5
    image = next(image for image in mia_hub.load_split("demo").members if image.id in reference.labels_by_id)
    answers = mia_hub.check_images([image, treated("mirrored", np.asarray(image.to_pil()))], copies=True, progress=False)
    row = list(reference.labels_by_id).index(image.id)
    assert answers[0].score == pytest.approx(reference.null.judge(reference.observations[row]).score, rel=1e-5)
    assert all(answer.candidate in ("as it is", "mirrored", "stretched to full contrast") for answer in answers)
    assert UNTREATED == "as it is"
