"""The commands and scripts in the documents run as they stand; only sizes are made smaller, and the Hub is ours."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.tiny_pipelines import build, save, save_lora

import mia_hub
from mia_hub.cli import parser as cli
from mia_hub.evaluate_module import install
from mia_hub.flags import FLAGS
from mia_hub.models.exact import ddpm_alphas_cumprod

ROOT = Path(__file__).parents[2]
SMALLER = {
    "audit": ["--limit", "40", "--set", "timesteps=50,100", "--quiet"],
    "compare": ["--limit", "20", "--quiet"],
    "copies": ["--images", "6", "--steps", "1", "--quiet"],
    "make-split": ["--members", "3", "--nonmembers", "3"],
    "train-reference": ["--steps", "1", "--quiet"],
}


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)


def commands(document: str) -> list[list[str]]:
    lines = "".join(blocks(document, "")).splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("mia-hub")]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, loopback_hub, tiny_pixel_repo):
    """A folder with what the documents speak of: an image and two folders of images; and models on the Hub."""
    folder, saved = tmp_path_factory.mktemp("workplace"), tmp_path_factory.mktemp("saved")
    repositories = {
        "google/ddpm-cifar10-32": tiny_pixel_repo(channels=3, size=32),
        "stabilityai/stable-diffusion-xl-base-1.0": save("sdxl", saved / "sdxl"),
        "stable-diffusion-v1-5/stable-diffusion-v1-5": save("sd1", saved / "sd1"),
        "someone/their-lora": save_lora("sd1", saved / "lora"),
    }
    for name, repository in repositories.items():
        loopback_hub.add_repo("model", name, repository)
    rng = np.random.default_rng(0)
    for part, count in (("mine", 6), ("not_used", 25), ("others", 25)):
        (folder / part).mkdir()
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / part / f"{i}.png")
    for number in (1, 2):
        shutil.copytree(tiny_pixel_repo(size=28, seed=number), folder / f"other-{number}")
    mia_hub.load_split("demo").members[0].to_pil().save(folder / "image.png")
    for file, count in (("prompts.txt", 3), ("held_out.txt", 20)):
        (folder / file).write_text("\n".join(f"a photo of the {file[0]} house, number {number}" for number in range(count)))
    yield folder
    for name in repositories:
        loopback_hub.delete_repo("model", name)


@pytest.mark.slow
def test_the_scripts_run(workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("HF_UPDATE_DOWNLOAD_COUNTS", "0")
    install.install()
    script, metric = blocks("docs/python.md", "python")
    faster = script.replace('attack="sima", split', 'attack=mia_hub.get_attack("sima", timesteps=(50,)), split')
    faster_metric = metric.replace("limit=200)", "limit=40, timesteps=(50,))")
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


def test_the_training_loop_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (loop,) = blocks("docs/monitoring.md", "python")
    pipeline, rng = build("ddpm"), np.random.default_rng(1)
    images, held_out = rng.integers(0, 256, (2, 100, 16, 16, 3), dtype=np.uint8)
    names = {"images": images, "held_out": held_out, "unet": pipeline.unet, "noise_scheduler": pipeline.scheduler}
    trained = []
    exec(loop, names | {"mia_hub": mia_hub, "steps": 4, "every": 2, "train_step": lambda *parts: trained.append(parts)})
    assert len(trained) == 4 and capsys.readouterr().out.count("[") == 4
    assert len((tmp_path / "run" / "monitor.jsonl").read_text().splitlines()) == 3


@pytest.mark.slow
def test_every_command_is_shown_and_runs(workplace, capsys, monkeypatch):
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("MIA_HUB_HOME", str(workplace / "home"))
    monkeypatch.setattr("mia_hub.cli.app.launch", lambda **options: print(options))
    shown = commands("docs/command_line.md")
    assert {command[1] for command in shown} == set(cli.build_parser()._subparsers._group_actions[0].choices) - {"submissions"}
    for command in shown:
        # Coins fix no numbers; these put some of six images on each side.
        smaller = ["--seed", "1"] if "--coin-flip" in command else SMALLER.get(command[1], [])
        assert cli.main(command[1:] + smaller) == 0, command
        assert capsys.readouterr().out
    assert (workplace / "report" / "report.html").exists()


def test_the_readme_shows_what_these_documents_do():
    assert [command for command in commands("README.md") if command not in commands("docs/command_line.md")] == []
    scripts = "".join(blocks("docs/python.md", "python")).splitlines()
    assert [line for block in blocks("README.md", "python") for line in block.splitlines() if line.partition("  #")[0] not in scripts
            and line not in scripts] == []  # fmt: skip


def test_start_and_test_commands_are_there_and_ci_runs_the_tests_so():
    start, tests = blocks("README.md", "")[:2]
    assert "pip install -r requirements.txt && python app.py" in start
    assert "python -m pytest" in tests
    assert "python -m pytest" in (ROOT / ".ci" / "run").read_text()


def test_every_flag_is_explained():
    assert re.findall(r"^\| `([a-z-]+)` \|", (ROOT / "docs" / "audits.md").read_text(), re.MULTILINE) == list(FLAGS)
