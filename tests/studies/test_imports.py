"""Every script that no other test runs can at least be imported."""

from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = [f"{folder}.{path.stem}" for folder in ("studies", "benchmarks", "training") for path in sorted((ROOT / folder).glob("*.py"))]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_can_be_imported(name):
    assert import_module(name).__doc__
