"""The wheel: it holds every file of the packages, and works without the clone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

import pytest
from support.running_app import running_app

from mia_hub.cli.publishing.repositories import Names, space_repository
from mia_hub.ui import TITLE

PACKAGES = ("mia_hub/", "leaderboard/")


@pytest.fixture(scope="module")
def project_files() -> dict[str, Path]:
    """Files of the project, by their path in it."""
    return dict(space_repository(Names("nobody")).files)


@pytest.fixture(scope="module")
def wheel(project_files, tmp_path_factory) -> Path:
    """The wheel, built from a copy that holds nothing but the project's own files."""
    folder = tmp_path_factory.mktemp("wheel")
    for path, source in project_files.items():
        if path.startswith(PACKAGES) or "/" not in path:
            target = folder / "clone" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(folder)!r})"
    done = subprocess.run([sys.executable, "-c", build], cwd=folder / "clone", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_every_file_of_the_packages(wheel, project_files):
    expected = {path for path in project_files if path.startswith(PACKAGES)}
    built = {path for path in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in path}
    assert expected - built == set(), "pyproject.toml, package-data"
    assert built - expected == set()


@pytest.fixture(scope="module")
def elsewhere(wheel, tmp_path_factory):
    """A folder outside of the clone, and an environment in which Python finds the unpacked wheel alone."""
    folder, unpacked = tmp_path_factory.mktemp("elsewhere"), tmp_path_factory.mktemp("unpacked")
    zipfile.ZipFile(wheel).extractall(unpacked)
    environment = {"PYTHONPATH": str(unpacked), "MIA_HUB_HOME": str(folder / "home"), "HF_MODULES_CACHE": str(folder / "modules")}
    return folder, unpacked, environment


def run(elsewhere, *arguments: str) -> str:
    """Output of Python with some arguments, in a folder outside of the clone."""
    folder, _, environment = elsewhere
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_command_line_works_without_the_clone(elsewhere):
    _, unpacked, _ = elsewhere
    assert Path(run(elsewhere, "-c", "import mia_hub; print(mia_hub.__file__)").strip()).is_relative_to(unpacked)
    assert "check-set" in run(elsewhere, "-m", "mia_hub", "--help")
    run(elsewhere, "-c", "import mia_hub; mia_hub.load_split('demo').members[6].to_pil().save('image.png')")
    answer = json.loads(run(elsewhere, "-m", "mia_hub", "check", "image.png", "--quiet", "--json", "-"))
    assert answer["images"][0]["verdict"] == "evidence"
    assert "demo-fashion-mnist" in run(elsewhere, "-m", "mia_hub", "benchmark", "list")
    assert "nobody/mia_hub-demo" in run(elsewhere, "-m", "mia_hub", "publish", "demo-model", "nobody")


@pytest.mark.slow
def test_the_metric_works_without_the_clone(elsewhere):
    run(elsewhere, "-m", "mia_hub", "install-metric")
    script = "import evaluate; print(evaluate.load('sima').compute(model_id='demo', dataset_id='demo', limit=20, timesteps=[50])['auc'])"
    assert 0.5 < float(run(elsewhere, "-c", script).splitlines()[-1]) <= 1


@pytest.mark.slow
def test_shipped_entries_are_verified_without_the_clone(elsewhere):
    assert run(elsewhere, "-m", "leaderboard.verify")


@pytest.mark.slow
def test_the_page_works_without_the_clone(elsewhere):
    folder, _, environment = elsewhere
    with running_app(folder, command=("-m", "mia_hub", "app"), checkout=folder, **environment) as app:
        with urllib.request.urlopen(app.url) as answer:
            assert answer.status == 200 and TITLE in answer.read().decode()
        with urllib.request.urlopen(f"{app.url}gradio_api/info") as answer:
            assert "/submit_model" in json.load(answer)["named_endpoints"]
