"""Figures as text."""

from __future__ import annotations

import pytest

from mia_hub.rendering.numbers import floored_percent, in_five, p_text


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
