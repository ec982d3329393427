"""Publishing, over real HTTP: what is pushed, that it is pushed once, and that it works for somebody who has only its names."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

import mia_hub
from mia_hub.cli.parser import main
from mia_hub.cli.publishing.repositories import Names, PublishError, space_repository
from mia_hub.ui import TITLE

ROOT = Path(__file__).parents[2]
OWNER, LIMIT = "pia", 24
REPOSITORIES = {"dataset": [f"{OWNER}/mia_hub-demo"], "model": [f"{OWNER}/mia_hub-demo"], "space": [f"{OWNER}/mia_hub", f"{OWNER}/sima"]}


def heads(kinds=REPOSITORIES) -> dict[str, str]:
    from huggingface_hub import HfApi

    return {f"{kind} {id}": HfApi().repo_info(id, repo_type=kind).sha for kind, ids in kinds.items() for id in ids}


@pytest.fixture(scope="module")
def published(loopback_hub):
    """All four parts on the Hub; what was said while they were pushed."""
    done = subprocess.run(
        [sys.executable, "-m", "mia_hub", "publish", "all", OWNER, "--yes"],
        env=os.environ | {"HF_TOKEN": f"hf_{OWNER}", "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_dry_run_lists_everything_and_asks_nothing(loopback_hub, capsys):
    before = len(loopback_hub.log)
    assert main(["publish", "all", "nobody"]) == 0
    said = capsys.readouterr().out
    assert len(loopback_hub.log) == before
    assert said.rstrip().endswith("mia-hub publish all nobody --yes")
    for listed in ("unet/diffusion_pytorch_model.safetensors", "data/member-00000-of-00001.parquet", "  app.py", "  sima.py", "4.3 MiB"):
        assert listed in said, listed
    assert "nobody/mia_hub-demo" in said and "__pycache__" not in said


def test_published_twice_is_committed_once(published, capsys, monkeypatch):
    assert re.findall(r"pushed: commit [0-9a-f]{40}", published) and published.count("pushed: commit") == 4
    monkeypatch.setenv("HF_TOKEN", f"hf_{OWNER}")
    before = heads()
    assert main(["publish", "all", OWNER, "--yes"]) == 0
    said = capsys.readouterr().out
    assert said.count("already up to date: commit") == 4 and "pushed: commit" not in said
    assert heads() == before and all(commit in said for commit in before.values())


def test_a_space_gets_its_stores_and_hardware_once(published, loopback_hub, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", f"hf_{OWNER}")
    for said in (("variable MIA_HUB_REQUESTS = hub:pia/mia_hub-requests", "hardware zero-a10g asked for"), ()):
        assert main(["publish", "space", OWNER, "--stores", "--hardware", "zero-a10g", "--yes"]) == 0
        lines = capsys.readouterr().out
        assert all(part in lines for part in said) and (said or ("variable MIA_HUB" not in lines and "asked for" not in lines))
    space = loopback_hub._repos["space", f"{OWNER}/mia_hub"]
    assert space.variables == {"MIA_HUB_REQUESTS": "hub:pia/mia_hub-requests", "MIA_HUB_RESULTS": "hub:pia/mia_hub-results"}
    assert set(heads({"dataset": [f"{OWNER}/mia_hub-requests", f"{OWNER}/mia_hub-results"]}))


SCRIPT = """
import json, sys
import evaluate
import mia_hub
model = split = sys.argv[1]
limit = int(sys.argv[2])
few = {"timesteps": [50, 100]}
metric = evaluate.load(sys.argv[3]).compute(model_id=model, dataset_id=split, limit=limit, device="cpu", progress=False, **few)
attack = mia_hub.get_attack("sima", **few)
report = mia_hub.audit(mia_hub.load_model(model, device="cpu"), attack, mia_hub.load_split(split, limit=limit), progress=False)
print(json.dumps({"metric": metric, "audit": report.to_dict()}))
"""


def test_a_stranger_measures_the_published_model_on_the_published_split(published, tmp_path):
    """A fresh process with an empty cache, that knows three names, finds what the embedded demo gives here."""
    environment = os.environ | {"HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT), "HF_UPDATE_DOWNLOAD_COUNTS": "0"}
    environment.pop("HF_TOKEN", None)
    command = [sys.executable, "-c", SCRIPT, f"{OWNER}/mia_hub-demo", str(LIMIT), f"{OWNER}/sima"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    attack, split = mia_hub.get_attack("sima", timesteps=(50, 100)), mia_hub.load_split("demo", limit=LIMIT)
    local = mia_hub.audit(mia_hub.load_model("demo", device="cpu"), attack, split, progress=False)
    expected = local.to_dict()
    for figure in ("auc", "asr", "tpr_at_fpr", "blind_auc", "per_timestep", "selection"):
        assert found["audit"][figure] == expected[figure], figure
    assert found["metric"]["auc"] == local.auc.value and found["metric"]["asr"] == local.asr.value
    assert found["audit"]["split"]["hash"] == expected["split"]["hash"]
    commits = heads()
    assert found["audit"]["model"]["revision"] == commits[f"model {OWNER}/mia_hub-demo"]
    assert found["audit"]["split"]["revision"] == commits[f"dataset {OWNER}/mia_hub-demo"]


def test_without_the_package_the_metric_says_what_to_install(published, tmp_path):
    (tmp_path / "mia_hub.py").write_text("raise ImportError('not here')\n")
    environment = os.environ | {"HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(tmp_path), "HF_UPDATE_DOWNLOAD_COUNTS": "0"}
    command = [sys.executable, "-c", f"import evaluate; evaluate.load('{OWNER}/sima')"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode and f"pip install git+{os.environ['HF_ENDPOINT']}/spaces/{OWNER}/mia_hub" in done.stderr


def test_the_published_space_starts(published, tmp_path):
    from huggingface_hub import snapshot_download

    folder = snapshot_download(f"{OWNER}/mia_hub", repo_type="space", local_dir=tmp_path / "space")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": folder, "GRADIO_SERVER_PORT": str(port)}
    where = subprocess.check_output(
        [sys.executable, "-c", "import mia_hub; print(mia_hub.__file__)"], env=environment, cwd=folder, text=True
    )
    assert Path(where.strip()).is_relative_to(folder)
    with open(tmp_path / "log.txt", "wb") as log, subprocess.Popen(
        [sys.executable, "app.py"], cwd=folder, env=environment, stdout=log, stderr=log
    ) as process:  # fmt: skip
        try:
            page = _fetched(f"http://127.0.0.1:{port}/", process)
        finally:
            process.terminate()
    assert page is not None, (tmp_path / "log.txt").read_text()
    assert TITLE in page


def _fetched(url: str, process: subprocess.Popen, seconds: float = 90) -> str | None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                assert answer.status == 200
                return answer.read().decode()
        except OSError:
            time.sleep(0.3)
    return None


@pytest.mark.parametrize(
    "arguments, token, says",
    [
        (["metric", "alice", "--yes"], None, ("nobody is logged in", "hf auth login", "HF_TOKEN")),
        (["metric", "alice", "--yes"], "nonsense", ("The token is unknown or outdated", "hf auth login")),
        (["metric", "alice", "--yes"], "hf_mallory", ("may not write to alice/sima", "403", "give another owner")),
        (["demo-split", "al/ice"], "hf_alice", ("'al/ice' is no owner", "such as 'alice'")),
        (["demo-split", "alice", "--name", "my split"], "hf_alice", ("'my split' is no name", "'mia_hub' for a name")),
        (["demo-split", "alice", "--name", "a--b"], "hf_alice", ("'a--b' is no name",)),
        (["all", "alice", "--name", "mine"], "hf_alice", ("'all' makes four", "one by one")),
        (["metric", "alice", "--stores"], "hf_alice", ("are for the Space", "'metric'")),
    ],
)
def test_what_is_refused_says_why(loopback_hub, capsys, monkeypatch, arguments, token, says):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    assert main(["publish", *arguments]) == 2
    said = capsys.readouterr().err
    assert all(part in said for part in says) and "Traceback" not in said, said


def test_a_hub_that_fails_is_said_in_a_sentence(loopback_hub, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_alice")
    with loopback_hub.broken(500):
        assert main(["publish", "metric", "alice", "--yes"]) == 2
    assert "The Space alice/sima could not be written: the Hub answered 500" in capsys.readouterr().err


def test_nobody_else_is_told_that_it_is_up_to_date(published, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_mallory")
    assert main(["publish", "metric", OWNER, "--yes"]) == 2
    assert "may not write to pia/sima" in capsys.readouterr().err


def test_private_is_not_claimed_of_what_is_public(published, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", f"hf_{OWNER}")
    assert main(["publish", "metric", OWNER, "--private", "--yes"]) == 2
    assert "exists and is public" in capsys.readouterr().err


@pytest.fixture
def checkout(tmp_path):
    """A small checkout under git, with files that git ignores, doesn't track, or that were changed or removed since."""
    (tmp_path / "pyproject.toml").write_text('[tool.setuptools.packages.find]\ninclude = ["tool*"]\n')
    for path in ("app.py", "README.md", "requirements.txt", "tool/__init__.py", "tool/data/weights.bin", "gone.py", "notes/__init__.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    (tmp_path / ".gitignore").write_text("/runs/\n")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    for path in ("runs/secret.txt", "untracked.txt", "tool/__pycache__/a.pyc", "tool/.env"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("secret")
    (tmp_path / "gone.py").unlink()
    (tmp_path / "app.py").write_text("changed")
    return tmp_path


def test_only_tracked_files_are_published(checkout):
    part = space_repository(Names("alice"), checkout)
    tracked = {"app.py", "README.md", "requirements.txt", "pyproject.toml", ".gitignore", "tool/__init__.py", "tool/data/weights.bin"}
    assert set(part.files) == tracked | {"notes/__init__.py"}
    assert "1 of these files have changes that are not committed (app.py)" in part.remarks[0]


def test_without_git_the_projects_packages_are_published(checkout):
    (checkout / ".git").rename(checkout / "elsewhere")
    part = space_repository(Names("alice"), checkout)
    known = {"app.py", "README.md", "requirements.txt", "pyproject.toml", "tool/__init__.py", "tool/data/weights.bin"}
    assert set(part.files) == known and "git can't say" in part.remarks[0]


def test_an_installed_package_is_no_checkout(tmp_path):
    with pytest.raises(PublishError, match="clone the repository"):
        space_repository(Names("alice"), tmp_path)
