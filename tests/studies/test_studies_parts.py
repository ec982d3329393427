"""What studies share: templates, kept scores, the rules by which results are called wins or onsets."""

from __future__ import annotations

import json
import re
from importlib import import_module
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks.treatments import rate_text
from mia_hub.checking import treated_images
from studies import beta, memorisation, page, timesteps, train, treated
from studies.attacks import EVERY, _repeats_tables, _short_name
from studies.figures import heat_svg, lines_svg, scatter_svg
from studies.measuring import GRID
from studies.models import load_run
from studies.page import fill


def test_a_template_and_its_parts_must_match():
    assert fill("a {{one}} b {{two-x}}", {"one": "1", "two-x": "{{one}}"}) == "a 1 b {{one}}"
    with pytest.raises(KeyError, match="missing"):
        fill("{{missing}}", {})
    with pytest.raises(KeyError, match="unused"):
        fill("", {"unused": "x"})


def test_an_onset_is_the_first_snapshot_from_which_on_the_bound_always_holds():
    lows = [0.6, 0.4, 0.55, 0.72, 0.9]
    rows = [{"size": 128, "passes": i + 1, "sima-cn": {"auc": [low, low, 1]}} for i, low in enumerate(lows)]
    assert memorisation._onsets(128, rows) == ["128", "3 passes", "4 passes", "not in 5", "not in 5"]


def test_attacks_of_one_name_are_told_apart():
    names = [_short_name(attack, list(EVERY)) for attack in EVERY]
    assert len(set(names)) == len(names) and "sima" in names and GRID not in " ".join(names)


def test_repeats_are_named_by_their_seed():
    def training(sima: float, pia: float) -> dict:
        figures = {name: {"value": auc, "low": auc - 0.1, "high": auc + 0.1} for name, auc in (("sima", sima), ("pia", pia))}
        return {name: {"auc": figure, "tpr_at_fpr": {"0.01": figure}} for name, figure in figures.items()}

    trainings = {"ddpm-cifar": training(0.7, 0.6), "two": training(0.8, 0.6), "another model": training(0.5, 0.9)}
    tables = _repeats_tables(trainings, "ddpm-cifar", ("one", "two"))
    assert tables.count("| Attack | Seed 0 | Seed 2 | Mean | Largest − smallest |") == 2
    assert tables.count("| `sima` | 0.700 [0.600, 0.800] | 0.800 [0.700, 0.900] | 0.750 | 0.100 |") == 2
    assert tables.index("`sima`") < tables.index("`pia`"), "in the order of these trainings, and of no other model"
    assert _repeats_tables(trainings, "ddpm-cifar", ("one",)) == ""


def test_every_command_trains_what_a_study_asks_for(tmp_path, capsys):
    """Each option is one that the recipe has, and what a chain builds on comes before it."""
    for chain in train.chains(tmp_path):
        made = []
        for module, *options in chain:
            recipe = __import__(f"training.{module}", fromlist=["main"])
            with pytest.raises(SystemExit) as helped:
                recipe.main(["--help"])
            said = capsys.readouterr().out
            assert helped.value.code == 0 and all(f"{option} " in said for option in options if option.startswith("--"))
            folder = options[options.index("--out") + 1]
            # The demo is part of the package.
            needed = [
                value for option, value in pairwise(options) if option in ("--vae", "--base") and not value.startswith("mia_hub/demo")
            ]
            assert all(any(value.startswith(before) for before in made) for value in needed)
            made.append(folder)
            assert not train.is_finished([module, *options])


def test_a_run_that_is_not_finished_names_the_way_to_it(tmp_path):
    with pytest.raises(SystemExit, match=re.escape("studies/README.md")):
        load_run(tmp_path)


def test_figures_are_well_formed_and_say_what_they_show():
    points = [(1.0, 0.6, 0.5, 0.7), (10.0, 0.8, 0.7, 0.9)]
    drawn = [
        lines_svg({"a": points, "b": points}, heading="AUC", x_label="x", description="both", chance=0.5, log_x=True, ticks={1: "one"}),
        scatter_svg({"a": [([1, 0.9, 1.1], [0.5, 0.4, 0.6])]}, heading="AUC", x_label="x", description="dots"),
        heat_svg([[0.9, None], [0.3, 0.5]], rows=["r", "s"], columns=["m", "n"], heading="AUC", description="cells"),
    ]
    for svg, said in zip(drawn, ("both", "dots", "cells")):
        ElementTree.fromstring(svg)
        assert said in svg and "nan" not in svg
    assert drawn[2] == heat_svg([[0.9, None], [0.3, 0.5]], rows=["r", "s"], columns=["m", "n"], heading="AUC", description="cells")
    assert np.all([".90" in drawn[2], ".30" in drawn[2]])


