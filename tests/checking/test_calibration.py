"""p-values, false-discovery control, and the words of an answer."""

from __future__ import annotations

import re

import numpy as np
import pytest

from mia_hub.checking.verdict_texts import VERDICTS, few_nonmembers_warning, image_caveats, image_sentence
from mia_hub.checking.verdicts import CANNOT_TELL, EVIDENCE, NO_NULL, NOT_COMPARABLE, verdict_of
from mia_hub.errors import MetricError
from mia_hub.metrics.estimates import Estimate
from mia_hub.metrics.p_values import ALPHA, NullDistribution, adjusted, benjamini_hochberg
from mia_hub.rendering.numbers import floored_percent, in_five, p_text
from mia_hub.scores import ScoreTable


def null(scores, ids=None) -> NullDistribution:
    scores = np.asarray(scores, float)
    ids = ids or [f"n{i}" for i in range(len(scores))]
    table = ScoreTable(ids, np.zeros(len(scores)), [5], scores[:, None], "A()", {})
    return NullDistribution.from_table(table, 5)


def test_p_value_by_hand():
    one = null(np.arange(99.0))  # 0 … 98
    assert one.p_value(98.5) == 1 / 100
    assert one.p_value(98.0) == 2 / 100  # a tie counts against
    assert one.p_value(-1) == 1
    assert one.p_value(49.5) == 50 / 100
    assert (one.judge(49.5).share_below, one.judge(49.5).n) == (50 / 99, 99)


def test_a_null_image_is_not_compared_with_itself():
    one = null(np.arange(99.0))
    assert one.p_value(98.0, "n98") == 1 / 99
    assert (one.judge(98.0, "n98").share_below, one.judge(98.0, "n98").n) == (1.0, 98)
    assert isinstance(one.p_value(98.0, "n98"), float)


def test_members_raise_no_p_value_and_labels_other_than_nonmember_are_left_out():
    table = ScoreTable([str(i) for i in range(60)], np.resize([1, 0, -1], 60), [5], np.arange(60.0)[:, None], "A()", {})
    assert len(NullDistribution.from_table(table, 5)) == 20


@pytest.mark.parametrize("ties", [False, True])
def test_p_values_of_nonmembers_are_uniform_or_larger(ties):
    """P(p ≤ a) ≤ a for every a, over fresh null sets of 199 and fresh images; exactly a without ties at a = k/200."""
    rng = np.random.default_rng(0)
    draw = (lambda n: rng.integers(0, 8, n).astype(float)) if ties else rng.normal
    draw = draw if ties else (lambda n: rng.normal(size=n))
    p = np.array([null(draw(199)).p_value(draw(1)[0]) for _ in range(4000)])
    for level in (0.01, 0.05, 0.1, 0.25, 0.5, 0.9):
        rate, error = (p <= level).mean(), np.sqrt(level * (1 - level) / len(p))
        assert rate <= level + 3.5 * error
        assert ties or rate >= level - 3.5 * error


def test_benjamini_hochberg_by_hand_and_as_scipy_has_it():
    from scipy.stats import false_discovery_control

    np.testing.assert_allclose(benjamini_hochberg([0.01, 0.04, 0.03, 0.5]), [0.04, 0.16 / 3, 0.16 / 3, 0.5])
    p = np.random.default_rng(0).uniform(size=50) ** 2
    np.testing.assert_allclose(benjamini_hochberg(p), false_discovery_control(p))


def test_false_discoveries_stay_below_five_percent_against_a_shared_null():
    """20 members and 80 non-members, judged together against one null set of 500: the mean false share stays ≤ 5 %."""
    rng = np.random.default_rng(0)
    shares, found = [], []
    for _ in range(200):
        one = null(rng.normal(size=500))
        scores = np.concatenate([rng.normal(3.5, 1, 20), rng.normal(size=80)])
        p = [one.p_value(s) for s in scores]
        called = np.array([verdict_of(*both) == EVIDENCE for both in zip(p, adjusted(p))])
        shares.append(called[20:].sum() / max(1, called.sum()))
        found.append(called[:20].mean())
    assert np.mean(shares) <= 0.05 + 2 * np.std(shares) / np.sqrt(200)
    assert np.mean(found) > 0.5  # it isn't safe by never calling


def test_demanding_a_small_p_value_too_does_not_break_false_discovery_control():
    """Many p-values just above `ALPHA` pull Benjamini and Hochberg's threshold up to them; the few below are then mostly false."""
    rng = np.random.default_rng(0)
    shares = {"after": [], "in": []}
    for _ in range(300):
        p = np.concatenate([np.full(70, 0.03), rng.uniform(size=30)])
        for how, called in (
            ("after", (benjamini_hochberg(p) <= 0.05) & (p <= ALPHA)),
            ("in", np.array([verdict_of(*both) == EVIDENCE for both in zip(p, adjusted(p))])),
        ):
            shares[how].append(called[70:].sum() / max(1, called.sum()))
    assert np.mean(shares["in"]) <= 0.05
    assert np.mean(shares["after"]) > 0.15  # the rule that looks the same, and isn't


