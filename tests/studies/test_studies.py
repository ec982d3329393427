"""The pages of the studies are what their numbers give."""

import importlib

import pytest
import torch

from studies.page import DOCS, page_of
from studies.validity import CachedModel

STUDIES = sorted(path.stem for path in DOCS.glob("*.json"))


@pytest.mark.parametrize("name", STUDIES)
def test_a_page_is_what_its_numbers_give(name):
    files = page_of(name, importlib.import_module(f"studies.{name}").render)
    assert {path.suffix for path in files} >= {".md"}
    for path, text in files.items():
        assert path.read_text(encoding="utf-8") == text, f"python -m studies.{name} --render writes {path.name} again"


def test_no_page_is_without_numbers():
    assert STUDIES and {path.stem for path in DOCS.glob("*.md")} == set(STUDIES)


def test_a_cached_model_answers_alike_and_is_queried_once():
    queries = []

    class Counting:
        name = "counted"

        def predict_noise(self, x, t, cond=None):
            queries.extend(t.tolist())
            return x * t[:, None, None, None]

    x, t = torch.arange(12.0).reshape(3, 1, 2, 2), torch.tensor([1, 2, 3])
    model = CachedModel(Counting())
    assert torch.equal(model.predict_noise(x[:2], t[:2]), Counting().predict_noise(x[:2], t[:2])) and model.name == "counted"
    del queries[:]
    rows = [2, 0, 1, 2]
    assert torch.equal(model.predict_noise(x[rows], t[rows]), x[rows] * t[rows][:, None, None, None]) and queries == [3]
    assert torch.equal(model.predict_noise(x[:1], t[1:2]), 2 * x[:1]) and queries == [3, 2], "another timestep is another query"
