"""The statistic of PANORAMIA, where its answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import beta

from studies.panoramia import beyond_baseline, fill_places, guessing_bound

PLACES, GUESSES, LEVEL = 400, (20, 50, 100, 180), 0.025
rng = np.random.default_rng(0)
LABELS = np.arange(PLACES) % 2
NOISE = rng.normal(size=PLACES)
# By right guesses alone: q ** guesses = level of one number of guesses.
MOST = max(math.log(q / (1 - q)) for q in ((LEVEL / len(GUESSES)) ** (1 / count) for count in GUESSES))


def test_scores_that_add_nothing_to_the_baseline_give_no_more_than_0():
    strong = NOISE + 2.0 * LABELS
    for baseline in (NOISE, strong):
        assert beyond_baseline(baseline, baseline, LABELS, GUESSES).difference == 0
        assert beyond_baseline(baseline, NOISE, LABELS, GUESSES).difference <= 0
    assert beyond_baseline(strong, NOISE, LABELS, GUESSES).difference < -1


def test_perfect_scores_reach_the_most_that_so_many_guesses_can_show():
    found = beyond_baseline(NOISE, LABELS + 0.01 * NOISE, LABELS, GUESSES)
    assert found.baseline == 0 and found.difference == pytest.approx(MOST, abs=1e-6)
    assert guessing_bound(-LABELS.astype(float), LABELS, GUESSES, LEVEL) == 0


def test_a_baseline_that_is_perfect_leaves_nothing_to_find():
    assert beyond_baseline(LABELS.astype(float), LABELS.astype(float), LABELS, GUESSES).difference == 0


def test_the_bound_rises_with_how_well_the_scores_separate():
    bounds = [guessing_bound(NOISE + shift * LABELS, LABELS, GUESSES, LEVEL) for shift in (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)]
    assert bounds == sorted(bounds) and bounds[0] == 0 and bounds[-1] == pytest.approx(MOST, abs=1e-6)


@pytest.mark.parametrize("right", [70, 85, 99])
def test_one_number_of_guesses_gives_the_logit_of_the_clopper_pearson_limit(right):
    scores, labels = np.arange(200, 0, -1.0), np.zeros(200, int)
    labels[:right] = 1
    low = beta.ppf(LEVEL, right, 100 - right + 1)
    assert guessing_bound(scores, labels, [100], LEVEL) == pytest.approx(math.log(low / (1 - low)), abs=1e-6)


def test_equal_scores_show_nothing_however_the_places_are_ordered():
    for labels in (np.repeat([1, 0], 200), np.repeat([0, 1], 200)):
        assert guessing_bound(np.zeros(PLACES), labels, GUESSES, LEVEL) == 0


def test_a_guesser_whose_odds_are_as_high_as_stated_is_hardly_ever_refuted():
    """Random answers that are right with q = e / (1 + e): the bound exceeds 1 in at most ``LEVEL`` of all games."""
    games = np.random.default_rng(1)
    exceeded = 0
    for _ in range(400):
        labels = fill_places(300, 300, PLACES, games)[1]
        told = np.where(games.random(PLACES) < math.e / (1 + math.e), labels, 1 - labels)
        exceeded += guessing_bound(told + 0.01 * games.random(PLACES), labels, GUESSES, LEVEL) > 1
    assert exceeded <= 400 * LEVEL + 3 * math.sqrt(400 * LEVEL)


def test_places_are_filled_by_fair_coins_and_no_image_twice():
    rows, labels = fill_places(260, 300, PLACES, np.random.default_rng(0))
    assert len(set(rows.tolist())) == PLACES and ((rows < 260) == (labels == 1)).all() and 160 < labels.sum() < 240
    with pytest.raises(ValueError, match="are wanted"):
        fill_places(20, 300, PLACES, np.random.default_rng(0))
