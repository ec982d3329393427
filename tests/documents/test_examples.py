"""The examples run as they are, on tiny models."""

import csv
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from support.tiny_pipelines import save, save_lora

import mia_hub

EXAMPLES = Path(__file__).parents[2] / "examples"
N = 26


def main_of(name: str):
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """``member/`` and ``nonmember/`` with a caption and a class each."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for part in ("member", "nonmember"):
        (folder / part).mkdir()
        rows = []
        for i in range(N):
            Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / part / f"{i}.png")
            (folder / part / f"{i}.txt").write_text(f"a {('red', 'green', 'blue')[i % 3]} cat")
            rows.append({"file_name": f"{i}.png", "class": i % 7})
        with open(folder / part / "metadata.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, ["file_name", "class"])
            writer.writeheader()
            writer.writerows(rows)
    return folder


def test_every_example_is_listed_and_tested():
    scripts = {path.stem for path in EXAMPLES.glob("*.py")}
    assert all(f"`{script}.py`" in (EXAMPLES / "README.md").read_text() for script in scripts)
    assert all(f'main_of("{script}")' in Path(__file__).read_text() for script in scripts)


def test_audit_of_a_finetune(images, tmp_path, capsys):
    model = save("sd1", tmp_path / "model")
    reports = main_of("audit_finetune")(["--model", str(model), "--split", str(images), "--device", "cpu"])
    assert reports["split"].scores.captions == "given" and reports["empty"].scores.captions == "empty"
    assert [flag.name for flag in reports["split"].flags].count("empty-captions") == 0
    assert [flag.name for flag in reports["empty"].flags].count("empty-captions") == 1
    assert not np.array_equal(reports["split"].scores.scores, reports["empty"].scores.scores)
    assert "# Membership audit of" in capsys.readouterr().out


def test_check_of_a_lora(images, tmp_path, capsys):
    base, lora = save("sd1", tmp_path / "base"), save_lora("sd1", tmp_path / "lora")
    sets = ["--images", str(images / "member"), "--others", str(images / "nonmember")]
    answer = main_of("check_lora")(["--base", str(base), "--lora", str(lora), *sets, "--caption", "a cat", "--device", "cpu"])
    assert answer.model == f"{base} + {lora}"
    assert answer.n == N and answer.n_null == N and 0 < answer.p_value <= 1
    assert answer.sentence in capsys.readouterr().out


def test_audit_of_a_dit(images, tmp_path, capsys):
    model = save("dit", tmp_path / "model")
    comparison = main_of("audit_dit")(["--model", str(model), "--split", str(images), "--device", "cpu"])
    tables = [report.scores for report in comparison.reports]
    assert {table.captions for table in tables} == {"given"}
    assert {table.split["captions_hash"] for table in tables} == {tables[0].split["captions_hash"]}
    assert "| pia |" in capsys.readouterr().out


def test_a_wrapped_research_network(images, tmp_path, capsys):
    example = runpy.run_path(str(EXAMPLES / "wrap_research_unet.py"))
    torch.manual_seed(0)
    save_file(example["ResearchUNet"]().state_dict(), tmp_path / "weights.safetensors")
    report = main_of("wrap_research_unet")(["--weights", str(tmp_path / "weights.safetensors"), "--split", str(images), "--size", "16"])
    assert report.model["id"] == "our UNet, epoch 800" and report.auc.n > 0
    assert "our UNet, epoch 800" in capsys.readouterr().out


def test_a_monitored_training_run(images, tmp_path, capsys):
    settings = ["--split", str(images), "--members", "20", "--steps", "6", "--every", "2", "--batch-size", "4", "--width", "8"]
    monitor = main_of("monitor_training")([*settings, "--out", str(tmp_path / "run")])
    assert [step.step for step in monitor.steps] == [0, 2, 4, 6] and "step 6: loss" in capsys.readouterr().out
    # The last line is the audit of the model that was saved.
    split = mia_hub.load_split(str(images), limit=20)
    report = mia_hub.audit(
        str(tmp_path / "run" / "model"), monitor.attack, split, timestep=100, device="cpu", shift_check=False, progress=False
    )
    assert report.auc == monitor.steps[-1].auc
    with pytest.warns(UserWarning, match="At step"):
        stopped = main_of("monitor_training")([*settings, "--stop-above", "asr=0", "--out", str(tmp_path / "stopped")])
    assert [step.step for step in stopped.steps] == [0, 2] and (tmp_path / "stopped" / "model").is_dir()
    assert "at 4 steps of training" in (tmp_path / "run" / "monitor.svg").read_text()