FIGURES = {"auc": [0.8, 0.7, 0.9], "tpr_at_0.01_fpr": [0.2, 0.1, 0.3]}
PLAIN, SHAPED = {"sima": FIGURES, "sima-cn": FIGURES}, {name: FIGURES for name in (*beta.ATTACKS, beta.BY_SAMPLE)}
DUEL = {side: {"attack": "pia", "queries": 2, **FIGURES} for side in ("own", "other")} | {"difference": [-0.1, -0.2, -0.05]}
ABLATION = {
    "given": {"rows": [{"given": ["complexity"], "p": 2.0, "queries": 1, "auc": FIGURES["auc"]}]},
    "null": {"rows": [{"count": count, "auc": FIGURES["auc"]} for count in (20, 200)]},
}
CURVE = {"curve": [[t, *FIGURES["auc"]] for t in (0, 100, 700)], "chosen": 100, "auc": FIGURES["auc"]}
# Of the shape that `measure` gives, so that no study fails only when it comes to its page.
MADE = {
    "memorisation": {
        "rows": [{"size": 128, "step": step, "passes": step / 4, **PLAIN} for step in (500, 1000)],
        "models": {"128": {"command": "train", "split": "sha256:0", "blind": "0.5"}},
    },
    "timesteps": {
        "families": {
            "demo": {"attacks": {name: CURVE for name in timesteps.ATTACKS}, "members": 9, "nonmembers": 9, "blind": FIGURES["auc"]}
        }
    },
    "beta": {
        "rows": [
            {"beta": value, "adversary": loss, "psnr": 20.0, "distance": [3 + value, 2, 5], "attacks": SHAPED}
            for loss in beta.LOSSES
            for value in (0.0, 0.1, 1.0)
        ],
        "pixels": {"attacks": SHAPED, "distance": [3, 2, 4]},
        "floor": 1.0,
        "steps": 4000,
    },
    "defences": {"rows": [{"defence": "none", "setting": "512", "attacks": PLAIN, "distance": [3, 2, 4]}], "floor": 1.0},
    "conditional": {"models": {"demo": {"duels": [DUEL], "ablations": None}, "t2i": {"duels": [DUEL], "ablations": ABLATION}}},
}


@pytest.mark.parametrize("name", MADE)
@pytest.mark.filterwarnings("ignore:An input array is constant")
def test_every_template_takes_what_its_study_gives(name, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "DOCS", tmp_path)
    for made, results in MADE.items():
        page.write_results(made, results)
    files = page.page_of(name, import_module(f"studies.{name}").render)
    (words,) = (text for path, text in files.items() if path.suffix == ".md")
    assert "{{" not in words and all(f"({path.name})" in words for path in files if path.suffix == ".svg")


def test_evidence_on_treated_images_is_summed_over_models():
    def counts(count):
        return {kind: {"as it is": [count, 10], "mirrored": [0, 10]} for kind in ("members", "non-members")}

    every = dict.fromkeys(treated.ATTACKS, counts(1))
    total = treated.summed([every, {"sima": counts(3)}])
    assert total["sima"]["members"]["as it is"] == [4, 20] and total["loss-b"] == counts(1)
    assert treated.rates({"sima": total["sima"]}, "members")[0] == ["as it is", rate_text(4, 20)]


def test_false_evidence_is_stored_by_study(tmp_path, monkeypatch):
    monkeypatch.setattr(treated, "MEASURED", tmp_path / "stored.json")
    monkeypatch.setattr(treated_images, "MEASURED", tmp_path / "stored.json")
    treated_images._measured.cache_clear()
    (tmp_path / "stored.json").write_text('{"copies": {"false_evidence": {"sima": {"as it is": [1, 100]}}}}')
    try:
        treated.write_false_evidence("fine_tunes", {"null": 500}, {"sima": {"as it is": [9, 100]}, "sima-b": {"as it is": [2, 100]}})
        stored = json.loads((tmp_path / "stored.json").read_text())
        assert set(stored) == {"copies", "fine_tunes"} and stored["fine_tunes"]["null"] == 500
        # That of the shared reference counts first.
        assert treated_images._measured() == {"sima": {"as it is": [1, 100]}, "sima-b": {"as it is": [2, 100]}}
    finally:
        treated_images._measured.cache_clear()