def test_company_never_makes_a_image_look_more_suspicious():
    assert adjusted([0.02, 0.02]).tolist() == [1, 1]
    assert verdict_of(0.04, adjusted([0.04, 0.04])[0]) == verdict_of(0.04, None) == CANNOT_TELL


def test_verdicts_and_words():
    assert verdict_of(ALPHA, None) == EVIDENCE
    assert verdict_of(0.0101, None) == CANNOT_TELL
    assert verdict_of(0.001, 0.06) == CANNOT_TELL  # among many images the adjusted value decides
    assert verdict_of(0.01, 0.05) == EVIDENCE
    assert "about 100 % of images never in the training set would" in image_caveats(CANNOT_TELL, 1.0, None, 2000, None)[0]
    assert "not the probability of innocence" in image_caveats(EVIDENCE, 0.004, None, 2000, None)[0]


def said(verdict=CANNOT_TELL, share_below=0.5, n_null=2000, p_value=0.5, q_value=None, **others) -> str:
    figures = {"n_null": n_null, "share_below": share_below, "p_value": p_value, "q_value": q_value}
    return image_sentence(verdict, **({"model": "a/model", "source": "the non-members given"} | figures | others))


def test_a_sentence_begins_with_the_verdict_and_names_the_model():
    assert said(EVIDENCE, 0.9965, p_value=0.00399) == (
        "Evidence that this image was in the training set: it is more like a training image of the model a/model than 99.6 % of 2,000 "
        "images known not to be in the training set; p = 0.00399."
    )
    assert "than 99.9 % of 9,000" in said(EVIDENCE, 0.99999, 9000, 0.01)
    assert "more like a training image of the model a/model than any of 2,000 images" in said(EVIDENCE, 1.0, p_value=1 / 2001)
    for verdict, phrase in VERDICTS.items():
        assert said(verdict).startswith(f"{phrase}: ") and "a/model" in said(verdict)
    assert "a/model" in said(NO_NULL, 0.5, 0, None, source=None) and "99 or more" in said(NO_NULL)
    unlike = said(NOT_COMPARABLE, None, 400, None)
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
    assert re.search(words, said(share_below=share_below))


def test_q_is_said_only_where_it_says_something():
    assert "q = 0.25" in said(EVIDENCE, 1.0, p_value=0.009, q_value=0.25)
    assert "q =" not in said(p_value=0.011, q_value=1.0) and "q =" not in said(p_value=0.009)


def test_what_too_few_nonmembers_mean_is_said_first():
    warning = few_nonmembers_warning(98)
    assert few_nonmembers_warning(99) is None and "With 98 known non-members" in warning and "99 or more" in warning
    assert said(share_below=1.0, n_null=49, p_value=1 / 50).endswith("; p = 0.02, the lowest possible with so few.")
    assert "lowest" not in said(n_null=49, p_value=2 / 50) and "lowest" not in said(n_null=99, p_value=1 / 100)
    assert "p can't fall below 0.02," in image_caveats(CANNOT_TELL, 0.5, None, 49, None)[0]
    assert not any("below" in line for line in image_caveats(CANNOT_TELL, 0.5, None, 99, None))


def test_what_the_attack_misses_is_said_only_where_members_are_known():
    power = Estimate(0.21, 0.18, 0.25, 256, 2000)
    assert any(
        "recognises 21 % of known training images at p ≤ 0.01" in line for line in image_caveats(CANNOT_TELL, 0.5, None, 2000, power)
    )
    assert any("for this model it isn't known" in line for line in image_caveats(CANNOT_TELL, 0.5, None, 2000, None))


def test_refusals():
    with pytest.raises(MetricError, match=r"19 images .* too few"):
        null(np.zeros(19))
    with pytest.raises(MetricError, match="finite"):
        null(np.zeros(20)).p_value(float("nan"))


@pytest.mark.parametrize(
    ("value", "text"),
    [(1, "1"), (0.5, "0.5"), (20 / 2001, "0.01"), (21 / 2001, "0.0105"), (1e-5, "0.00001"), (0.26, "0.26"), (0.998, "0.998")],
)
def test_p_values_as_text(value, text):
    assert p_text(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.78, "about 4 in 5"), (0.2, "about 1 in 5"), (0.05, "5 %"), (0.98, "98 %"), (1, "100 %")])
def test_shares_in_words(value, text):
    assert in_five(value) == text


@pytest.mark.parametrize(("value", "text"), [(1999 / 2000, 99.9), (0.9999, 99.9), (1, 100), (0.123, 12.3), (0.29, 29.0)])
def test_percentiles_are_rounded_down(value, text):
    assert floored_percent(value) == text
