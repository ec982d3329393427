"""Publishing over real HTTP: the same content is pushed once, and works for somebody who knows only its names."""

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from support.running_app import running_app

import mia_hub
from mia_hub.cli.parser import main
from mia_hub.ui import TITLE

ROOT = Path(__file__).parents[2]
OWNER, LIMIT = "pia", 24
REPOSITORIES = {"dataset": [f"{OWNER}/mia_hub-demo"], "model": [f"{OWNER}/mia_hub-demo"], "space": [f"{OWNER}/mia_hub", f"{OWNER}/sima"]}


def heads(kinds=REPOSITORIES) -> dict[str, str]:
    from huggingface_hub import HfApi

    return {f"{kind} {id}": HfApi().repo_info(id, repo_type=kind).sha for kind, ids in kinds.items() for id in ids}


@pytest.fixture(scope="module")
def published(loopback_hub):
    """All four repositories on the Hub; the output of the command that pushed them."""
    done = subprocess.run(
        [sys.executable, "-m", "mia_hub", "publish", "all", OWNER, "--yes"],
        env=os.environ | {"HF_TOKEN": f"hf_{OWNER}", "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_dry_run_lists_everything_and_sends_no_request(loopback_hub, capsys):
    before = len(loopback_hub.log)
    assert main(["publish", "all", "nobody"]) == 0
    output = capsys.readouterr().out
    assert len(loopback_hub.log) == before
    assert output.rstrip().endswith("mia-hub publish all nobody --yes")
    for listed in ("unet/diffusion_pytorch_model.safetensors", "data/member-00000-of-00001.parquet", "  app.py", "  sima.py", "4.3 MiB"):
        assert listed in output, listed
    assert "nobody/mia_hub-demo" in output and "__pycache__" not in output


def test_published_twice_is_committed_once(published, capsys, monkeypatch):
    assert re.findall(r"pushed: commit [0-9a-f]{40}", published) and published.count("pushed: commit") == 4
    monkeypatch.setenv("HF_TOKEN", f"hf_{OWNER}")
    before = heads()
    assert main(["publish", "all", OWNER, "--yes"]) == 0
    output = capsys.readouterr().out
    assert output.count("already up to date: commit") == 4 and "pushed: commit" not in output
    assert heads() == before and all(commit in output for commit in before.values())


def test_a_space_gets_its_stores_and_hardware_once(published, loopback_hub, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", f"hf_{OWNER}")
    for changes in (("variable MIA_HUB_REQUESTS = hub:pia/mia_hub-requests", "hardware zero-a10g requested"), ()):
        assert main(["publish", "space", OWNER, "--stores", "--hardware", "zero-a10g", "--yes"]) == 0
        lines = capsys.readouterr().out
        assert all(line in lines for line in changes)
        assert changes or ("variable MIA_HUB" not in lines and "requested" not in lines)
    space = loopback_hub._repos["space", f"{OWNER}/mia_hub"]
    assert space.variables == {"MIA_HUB_REQUESTS": "hub:pia/mia_hub-requests", "MIA_HUB_RESULTS": "hub:pia/mia_hub-results"}
    assert set(heads({"dataset": [f"{OWNER}/mia_hub-requests", f"{OWNER}/mia_hub-results"]}))


def measured(name: str, metric: str, limit: int) -> dict:
    """Results of the published metric, and of an audit, on the published model and split."""
    import evaluate

    few = {"timesteps": [50, 100]}
    results = evaluate.load(metric).compute(model_id=name, dataset_id=name, limit=limit, device="cpu", progress=False, **few)
    split = mia_hub.load_split(name, limit=limit)
    report = mia_hub.audit(mia_hub.load_model(name, device="cpu"), mia_hub.get_attack("sima", **few), split, progress=False)
    return {"metric": results, "audit": report.to_dict()}


def in_this_process(tmp_path, *arguments) -> dict:
    return json.loads(json.dumps(measured(*arguments)))


def in_a_fresh_process(tmp_path, *arguments) -> dict:
    """The same with an empty cache, and without a token."""
    script = f"import json, mia_hub\n{inspect.getsource(measured)}\nprint(json.dumps(measured(*{arguments!r})))"
    environment = os.environ | {"HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT), "HF_UPDATE_DOWNLOAD_COUNTS": "0"}
    environment.pop("HF_TOKEN", None)
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("measure", [in_this_process, pytest.param(in_a_fresh_process, marks=pytest.mark.slow)])
def test_a_stranger_measures_the_published_model_on_the_published_split(measure, published, tmp_path, monkeypatch):
    """Whoever knows three names gets the results that the embedded demo gives here."""
    monkeypatch.setenv("HF_UPDATE_DOWNLOAD_COUNTS", "0")
    results = measure(tmp_path, f"{OWNER}/mia_hub-demo", f"{OWNER}/sima", LIMIT)
    attack, split = mia_hub.get_attack("sima", timesteps=(50, 100)), mia_hub.load_split("demo", limit=LIMIT)
    local = mia_hub.audit(mia_hub.load_model("demo", device="cpu"), attack, split, progress=False)
    expected = local.to_dict()
    for figure in ("auc", "asr", "tpr_at_fpr", "blind_auc", "per_timestep", "selection"):
        assert results["audit"][figure] == expected[figure], figure
    assert results["metric"]["auc"] == local.auc.value and results["metric"]["asr"] == local.asr.value
    assert results["audit"]["split"]["hash"] == expected["split"]["hash"]
    commits = heads()
    assert results["audit"]["model"]["revision"] == commits[f"model {OWNER}/mia_hub-demo"]
    assert results["audit"]["split"]["revision"] == commits[f"dataset {OWNER}/mia_hub-demo"]


def test_without_the_package_the_metric_says_what_to_install(published, monkeypatch):
    import evaluate

    # Otherwise evaluate falls back to what another test has loaded.
    shutil.rmtree(Path(os.environ["HF_HOME"], "modules", "evaluate_modules", "metrics", f"{OWNER}--sima"), ignore_errors=True)
    monkeypatch.setenv("HF_UPDATE_DOWNLOAD_COUNTS", "0")
    monkeypatch.setitem(sys.modules, "mia_hub", None)
    with pytest.raises(ImportError, match=re.escape(f"pip install git+{os.environ['HF_ENDPOINT']}/spaces/{OWNER}/mia_hub")):
        evaluate.load(f"{OWNER}/sima")


@pytest.mark.slow
def test_the_published_space_starts(published, tmp_path):
    from huggingface_hub import snapshot_download

    folder = Path(snapshot_download(f"{OWNER}/mia_hub", repo_type="space", local_dir=tmp_path / "space"))
    environment = os.environ | {"PYTHONPATH": str(folder)}
    where = subprocess.check_output(
        [sys.executable, "-c", "import mia_hub; print(mia_hub.__file__)"], env=environment, cwd=folder, text=True
    )
    assert Path(where.strip()).is_relative_to(folder)
    with running_app(tmp_path, checkout=folder, PYTHONPATH=str(folder)) as app, urllib.request.urlopen(app.url) as answer:
        assert answer.status == 200 and TITLE in answer.read().decode()


@pytest.mark.parametrize(
    "arguments, token, says",
    [
        (["metric", "alice", "--yes"], None, ("nobody is logged in", "hf auth login", "HF_TOKEN")),
        (["metric", "alice", "--yes"], "nonsense", ("The token is invalid or has expired", "hf auth login")),
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
    output = capsys.readouterr().err
    assert all(part in output for part in says) and "Traceback" not in output, output


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


@pytest.mark.parametrize("spelling", ["recased", "renamed"])
def test_what_has_another_name_now_is_updated_there(spelling, loopback_hub, monkeypatch):
    from mia_hub.cli.publishing.push import push
    from mia_hub.cli.publishing.repositories import PublishedRepository

    monkeypatch.setenv("HF_TOKEN", "hf_pia-two")
    given, present = f"pia-two/{spelling}", f"pia-two/Present-{spelling}"
    first = push(PublishedRepository("model", given, {"README.md": b"first"}, "a model"))
    loopback_hub.rename_repo("model", given, present)
    spelled = given if spelling == "renamed" else present.upper()
    second = push(PublishedRepository("model", spelled, {"README.md": b"second"}, "a model"))
    assert second.new and second.url.endswith(f"/{present}") and second.commit != first.commit
    assert ("model", given) not in loopback_hub._repos and loopback_hub._repos["model", present].refs["main"] == second.commit
