"""The table of well-known models: valid, with sources that exist; one's own table comes first."""

from __future__ import annotations

import json

import pytest

from mia_hub.auditing.known_models import TABLE, known_model, read_table
from mia_hub.auditing.published_settings.setting import BENCHMARK, load_benchmark
from mia_hub.errors import SplitError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MIA_HUB_HOME", str(tmp_path))
    return tmp_path


def test_the_shipped_table_is_valid_and_names_each_model_once():
    entries = read_table(TABLE)
    models = [model.lower() for entry in entries for model in entry.models]
    assert len(models) == len(set(models)) and "google/ddpm-cifar10-32" in models
    for entry in entries:
        assert not entry.verified or entry.nonmembers, "what was run has a source"
        for source in filter(None, (entry.nonmembers, entry.members)):
            assert source.startswith(BENCHMARK)
            setting = load_benchmark(source.removeprefix(BENCHMARK))
            assert any(setting.model.id == model for model in entry.models), "the setting is about one of these models"


@pytest.mark.parametrize("name", ["google/ddpm-cifar10-32", "Google/DDPM-CIFAR10-32"])
def test_a_model_is_found_in_any_casing(name):
    entry = known_model(name)
    assert entry is not None and entry.nonmembers == "benchmark:ddpm-cifar10-public"


def test_ones_own_table_comes_first(home):
    own = {"known": [{"models": ["google/ddpm-cifar10-32", "me/mine"], "nonmembers": "me/heldout:test", "limit": 200}]}
    (home / "references.json").write_text(json.dumps(own))
    assert known_model("me/mine").nonmembers == known_model("google/ddpm-cifar10-32").nonmembers == "me/heldout:test"
    assert known_model("facebook/DiT-XL-2-256") is not None and known_model("nobody/nothing") is None


WRONG = {
    "no JSON": ("{", "can't be understood"),
    "an unknown field": ({"known": [{"models": ["a/b"], "note": "x", "further": 1}]}, "has no field 'further'"),
    "no models": ({"known": [{"models": [], "note": "x"}]}, "models"),
    "members alone": ({"known": [{"models": ["a/b"], "members": "c/d"}]}, "members without nonmembers"),
    "nothing to say": ({"known": [{"models": ["a/b"]}]}, "has a note that says what a person can do"),
    "a limit that is too small": ({"known": [{"models": ["a/b"], "nonmembers": "c/d", "limit": 5}]}, "limit must be at least 20; got 5"),
    "a list": ([], "must be a JSON object"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_table_that_is_wrong_is_refused(home, case):
    content, reason = WRONG[case]
    (home / "references.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(SplitError, match=reason):
        known_model("a/b")
