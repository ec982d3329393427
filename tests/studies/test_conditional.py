"""The corrected outcomes of many comparisons."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from studies import conditional
from studies.conditional import LOSS, TIE, WIN


def test_holm_adjusts_as_in_a_worked_example():
    """Four p-values at 5 %: 4 × .005, 3 × .01, 2 × .03, and 1 × .04, which can't be below the one before it."""
    assert conditional.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert conditional.holm([0.9, 0.6]) == [1.0, 1.0]
    assert conditional.holm([]) == []


def test_outcomes_hold_for_all_comparisons_together():
    def duel(z: float) -> dict:
        half = norm.ppf(0.975) * 0.01
        return {"difference": [z * 0.01, z * 0.01 - half, z * 0.01 + half]}

    # Alone, 2.1 standard errors would be a difference; among five comparisons they are not.
    model, other = conditional.judged([[duel(5), duel(2.1), duel(-4)], [duel(-2.1), duel(0)]])
    assert [one["outcome"] for one in (*model, *other)] == [WIN, TIE, LOSS, TIE, TIE]
    assert np.isclose(conditional._p_value(*duel(1.959964)["difference"]), 0.05)
