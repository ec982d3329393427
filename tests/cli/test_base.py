"""`--base` on the command line, end to end on tiny models; and the base of a LoRA, which needs no option."""

from __future__ import annotations

import json

import pytest
from support.command_line import run
from support.known_blobs import folder_of, members, split_of_blobs
from support.tiny_pipelines import save, save_lora

import mia_hub
from mia_hub.scores import ScoreTable

ATTACK = ("--attack", "sima-b", "--set", "timesteps=100,160")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MIA_HUB_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_pixel_repo):
    """A folder with a split, and the folders of a model and of its base."""
    folder = tmp_path_factory.mktemp("place")
    split_of_blobs(folder / "split")
    return folder, str(tiny_pixel_repo()), str(tiny_pixel_repo(seed=1))


def test_audit_with_a_base_resumes_with_the_same_base_alone(capsys, place, tmp_path):
    folder, model, base = place
    command = ["audit", "--model", model, "--split", folder / "split", "--no-shift-check", "--fpr", "0.2", "--out", tmp_path, *ATTACK]
    status, out, err = run(capsys, *command, "--base", base)
    assert status == 0 and base in out
    table = ScoreTable.from_parquet(tmp_path / "scores.parquet")
    assert table.model["base"]["id"] == base
    assert "Scores taken from" in run(capsys, *command, "--base", base)[2]
    status, _, err = run(capsys, *command)
    assert status == 2 and "none is known. Give base=… (--base on the command line)" in err


def test_compare_leaves_out_what_needs_a_base_and_runs_it_with_one(capsys, place, tmp_path):
    folder, model, base = place
    command = ["compare", "--model", model, "--split", folder / "split", "--no-shift-check", "--fpr", "0.2", "--quiet", "--out", tmp_path]
    attacks = ["--attacks", "sima:timesteps=100", "sima-b:timesteps=100"]
    assert run(capsys, *command, *attacks)[0] == 2
    status, _, _ = run(capsys, *command, *attacks, "--base", base)
    rows = json.loads((tmp_path / "comparison.json").read_text())["rows"]
    assert status == 0 and [row["queries_at_timestep"] for row in rows] == [1, 2]
    assert ["base" in row["report"]["model"] for row in rows] == [False, True]


def test_check_with_a_base_is_by_sima_lpb(capsys, place, tmp_path):
    folder, model, base = place
    images = folder_of(members(2), tmp_path / "images")
    known = ("--nonmembers", folder / "split" / "nonmember")
    status, out, err = run(capsys, "check", images, "--model", model, "--base", base, *known, "--quiet", "--json", "-")
    answer = json.loads(out)
    assert (status, err) == (0, "") and answer["model"]["base"]["id"] == base and answer["attack"].startswith("SimALPB(")
    assert all(0 < entry["p_value"] <= 1 for entry in answer["images"])
    status, _, err = run(capsys, "check", images, "--model", model, "--base", base, *known, "--attack", "sima", "--quiet")
    assert status == 2 and "A base was given, and 'sima' compares the model with none." in err


def test_parameters_without_an_attack_are_those_of_the_models_own(capsys, place, tmp_path):
    folder, model, base = place
    images = folder_of(members(1), tmp_path / "images")
    known = ("--nonmembers", folder / "split" / "nonmember", "--set", "timesteps=90", "--quiet", "--json", "-")
    for further, attack in (((), "SimALP(timesteps=(90,)"), (("--base", base), "SimALPB(timesteps=(90,)")):
        status, out, err = run(capsys, "check", images, "--model", model, *known, *further)
        assert (status, err) == (0, "") and json.loads(out)["attack"].startswith(attack)
    status, _, err = run(capsys, "check", images, "--model", model, *known[:2], "--set", "draws=3", "--quiet")
    assert status == 2 and "'sima-lp'" in err and "draws" in err


def test_a_reference_is_built_and_verified_with_its_base(capsys, place, tmp_path):
    folder, model, base = place
    build = ["reference", "build", "--model", model, "--base", base, "--nonmembers", folder / "split" / "nonmember", "--quiet"]
    assert run(capsys, *build, *ATTACK[2:], "--out", tmp_path / "reference")[0] == 0
    verify = ["reference", "verify", tmp_path / "reference", "--quiet"]
    status, out, _ = run(capsys, *verify, "--base", base)
    assert status == 0 and "agree" in out
    status, _, err = run(capsys, *verify)
    assert status == 2 and "--base" in err


def test_a_lora_brings_its_base(capsys, place, tmp_path):
    folder, *_ = place
    base, lora = save("sd1", tmp_path / "sd1"), save_lora("sd1", tmp_path / "lora")
    status, _, err = run(
        capsys, "audit", "--model", f"{base} + {lora}", "--split", folder / "split", "--limit", "22", "--no-shift-check", "--fpr", "0.2",
        "--attack", "sima-b", "--set", "timesteps=220", "--quiet", "--out", tmp_path / "out",
    )  # fmt: skip
    assert status == 0 and "Loading the base" not in err
    table = ScoreTable.from_parquet(tmp_path / "out" / "scores.parquet")
    assert table.model["base"]["id"] == str(base) and table.queries == 44 * 2
    assert table.model["base"]["revision"] == mia_hub.load_model(str(base)).info.revision
