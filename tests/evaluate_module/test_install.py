"""Once installed, the metric is found from anywhere; installing is repeatable, and leaves others' metrics alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import evaluate
import numpy as np
import pytest
from PIL import Image

import mia_hub
from mia_hub.errors import MiaHubError
from mia_hub.evaluate_module import PATH, install
from mia_hub.evaluate_module.metric import Sima

CLOSED_PORT = "http://127.0.0.1:1"
SCRIPT = """
import json, sys
from mia_hub.evaluate_module import install
light = not {"torch", "evaluate", "datasets"} & set(sys.modules)
import evaluate
try:
    evaluate.load("sima")
    before = "found"
except FileNotFoundError:
    before = "not found"
path = install.install()
sima = evaluate.load("sima")
loaded = [type(sima).__name__, type(sima).__module__, sima.name]
lazy = not {"mia_hub.attacks", "mia_hub.auditing.audit", "diffusers"} & set(sys.modules)
files = [f"{i}.png" for i in range(12)]
result = sima.compute(predictions=files, references=[0, 1] * 6, model_id=sys.argv[1], device="cpu", timesteps=[10, 20])
print(json.dumps({"light": light, "before": before, "path": str(path), "loaded": loaded, "lazy": lazy, "metric": result}))
"""


@pytest.mark.slow
def test_found_in_a_fresh_process_in_another_folder_without_a_hub(tmp_path, tiny_pixel_repo):
    """One process for all of it: it takes seconds to import evaluate."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    images = np.random.default_rng(5).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    for i, pixels in enumerate(images):
        Image.fromarray(pixels).save(elsewhere / f"{i}.png")
    model, modules = tiny_pixel_repo(), tmp_path / "modules"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_MODULES_CACHE": str(modules), "HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": CLOSED_PORT}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(model)],
        cwd=elsewhere, env=environment | {"HF_UPDATE_DOWNLOAD_COUNTS": "0"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["light"], result["before"], result["lazy"]) == (True, "not found", True)
    assert Path(result["path"]).is_relative_to(modules)
    assert result["loaded"] == ["Sima", "mia_hub.evaluate_module.metric", "sima"]
    assert 0 <= result["metric"]["auc"] <= 1
    attack = mia_hub.get_attack("sima", timesteps=(10, 20))
    expected = attack.score(mia_hub.load_model(model, device="cpu"), images, progress=False).scores
    np.testing.assert_allclose(result["metric"]["scores_per_timestep"], expected, rtol=1e-5)


def test_found_where_the_hub_has_no_such_metric(monkeypatch, loopback_hub):
    monkeypatch.setattr(evaluate.config, "HF_EVALUATE_OFFLINE", False)
    before = len(loopback_hub.log)
    assert isinstance(evaluate.load("sima"), Sima)
    assert len(loopback_hub.log) > before


def test_found_by_path_without_installing():
    assert isinstance(evaluate.load(PATH), Sima)


def scripts_in(cache: Path) -> list[Path]:
    return sorted((cache / "evaluate_modules/metrics/evaluate-metric--sima").glob("*/sima.py"))


def test_installs_where_evaluate_looks(monkeypatch, tmp_path):
    assert install.install().is_relative_to(evaluate.config.HF_MODULES_CACHE)
    for name in ("HF_HOME", "HF_MODULES_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert install.install().is_relative_to(tmp_path / "xdg/huggingface/modules")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    assert install.install().is_relative_to(tmp_path / "home/modules")
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "own"))
    path = install.install()
    assert path.is_relative_to(tmp_path / "own")
    assert str(path) in install.usage_text(path)
    assert "HF_MODULES_CACHE" not in install.usage_text(path)
    assert f"HF_MODULES_CACHE is {tmp_path / 'given'}" in install.usage_text(install.install(tmp_path / "given"))


def test_every_level_is_a_package(tmp_path):
    folder = install.install(tmp_path).parent
    while folder != tmp_path.parent:
        assert (folder / "__init__.py").is_file(), folder
        folder = folder.parent


def test_installing_again_changes_nothing_and_repairs(tmp_path):
    path = install.install(tmp_path)
    assert install.install(tmp_path) == path
    assert scripts_in(tmp_path) == [path]
    path.write_text("half a mod")
    assert install.install(tmp_path) == path
    assert path.read_bytes() == Path(PATH).read_bytes()
    assert sorted(p.name for p in path.parent.parent.iterdir()) == sorted(["__init__.py", path.parent.name])


def test_installing_replaces_an_older_version_and_leaves_others_alone(tmp_path):
    path = install.install(tmp_path)
    old, foreign = (path.parent.parent / (letter * 64) / "sima.py" for letter in "ab")
    for other, content in ((old, "from mia_hub.evaluate_module.old import Sima\n"), (foreign, "import evaluate\n")):
        other.parent.mkdir()
        other.write_text(content)
    assert install.install(tmp_path) == path
    assert scripts_in(tmp_path) == sorted([path, foreign])
    assert path.stat().st_mtime >= foreign.stat().st_mtime  # evaluate takes the newest
    assert install.uninstall(tmp_path)
    assert scripts_in(tmp_path) == [foreign]


def test_uninstall(tmp_path):
    assert not install.uninstall(tmp_path)
    folder = install.install(tmp_path).parent.parent
    assert install.uninstall(tmp_path)
    assert not folder.exists()
    assert not install.uninstall(tmp_path)


def test_installing_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MiaHubError, match=r"can't be installed into .*HF_MODULES_CACHE"):
        install.install(tmp_path / "file")
