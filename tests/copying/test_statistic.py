"""The statistic of a copy, its p-values, the rate of false discoveries, and the control, on data whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, mannwhitneyu, norm

from mia_hub.copying.known_figures import copying_z
from mia_hub.copying.nearest import nearest
from mia_hub.copying.options import smallest_null
from mia_hub.copying.statistic import Share, copy_p_values, fewest_copies, measure_control, null_needed, q_values, ratios

RATE = 0.05


@pytest.mark.parametrize(
    ("distances", "expected"),
    [
        ([1, 2, 3], 0.5),
        ([0, 2, 4], 0.0),
        ([0, 0, 0], 0.0),
        ([0.1, 0.1, 0.1], 1.0),  # whose mean in float64 is not 0.1
        ([3], 1.0),
    ],
    ids=["plain", "exact copy", "a training set of one place", "all equal", "one neighbour"],
)
def test_the_ratio_is_that_of_the_paper(distances, expected):
    assert ratios(np.array([distances], float)).tolist() == [expected]


def test_p_values_count_the_null_at_or_below():
    null = np.array([0.5, 0.1, 0.5, 0.9])
    assert copy_p_values(np.array([0.05, 0.1, 0.5, 1.0]), null).tolist() == [0.2, 0.4, 0.8, 1.0]


@pytest.mark.parametrize(("generated", "null"), [(256, 4000), (256, 38), (1000, 99), (20, 5000), (7, 139)])
def test_the_fewest_copies_are_those_that_can_be_called(generated, null):
    fewest = fewest_copies(generated, null, RATE)
    for copies in {max(1, fewest - 1), fewest}:
        p_values = np.where(np.arange(generated) < copies, 1 / (null + 1), 1.0)
        assert (q_values(p_values) <= RATE).any() == (copies >= fewest)
    assert fewest_copies(generated, null_needed(generated, RATE, fewest), RATE) <= fewest
    assert fewest_copies(generated, null_needed(generated, RATE, 1), RATE) == 1
    assert fewest_copies(generated, null_needed(generated, RATE, 1) - 1, RATE) > 1


def vectors(rng, n, width=6):
    return rng.normal(size=(n, width)).astype(np.float32)


def called(generated, training, null):
    """Which generated vectors are called copies."""
    own, of_null = (ratios(nearest([each], [training], 10).distances) for each in (generated, null))
    return q_values(copy_p_values(own, of_null)) <= RATE


def test_the_rate_of_false_discoveries_holds_and_copies_are_found():
    rng = np.random.default_rng(0)
    shares, recalls, runs, anything = [], [], 150, 0
    for _ in range(runs):
        training, null, fresh = (vectors(rng, n) for n in (60, 200, 40))
        planted = training[:12] + 0.03 * vectors(rng, 12)
        marks = called(np.concatenate([planted, fresh]), training, null)
        shares.append(marks[12:].sum() / max(1, marks.sum()))
        recalls.append(marks[:12].mean())
        # A generator of fresh draws copies nothing: whatever is called is false.
        anything += called(fresh, training, null).any()
    assert np.mean(shares) - 3 * np.std(shares) / np.sqrt(runs) <= RATE
    assert np.mean(recalls) > 0.95
    assert anything <= binom.ppf(0.999, runs, RATE)


def control_of(generated, unseen, level=0.0):
    stand_ins, null = unseen[: len(unseen) // 2], unseen[len(unseen) // 2 :]
    own, of_null = (ratios(nearest([each], [stand_ins], 10).distances) for each in (generated, null))
    return measure_control(own, of_null, len(stand_ins), rate=RATE, largest_called=level)


def test_the_control_passes_fresh_draws_and_fails_images_that_are_near_to_everything():
    rng = np.random.default_rng(1)
    passes = [control_of(vectors(rng, 60), vectors(rng, 200), level=0.01).fits for _ in range(150)]
    assert np.mean(passes) >= binom.ppf(0.001, 150, 0.99) / 150
    unseen = vectors(rng, 400)
    # Known answers: a generator that knows the unseen images, and one of which only a few images, far in the tail, do.
    assert not control_of(unseen[:60] + 0.01 * vectors(rng, 60), unseen).fits
    few = np.concatenate([vectors(rng, 250), unseen[:8] + 0.001 * vectors(rng, 8)])
    control = control_of(few, unseen, level=0.002)
    assert not control.fits and control.at_called.count >= 8


def test_the_smallest_null_set_can_be_judged():
    for rate in (0.01, 0.05, 0.5, 0.9):
        half = smallest_null(rate) // 2
        assert (half + 1) * rate >= 1 and half >= 2


def test_c_t_is_the_z_score_of_mann_and_whitney():
    rng = np.random.default_rng(2)
    generated, others = rng.random(40), rng.random(70) + 0.1
    exact = mannwhitneyu(generated, others, alternative="less", method="asymptotic", use_continuity=False)
    assert norm.cdf(copying_z(generated, others)) == pytest.approx(exact.pvalue)
    assert copying_z(np.zeros(5), np.ones(5)) < 0 < copying_z(np.ones(5), np.zeros(5))
    assert copying_z(np.ones(5), np.ones(9)) == 0


def test_a_share_has_its_exact_interval():
    share = Share.of(0, 20)
    assert (share.value, share.low) == (0, 0) and share.high == pytest.approx(1 - 0.025 ** (1 / 20))
