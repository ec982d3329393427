"""A null set of which some serve the fit: an image is compared with the others, and with neither itself nor a fit on itself."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mia_hub.metrics.calibration_conditional import holds_for_reference
from mia_hub.metrics.expected_statistic import ExpectedStatistic
from mia_hub.metrics.p_values import ALPHA
from mia_hub.metrics.split_null import SplitNull

FIT, N = 60, 300
IDS = tuple(f"{row:032x}"[::-1] for row in range(FIT + N))


def draw(rng: np.random.Generator, n: int, shift: float = 0.0) -> np.ndarray:
    """Statistics that depend on the difficulty; a member's is lower."""
    z = rng.normal(size=(n, 2))
    return np.column_stack([z @ [1.0, 0.5] + rng.normal(size=n) - shift, z])


def null_set(observed: np.ndarray, digits: int = 32) -> SplitNull:
    ids = tuple(sample[:digits] for sample in IDS[FIT:])
    return SplitNull(observed[:FIT], IDS[:FIT], observed[FIT:].astype(np.float32), ids)


def test_an_image_is_compared_under_a_fit_on_others():
    observed, one = draw(np.random.default_rng(0), FIT + N), draw(np.random.default_rng(1), 1)[0]
    judged, null = null_set(observed).judge(one), observed[FIT:].astype(np.float32).astype(float)
    fit = ExpectedStatistic(observed[:FIT, 1:], observed[:FIT, 0])
    score, scores = -fit.deviation(one[None, 1:], one[None, 0])[0], -fit.deviation(null[:, 1:], null[:, 0])
    p = (1 + (scores >= score).sum()) / (N + 1)
    assert (judged.score, judged.p_marginal, judged.p_conditional) == (score, p, holds_for_reference(p, N))
    assert (judged.n, judged.share_below, judged.p_value) == (N, (scores < score).mean(), p)


@pytest.mark.parametrize("digits", [16, 32])
def test_an_image_of_the_set_is_not_compared_with_itself(digits):
    observed = draw(np.random.default_rng(2), FIT + N)
    null = null_set(observed, digits)
    assert null.judge(observed[FIT + 3], IDS[FIT + 3]).n == N - 1
    assert null.judge(observed[FIT + 3], "f" * 32).n == null.judge(observed[FIT + 3]).n == N
    # One on which the expected statistic was fitted is left out of the fit.
    others = SplitNull(np.delete(observed[:FIT], 5, 0), IDS[:5] + IDS[6:FIT], null.observed, null.ids)
    assert null.judge(observed[5], IDS[5]) == others.judge(observed[5])
    assert null.judge(observed[5], IDS[5]).score != null.judge(observed[5]).score


def test_p_values_of_fresh_images_are_uniform_and_members_have_small_ones():
    rng = np.random.default_rng(3)
    null = null_set(draw(rng, FIT + N))
    p = np.array([null.judge(row).p_marginal for row in draw(rng, 2000)])
    for level in (0.05, 0.2, 0.5, 0.8):
        assert abs((p <= level).mean() - level) <= 4 * math.sqrt(level * (1 - level) * (1 / 2000 + 1 / N))
    assert np.mean([null.judge(row).p_marginal <= ALPHA for row in draw(rng, 50, shift=5)]) > 0.8
    assert null.critical.n_above == 2 and null.critical.score == np.sort(null.scores)[-3]
