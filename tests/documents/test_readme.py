"""The README's code runs as it stands; only sizes are made smaller, and the Hub is ours."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.tiny_pipelines import save, save_lora

import mia_hub
from mia_hub.cli import parser as cli
from mia_hub.evaluate_module import install
from mia_hub.models.exact import ddpm_alphas_cumprod

README = (Path(__file__).parents[2] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def workplace(tmp_path, monkeypatch, loopback_hub, tiny_pixel_repo):
    """A folder with what the README speaks of: a image, two folders of them, and a model on the Hub."""
    repositories = {
        "google/ddpm-cifar10-32": tiny_pixel_repo(channels=3, size=32),
        "stabilityai/stable-diffusion-xl-base-1.0": save("sdxl", tmp_path / "hub" / "sdxl"),
        "stable-diffusion-v1-5/stable-diffusion-v1-5": save("sd1", tmp_path / "hub" / "sd1"),
        "someone/their-lora": save_lora("sd1", tmp_path / "hub" / "lora"),
    }
    for name, folder in repositories.items():
        loopback_hub.add_repo("model", name, folder)
    rng = np.random.default_rng(0)
    for folder, count in (("mine", 6), ("not_used", 25)):
        (tmp_path / folder).mkdir()
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / folder / f"{i}.png")
    mia_hub.load_split("demo").members[0].to_pil().save(tmp_path / "image.png")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in repositories:
        loopback_hub.delete_repo("model", name)


def test_python_examples_run(workplace, monkeypatch, capsys):
    monkeypatch.setenv("HF_UPDATE_DOWNLOAD_COUNTS", "0")
    install.install()
    script, metric = blocks("python")
    faster = script.replace('attack="sima", split', 'attack=mia_hub.get_attack("sima", timesteps=(50, 100)), split')
    faster_metric = metric.replace("limit=200)", "limit=40, timesteps=(50, 100))")
    assert faster != script and faster_metric != metric
    rng = np.random.default_rng(1)
    names = {
        "my_unet": lambda x, t: torch.tanh(x),
        "alphas_cumprod": ddpm_alphas_cumprod(),
        "images": list(rng.integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)),
        "is_member": [1, 0] * 30,
    }
    exec(faster, names)
    assert 0 < names["answer"].p_value <= 1
    assert names["answer"].sentence in capsys.readouterr().out
    assert names["report"].auc.n == 200
    assert names["table"].scores.shape == (60, 2)
    exec(faster_metric, names)


def test_commands_run(workplace, capsys, monkeypatch):
    monkeypatch.setenv("MIA_HUB_HOME", str(workplace / "home"))
    block = next(block for block in blocks("") if "mia-hub check" in block)
    commands = [shlex.split(line, comments=True) for line in block.splitlines() if line.startswith("mia-hub")]
    assert {command[1] for command in commands} == set(cli.build_parser()._subparsers._group_actions[0].choices) - {"submissions"}
    for command in commands:
        smaller = {
            "audit": ["--limit", "40", "--set", "timesteps=50,100", "--quiet"],
            "compare": ["--limit", "40", "--quiet"],
            "make-split": ["--members", "3", "--nonmembers", "3"],
        }.get(command[1], [])
        assert cli.main(command[1:] + smaller) == 0, command
        assert capsys.readouterr().out
    assert (workplace / "report" / "report.html").exists()


def test_start_and_test_commands_are_there_and_ci_runs_the_tests_so():
    start, tests = blocks("")[:2]
    assert "pip install -r requirements.txt && python app.py" in start
    assert "python -m pytest" in tests
    assert "python -m pytest" in (Path(__file__).parents[2] / ".ci" / "run").read_text()
