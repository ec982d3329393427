"""Bases of overlays, and that nothing is unpickled."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from support.overlays import epsilon, load_model, merged_weight, other_weights


@pytest.fixture(scope="session")
def base(repo):
    """``base(name) -> Path``: one of the tiny pipelines in a folder."""
    return repo


@pytest.fixture(scope="session")
def loaded(base):
    """``loaded(name, dtype="float32") -> DiffusionModel``: a tiny pipeline without overlays; loaded once."""
    return cache(lambda name, dtype="float32": load_model(base(name), dtype=dtype))


@pytest.fixture(scope="session")
def alone(loaded):
    """``alone(name)``: ε of a tiny pipeline without overlays."""
    return cache(lambda name: epsilon(loaded(name)))


@pytest.fixture(scope="session")
def merged(loaded):
    """``merged(name, *updates, dtype="float32")``: ε of a tiny pipeline with W + scale·B·A in place of W."""

    def predicted(name, *updates, dtype="float32"):
        with other_weights(loaded(name, dtype), merged_weight, *updates) as model:
            return epsilon(model)

    return predicted


@pytest.fixture(autouse=True)
def nothing_is_unpickled(monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickled file was opened"))
