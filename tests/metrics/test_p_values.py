"""p-values against known non-members, and false-discovery control."""

from __future__ import annotations

import numpy as np
import pytest

from mia_hub.errors import MetricError
from mia_hub.metrics.candidates import CandidatesNull
from mia_hub.metrics.p_values import ALPHA, ConditionalNull, CriticalScore, NullDistribution, adjusted
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


@pytest.mark.parametrize(
    ("n", "n_above", "score"), [(99, 0, 98), (198, 0, 197), (199, 1, 197), (298, 1, 296), (299, 2, 296), (1999, 19, 1979), (5700, 56, 5643)]
)
def test_the_critical_score_by_hand(n, n_above, score):
    """Of the scores 0 … n - 1, whose standard deviation is √((n² - 1)/12)."""
    critical = CriticalScore.of(np.random.default_rng(0).permutation(n).astype(float))
    assert (critical.score, critical.n_above, critical.n) == (score, n_above, n)
    assert critical.deviations == pytest.approx((score - (n - 1) / 2) / np.sqrt((n**2 - 1) / 12))
    one = null(np.arange(float(n)))
    assert one.p_value(score) > ALPHA >= one.p_value(score + 0.5)


def test_without_spread_any_higher_score_gets_evidence_and_with_few_images_none():
    assert CriticalScore.of(np.zeros(98)) is None
    assert CriticalScore.of(np.full(99, 0.1)) == CriticalScore(0.1, 0.0, 0, 99)


def test_the_critical_score_of_a_conditional_null_is_that_of_its_own_images():
    """In standard deviations it is the 4th highest residual of 399; of these images, evidence is what reaches it, as each is judged."""
    rng = np.random.default_rng(0)
    difficulty, residuals = rng.normal(size=(399, 2)), rng.normal(size=399)
    one = ConditionalNull(np.column_stack([difficulty @ [1.0, -2.0] - residuals, difficulty]), tuple(map(str, range(399))))
    assert one.critical.n_above == 3
    assert one.critical.deviations == pytest.approx(np.sort(residuals)[-4] / residuals.std(), abs=0.15)
    judged = [one.judge(row, str(i)) for i, row in enumerate(one.observed)]
    # Among the 398 others p reaches 0.01 at rank 3, one less than among 399.
    assert sum(each.p_value <= ALPHA for each in judged) == 3
    assert all(each.score > one.critical.score for each in judged if each.p_value <= ALPHA)


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


def test_q_values_by_hand():
    np.testing.assert_allclose(adjusted([0.002, 0.008, 0.006, 0.5]), [0.008, 0.032 / 3, 0.032 / 3, 1.0])
    assert adjusted([0.001]).tolist() == [0.001]


def test_refusals():
    with pytest.raises(MetricError, match=r"19 images .* too few"):
        null(np.zeros(19))
    with pytest.raises(MetricError, match="finite"):
        null(np.zeros(20)).p_value(float("nan"))


@pytest.mark.parametrize("n", [99, 199, 400])
def test_the_critical_score_foresees_the_fit_with_an_image(n):
    """With one more image than 199 the fit is of a higher degree: the line must be that of the scores that images get."""
    rng = np.random.default_rng(n)

    def draw(count):
        z = rng.normal(size=(count, 8))
        statistic = z[:, 0] + 0.3 * z[:, 1] ** 2 + np.exp(0.3 * z[:, 2]) * rng.normal(size=count)
        return np.column_stack([statistic, z])

    null = ConditionalNull(draw(n), tuple(map(str, range(n))))
    images = draw(200) - np.array([3, *[0] * 8])
    judged = [null.judge(image) for image in images]
    agree = [(one.score > null.critical.score) == (one.p_value <= 0.01) for one in judged]
    assert np.array_equal(CandidatesNull(null.observed[:, None], null.ids, (1,)).scores, null.scores)
    assert np.mean(agree) > 0.9 and 20 < sum(one.p_value <= 0.01 for one in judged) < 180
