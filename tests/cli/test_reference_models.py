"""`--reference-model` on the command line, end to end on tiny models."""

from __future__ import annotations

import json

import pytest
from support.command_line import run
from support.known_blobs import folder_of, members, split_of_blobs

from mia_hub.scores import ScoreTable

ATTACK = ("--attack", "lira", "--set", "timesteps=100")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MIA_HUB_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_pixel_repo):
    """A folder with a split, and the folders of a model and of two reference models."""
    folder = tmp_path_factory.mktemp("place")
    split_of_blobs(folder / "split")
    return folder, *(str(tiny_pixel_repo(seed=seed)) for seed in (0, 1, 2))


def given(*folders):
    return [argument for folder in folders for argument in ("--reference-model", folder)]


def test_audit_resumes_with_the_same_reference_models_alone(capsys, place, tmp_path):
    folder, model, *others = place
    command = ["audit", "--model", model, "--split", folder / "split", "--no-shift-check", "--fpr", "0.2", "--out", tmp_path, *ATTACK]
    status, out, _ = run(capsys, *command, *given(*others))
    assert status == 0 and all(other in out for other in others) and "3, 2 of them of the reference models" in out
    recorded = ScoreTable.from_parquet(tmp_path / "scores.parquet").model["reference_models"]
    assert {each["id"] for each in recorded} == set(others)
    assert "Scores taken from" in run(capsys, *command, *given(*others[::-1]))[2]
    status, _, err = run(capsys, *command, *given(others[0]))
    assert status == 0 and "Scores taken from" not in err
    status, _, err = run(capsys, *command)
    assert status == 2 and "was given none. Give reference_models=[…] (--reference-model on the command line, once for each)" in err


def test_compare_and_check_take_them(capsys, place, tmp_path):
    folder, model, *others = place
    command = ["compare", "--model", model, "--split", folder / "split", "--no-shift-check", "--fpr", "0.2", "--quiet", "--out", tmp_path]
    attacks = [f"{name}:timesteps=100" for name in ("sima", "lira", "rmia", "bavaria")]
    status, _, _ = run(capsys, *command, "--attacks", *attacks, *given(*others))
    rows = json.loads((tmp_path / "comparison.json").read_text())["rows"]
    assert status == 0 and [row["queries_at_timestep"] for row in rows] == [1, 3, 3, 3]
    images = folder_of(members(2), tmp_path / "images")
    check = ["check", images, "--model", model, "--nonmembers", folder / "split" / "nonmember", "--quiet", "--json", "-"]
    status, out, err = run(capsys, *check, *given(*others), *ATTACK)
    answer = json.loads(out)
    assert (status, err) == (0, "") and len(answer["model"]["reference_models"]) == 2
    assert all(0 < entry["p_value"] <= 1 for entry in answer["images"])
    status, _, err = run(capsys, *check, *given(*others), "--attack", "sima")
    assert status == 2 and "Reference models were given, and 'sima' compares the model with none." in err


def test_a_reference_is_built_and_verified_with_them(capsys, place, tmp_path):
    folder, model, *others = place
    build = ["reference", "build", "--model", model, "--nonmembers", folder / "split" / "nonmember", "--quiet", *ATTACK]
    assert run(capsys, *build, *given(*others), "--out", tmp_path / "reference")[0] == 0
    verify = ["reference", "verify", tmp_path / "reference", "--quiet"]
    status, out, _ = run(capsys, *verify, *given(*others))
    assert status == 0 and "agree" in out
    for fewer in ((), others[:1]):
        status, _, err = run(capsys, *verify, *given(*fewer))
        assert status == 2 and "--reference-model" in err
