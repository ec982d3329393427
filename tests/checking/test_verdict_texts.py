"""The sentences of an answer say what the statistics behind them say, and no more."""

from __future__ import annotations

import re

import pytest

from mia_hub.checking.verdict_texts import VERDICTS, few_nonmembers_warning, image_caveats, image_sentence
from mia_hub.checking.verdicts import CANNOT_TELL, EVIDENCE, NO_NULL, NOT_COMPARABLE
from mia_hub.metrics.estimates import Estimate
from mia_hub.metrics.p_values import CriticalScore


def sentence(verdict=CANNOT_TELL, share_below=0.5, n_null=2000, p_value=0.5, q_value=None, **others) -> str:
    figures = {"n_null": n_null, "share_below": share_below, "p_value": p_value, "q_value": q_value}
    return image_sentence(verdict, **({"model": "a/model", "source": "the non-members given"} | figures | others))


def test_a_sentence_begins_with_the_verdict_and_names_the_model():
    assert sentence(EVIDENCE, 0.9965, p_value=0.00399) == (
        "Evidence that this image was in the training set: it is more like a training image of the model a/model than 99.6 % of 2,000 "
        "images known not to be in the training set; p = 0.00399."
    )
    assert "than 99.9 % of 9,000" in sentence(EVIDENCE, 0.99999, 9000, 0.01)
    assert "more like a training image of the model a/model than any of 2,000 images" in sentence(EVIDENCE, 1.0, p_value=1 / 2001)
    for verdict, phrase in VERDICTS.items():
        assert sentence(verdict).startswith(f"{phrase}: ") and "a/model" in sentence(verdict)
    assert "a/model" in sentence(NO_NULL, 0.5, 0, None, source=None) and "99 or more" in sentence(NO_NULL)
    unlike = sentence(NOT_COMPARABLE, None, 400, None)
    assert "unlike the 400 images" in unlike and "(the non-members given)" in unlike and "name the model that you suspect" in unlike


@pytest.mark.parametrize(
    ("share_below", "words"),
    [
        (0.5, "more like .* than 50.0 %"),
        (0.4999, "less like .* than 50.0 %"),
        (0.1, "less like .* than 90.0 %"),
        (0.0, "less .* than any of"),
    ],
)
def test_a_low_score_is_said_to_be_less_like_a_training_image(share_below, words):
    assert re.search(words, sentence(share_below=share_below))


def test_q_is_said_only_where_it_says_something():
    assert "q = 0.25" in sentence(EVIDENCE, 1.0, p_value=0.009, q_value=0.25)
    assert "q =" not in sentence(p_value=0.011, q_value=1.0) and "q =" not in sentence(p_value=0.009)


def test_what_too_few_nonmembers_mean_is_said_first():
    warning = few_nonmembers_warning(98)
    assert few_nonmembers_warning(99) is None and "With 98 known non-members" in warning and "99 or more" in warning
    assert sentence(share_below=1.0, n_null=49, p_value=1 / 50).endswith("; p = 0.02, the lowest possible with so few.")
    assert "lowest" not in sentence(n_null=49, p_value=2 / 50) and "lowest" not in sentence(n_null=99, p_value=1 / 100)
    assert "holds for this reference can't fall below 0.07" in image_caveats(CANNOT_TELL, 0.5, None, 49, None, calibration="conditional")[0]
    assert "p can't fall below 0.02," in image_caveats(CANNOT_TELL, 0.5, None, 49, None)[0]
    assert not any("below" in line for line in image_caveats(CANNOT_TELL, 0.5, None, 99, None))


def test_the_caveat_of_a_p_value():
    assert "about 100 % of images never in the training set would" in image_caveats(CANNOT_TELL, 1.0, None, 2000, None)[0]
    assert "not the probability of innocence" in image_caveats(EVIDENCE, 0.004, None, 2000, None)[0]


def test_what_the_attack_misses_is_said_only_where_members_are_known():
    power = Estimate(0.21, 0.18, 0.25, 256, 2000)
    assert any(
        "recognises 21 % of known training images at p ≤ 0.01" in line for line in image_caveats(CANNOT_TELL, 0.5, None, 2000, power)
    )
    assert any("for this model it isn't known" in line for line in image_caveats(CANNOT_TELL, 0.5, None, 2000, None))


def test_where_the_power_is_unknown_the_smallest_effect_is_said():
    power, critical = Estimate(0.21, 0.18, 0.25, 256, 2000), CriticalScore(1.0, 2.345, 19, 2000)
    unknown = " ".join(image_caveats(CANNOT_TELL, 0.5, None, 2000, None, critical))
    assert "takes a score above those of all but 19 of the 2,000 non-members" in unknown and "more than 2.3 standard deviations" in unknown
    assert "above those of all 99 non-members" in " ".join(image_caveats(CANNOT_TELL, 0.5, None, 99, None, CriticalScore(1.0, 2.3, 0, 99)))
    for verdict, known in ((CANNOT_TELL, power), (EVIDENCE, None), (EVIDENCE, power)):
        assert "smallest effect" not in " ".join(image_caveats(verdict, 0.005, None, 2000, known, critical))


def test_the_sentence_says_what_the_p_value_holds_for():
    assert sentence(calibration="conditional").endswith("p = 0.5. This p-value holds for this one reference, with 95 % confidence.")
    assert sentence(calibration="marginal").endswith("p = 0.5. This p-value holds on average over references.")
    for calibration, about in (("conditional", "up to"), ("marginal", "about")):
        caveats = image_caveats(EVIDENCE, 0.004, None, 2000, None, calibration=calibration)
        assert f"innocence: {about} 0.4 % of images" in caveats[0]
        assert ("up to 1 % of images that were never used" in caveats[1]) == (calibration == "conditional")
    # With 421 non-members no p-value that holds for the reference can be evidence, and one that holds on average can.
    for n, calibration, lowest in ((421, "conditional", True), (422, "conditional", False), (421, "marginal", False)):
        assert sentence(share_below=1.0, n_null=n, p_value=0.0099, calibration=calibration).count("lowest possible") == lowest * 1
