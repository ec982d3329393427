"""Estimates with their intervals."""

from mia_hub.metrics.estimates import Estimate


def test_estimate_says_its_interval():
    assert str(Estimate(0.8, 0.75, 0.85, 3, 4)) == "0.800 [0.750, 0.850]"
    assert Estimate(0.8, 0.75, 0.85, 3, 4).n == 7
