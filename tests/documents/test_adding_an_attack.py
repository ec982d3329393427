"""The page on adding an attack: its example is run as it stands, registered, and held to what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import mia_hub
from mia_hub.attacks import ATTACKS
from mia_hub.errors import AttackError
from mia_hub.images.sources import as_images
from mia_hub.metrics.roc import auc

PAGE = (Path(__file__).parents[2] / "docs" / "adding_an_attack.md").read_text()
EXAMPLE, USE, TESTS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def names():
    """What the page's example defines, after it was run."""
    # Dataclasses look up the module that they are defined in.
    names = {"__name__": __name__}
    exec(EXAMPLE, names)
    return names


def test_the_example_is_an_attack_in_fewer_than_30_lines(names):
    assert len(EXAMPLE.splitlines()) < 30
    assert max(map(len, EXAMPLE.splitlines())) <= 140
    attack = names["NormRatio"]()
    assert repr(attack) == "NormRatio(timesteps=(100, 150, 200), late=400)"
    assert attack.name not in ATTACKS


def test_the_example_scores_the_demo_model_and_can_be_registered(names, monkeypatch):
    monkeypatch.setitem(ATTACKS, "norm-ratio", names["NormRatio"])
    assert "norm-ratio" in mia_hub.list_attacks()
    attack = mia_hub.get_attack("norm-ratio", timesteps=(100, 150), late=350)
    split = mia_hub.load_split("demo").limited(12, seed=3)
    model = mia_hub.load_model("demo", device="cpu")
    table = attack.score(model, split.images, progress=False)
    assert table.queries == 24 * attack.queries_per_image == 24 * 3
    assert min(auc(column, split.is_member) for column in table.scores.T) > 0.8
    x0 = model.encode(as_images(split.images)[:1])
    with torch.no_grad():
        norms = [float((model.predict_noise(x0, torch.tensor([t])).double() ** 4).sum() ** 0.25) for t in (100, 150, 350)]
    np.testing.assert_allclose(table.scores[0], [-norms[0] / norms[2], -norms[1] / norms[2]], rtol=1e-5)
    np.testing.assert_allclose(attack.at(150).score(model, split.images[0], progress=False).scores[0], table.scores[0, 1:], rtol=1e-5)


def test_the_example_refuses_what_it_cannot_do(names):
    for wrong in ({"late": 1000}, {"late": 200}):
        with pytest.raises(AttackError, match="must come after the timesteps and within the model's schedule"):
            names["NormRatio"](**wrong).check(mia_hub.load_model("demo", device="cpu"))


def test_the_page_shows_how_to_use_it(names, capsys):
    smaller = USE.replace("limit=200", "limit=10, shift_check=False, fprs=[]").replace(", report.tpr_at_fpr[0.01]", "")
    assert smaller.count("limit=10") == 1 and "tpr_at_fpr" not in smaller
    names["images"] = list(mia_hub.load_split("demo").members[:3])
    exec(smaller, names)
    assert names["table"].scores.shape == (3, 1)
    assert names["report"].cost.queries_per_image == 2
    assert re.match(r"\d\.\d{3} \[.*\] 2\n", capsys.readouterr().out)  # the AUC with its interval, and the queries


def test_the_tests_that_the_page_shows_pass(names):
    exec(TESTS, names)
    shown = [name for name in names if name.startswith("test_")]
    assert shown == ["test_known_answer", "test_literal_rederivation", "test_batches_and_queries"]
    for name in shown:
        names[name]()


@pytest.mark.parametrize(
    ("right", "wrong", "caught_by"),
    [
        ("norms[-1][:, None]", "norms[0][:, None]", "test_literal_rederivation"),
        ("len(self.timesteps) + 1", "len(self.timesteps)", "test_batches_and_queries"),
        ("lambda i, t: x0", "lambda i, t: x0 + 0.1 * torch.randn_like(x0)", "test_batches_and_queries"),
        ("return torch.stack(norms[:-1], dim=1) / norms[-1][:, None]", "return -torch.stack(norms[:-1], dim=1)", "test_known_answer"),
    ],
)
def test_the_tests_that_the_page_shows_can_fail(right, wrong, caught_by):
    broken = EXAMPLE.replace(right, wrong)
    assert broken != EXAMPLE
    names = {"__name__": __name__}
    exec(broken, names)
    exec(TESTS, names)
    with pytest.raises(AssertionError):
        names[caught_by]()
