"""The suggestion for a mistyped name."""

from __future__ import annotations

import pytest

from mia_hub.rendering.suggestions import did_you_mean


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("simma", " Did you mean 'sima'?"),
        ("SIMA", " Did you mean 'sima'?"),
        ("pai", " Did you mean 'PIA'?"),
        ("xyz", ""),
        (7, ""),
        ("", ""),
    ],
)
def test_the_nearest_known_name_is_suggested_whatever_its_case(name, suggestion):
    assert did_you_mean(name, ("sima", "PIA", "loss")) == suggestion
