"""Bases of overlays, and that nothing is unpickled."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from support.overlays import epsilon, load_model


@pytest.fixture(scope="session")
def base(repo):
    """``base(name) -> Path``: one of the tiny pipelines in a folder."""
    return repo


@pytest.fixture(scope="session")
def alone(base):
    """``alone(name)``: ε of a tiny pipeline without overlays."""
    return cache(lambda name: epsilon(load_model(base(name))))


@pytest.fixture(autouse=True)
def nothing_is_unpickled(monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickled file was opened"))
