"""Figures as text."""

from __future__ import annotations

import pytest

from mia_hub.rendering.numbers import floored_percent, in_ten, p_text, percent_with_interval, quantity, share, with_interval


@pytest.mark.parametrize(
    ("value", "text"),
    [(1, "1"), (0.5, "0.5"), (20 / 2001, "0.01"), (21 / 2001, "0.0105"), (1e-5, "0.00001"), (0.26, "0.26"), (0.998, "0.998")],
)
def test_p_values_as_text(value, text):
    assert p_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.78, "about 8 in 10"), (0.289, "about 3 in 10"), (0.04, "4 %"), (0.98, "98 %"), (1, "100 %")]
)
def test_shares_in_words(value, text):
    assert in_ten(value) == text


@pytest.mark.parametrize(("value", "text"), [(1999 / 2000, 99.9), (0.9999, 99.9), (1, 100), (0.123, 12.3), (0.29, 29.0)])
def test_percentiles_are_rounded_down(value, text):
    assert floored_percent(value) == text


def test_a_value_is_written_with_its_interval():
    assert with_interval(0.9534, 0.937, 0.968) == "0.953 [0.937, 0.968]"
    assert percent_with_interval(0.1824, 0.151, 0.216) == "18.2 % [15.1, 21.6]"
    assert percent_with_interval(0.1824, 0.151, 0.216, rate=0.001) == "18.24 % [15.10, 21.60]"
    assert (share(0.01), quantity(1234.5, " s"), quantity(0.12345), quantity(None)) == ("1 %", "1,234 s", "0.123", "not recorded")
