from __future__ import annotations

from pathlib import Path

import evaluate
import pytest

from mia_hub.evaluate_module import install


@pytest.fixture(scope="package", autouse=True)
def installed(loopback_hub) -> Path:
    return install.install()


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """evaluate counts downloads at an address outside, so here it stays offline unless a test says otherwise."""
    monkeypatch.setattr(evaluate.config, "HF_UPDATE_DOWNLOAD_COUNTS", False)
    monkeypatch.setattr(evaluate.config, "HF_EVALUATE_OFFLINE", True)


@pytest.fixture
def sima(offline):
    return evaluate.load("sima")
