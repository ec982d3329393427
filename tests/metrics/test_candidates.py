"""The tail-normalised maximum over candidates: its definition by hand, its validity, and what it finds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import kstest

from mia_hub.errors import MetricError
from mia_hub.metrics import candidates
from mia_hub.metrics.candidates import CandidatesNull, TailMaximum
from mia_hub.metrics.expected_statistic import ExpectedStatistic
from mia_hub.metrics.p_values import ConditionalNull

WEIGHTS = (10, 1, 3)
FEW = 60


@pytest.fixture
def few(monkeypatch):
    """So few null images are enough for a search, so that simulations are quick."""
    monkeypatch.setattr(candidates, "FEWEST_FOR_CANDIDATES", FEW)


def draw(rng, n):
    """Observations ``[n, 3, 1 + 2]``: candidates share a part, have scales of their own, and the statistic depends on difficulty."""
    shared, own = rng.normal(size=(n, 1)), rng.normal(size=(n, 3))
    z = rng.normal(size=(n, 3, 2)) + shared[..., None]
    statistic = z[..., 0] + 0.3 * z[..., 1] ** 2 + np.array([1.0, 0.2, 4.0]) * (own + 0.5 * shared)
    return np.concatenate([statistic[..., None], z], axis=2)


def literal(scores, weights):
    """T and the winner of each row, image by image, from the definition."""
    results, begin, mean_excess = [], [], []
    for column in scores.T:
        u = np.quantile(column, 0.9)
        begin.append(u)
        mean_excess.append(np.mean([s - u for s in column if s > u]))
    for row in scores:
        inside = {k: math.log(w) + (row[k] - begin[k]) / mean_excess[k] for k, w in enumerate(weights) if row[k] > begin[k]}
        outside = {k: (row[k] - begin[k]) / mean_excess[k] for k in range(len(weights))}
        values = inside or outside
        winner = max(values, key=values.get)
        results.append((values[winner], winner))
    return results


def test_the_maximum_by_its_definition():
    scores = np.random.default_rng(0).normal(size=(200, 3)) * (1, 5, 0.1)
    values, winners = TailMaximum(scores, WEIGHTS)(scores)
    expected = literal(scores, WEIGHTS)
    np.testing.assert_allclose(values, [value for value, _ in expected], rtol=1e-12)
    assert winners.tolist() == [winner for _, winner in expected]
    # Images with a score in some tail lie above all others.
    inside = (scores > np.quantile(scores, 0.9, axis=0)).any(axis=1)
    assert 0 < inside.sum() < 200 and values[inside].min() > values[~inside].max()
    # Only ratios of weights matter.
    np.testing.assert_allclose(TailMaximum(scores, [7 * w for w in WEIGHTS])(scores)[0], values)


def test_a_p_value_by_its_definition(few):
    rng = np.random.default_rng(1)
    everyone = draw(rng, FEW + 21)
    null = CandidatesNull(everyone[:-1], tuple(map(str, range(FEW + 20))), WEIGHTS)
    columns = [ExpectedStatistic(everyone[:, k, 1:], everyone[:, k, 0]) for k in range(3)]
    scores = np.stack([-fit.deviation(everyone[:, k, 1:], everyone[:, k, 0]) for k, fit in enumerate(columns)], axis=1)
    values = [value for value, _ in literal(scores, WEIGHTS)]
    judged = null.judge(everyone[-1])
    assert judged.p_value == (1 + sum(value >= values[-1] for value in values[:-1])) / (FEW + 21)
    assert judged == null.judge(everyone[-1].ravel())  # as it is stored
    assert judged.searched and judged.n == FEW + 20


def test_null_and_image_are_treated_alike(few):
    """The image in the place of any null image gives the same set of values, each with its image."""
    everyone = draw(np.random.default_rng(2), FEW + 1)
    null = CandidatesNull(everyone[:-1], tuple(map(str, range(FEW))), WEIGHTS)
    values, winners = null._compared(everyone, True)
    for order in (np.random.default_rng(3).permutation(FEW + 1), np.roll(np.arange(FEW + 1), 1)):
        again = null._compared(everyone[order], True)
        np.testing.assert_allclose(again[0], values[order], rtol=1e-9)
        assert again[1].tolist() == winners[order].tolist()


def test_p_values_of_exchangeable_images_are_uniform(few):
    """Over fresh null sets and fresh images; a rank that left the image out of the fits would be too small."""
    rng = np.random.default_rng(4)
    p = [CandidatesNull(draw(rng, FEW + 19), tuple(map(str, range(FEW + 19))), WEIGHTS).judge(draw(rng, 1)[0]).p_value for _ in range(600)]
    assert kstest(p, "uniform").pvalue > 0.01
    for level in (0.05, 0.1, 0.2):
        assert np.mean(np.array(p) <= level) <= level + 3 * math.sqrt(level * (1 - level) / len(p))


def test_a_copy_is_found_that_the_image_itself_hides(few):
    rng = np.random.default_rng(5)
    null = CandidatesNull(draw(rng, 300), tuple(map(str, range(300))), WEIGHTS)
    plain = ConditionalNull(null.observed[:, 0], null.ids)
    copies = draw(rng, 100)
    copies[:, 2, 0] -= 25  # the third candidate is the training image
    judged = [null.judge(one) for one in copies]
    assert np.mean([one.p_value <= 0.05 and one.candidate == 2 for one in judged]) > 0.9
    assert np.mean([plain.judge(one[0]).p_value <= 0.05 for one in copies]) < 0.2


def test_with_too_few_null_images_the_first_candidate_alone_is_judged():
    rng = np.random.default_rng(6)
    observed = draw(rng, candidates.FEWEST_FOR_CANDIDATES)
    ids, one = tuple(map(str, range(len(observed)))), draw(rng, 1)[0]
    one[2, 0] -= 100
    few = CandidatesNull(observed[:-1], ids[:-1], WEIGHTS).judge(one)
    assert not few.searched and few.candidate == 0
    assert few.p_value == ConditionalNull(observed[:-1, 0], ids[:-1]).judge(one[0]).p_value
    enough = CandidatesNull(observed, ids, WEIGHTS)
    assert np.array_equal(enough.scores, enough._compared(observed, True)[0])
    assert enough.judge(one).searched and enough.judge(one).p_value == 1 / (len(observed) + 1)
    # Without itself, a null image has one fewer to be compared with.
    assert not enough.judge(observed[3], "3").searched and enough.judge(observed[3], "3").n == len(observed) - 1


def test_only_nonmembers_make_the_null_set():
    observed = draw(np.random.default_rng(7), 40)
    null = CandidatesNull.from_observations(list(map(str, range(40))), np.repeat([0, 1], 20), observed.reshape(40, -1), WEIGHTS)
    assert len(null) == 20 and np.array_equal(null.observed, observed[:20])
    with pytest.raises(MetricError, match="too few"):
        CandidatesNull.from_observations(list(map(str, range(40))), np.repeat([0, 1], (19, 21)), observed, WEIGHTS)


def test_equal_scores_have_no_tail_and_stay_finite():
    values, winners = TailMaximum(np.zeros((50, 3)), WEIGHTS)(np.zeros((50, 3)))
    assert np.isfinite(values).all() and set(winners.tolist()) == {0}


def test_the_critical_score_is_one_of_its_own_maxima():
    """Evidence takes p ≤ 0.01: of 521 images, no more than 4 others may be as high."""
    null = CandidatesNull(draw(np.random.default_rng(8), 520), tuple(map(str, range(520))), WEIGHTS)
    values = null._compared(null.observed, True)[0]
    assert null.critical.n_above == 4 == (values > null.critical.score).sum() and null.critical.score in values
    assert CandidatesNull(null.observed[:98], null.ids[:98], WEIGHTS).critical is None
