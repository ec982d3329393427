"""What the tests of splits share."""

from __future__ import annotations

import pytest


@pytest.fixture
def forget(loopback_hub):
    """Delete the data set ``alice/layout`` after the test."""
    yield
    if ("dataset", "alice/layout") in loopback_hub._repos:
        loopback_hub.delete_repo("dataset", "alice/layout")
