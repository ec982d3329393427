"""A request's way through the queue, with real models and splits on a Hub of our own; and what happens when somebody dies on the way."""

import contextlib
import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from support.board_setting import N, add_model_and_split

import mia_hub
from leaderboard.errors import SubmissionError
from leaderboard.requests.limits import Limits
from leaderboard.requests.queue import Queue, utc_now
from leaderboard.requests.request import Request
from leaderboard.results.entry import parse_entry
from leaderboard.results.index import read_index
from leaderboard.results.ranking import attack_ranking, model_ranking
from leaderboard.results.recomputation import discrepancies
from leaderboard.stores.opening import open_store
from leaderboard.worker import evaluate
from leaderboard.worker.backend import Unavailable
from leaderboard.worker.local_backend import LocalBackend
from leaderboard.worker.run_job import job_outcome
from leaderboard.worker.worker import FIRST_WAIT, Worker
from mia_hub.splits.loading import load_split

time_sleep = time.sleep
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def hub(loopback_hub, tiny_pixel_repo, tmp_path_factory):
    """A model and a split on the Hub, and the commits that they are at."""
    return add_model_and_split(loopback_hub, "board", tiny_pixel_repo(), tmp_path_factory.mktemp("split"))


@pytest.fixture
def stores(tmp_path):
    return open_store(tmp_path / "requests"), open_store(tmp_path / "results")


@pytest.fixture
def worker(stores, tmp_path):
    return Worker(*stores, backend=LocalBackend(device="cpu"), name="w", folder=tmp_path / "work", lease=timedelta(seconds=30))


def about(hub, **changes) -> Request:
    return Request.from_dict(
        {"kind": "model", "model": "board/tiny", "split": "board/split", "attacks": ["random", "sima:timesteps=50,100"], **hub} | changes
    )


def entry_in(results, id) -> dict:
    return parse_entry(results.read(f"results/{id}/entry.json"), id)


def test_a_model_is_evaluated_and_its_figures_follow_from_its_scores(hub, stores, worker):
    requests, results = stores
    id, _, _ = Queue(requests).submit(about(hub, submitter="alice", note="<b>=1+1</b>"))
    assert worker.step() == id and worker.step() is None
    status = Queue(requests).status(id)
    assert status.state == "FINISHED" and status.finished and status.error is None
    entry = entry_in(results, id)
    assert discrepancies(entry, lambda path: results.read(f"results/{id}/{path}")) == []
    assert entry["origin"] == "computed" and entry["model"]["revision"] == hub["revision"] and entry["split"]["n_members"] == N
    direct = mia_hub.compare("board/tiny", "board/split", ["random", mia_hub.get_attack("sima", timesteps=(50, 100))], device="cpu")
    assert [row["auc"]["value"] for row in entry["rows"]] == [row.report.auc.value for row in direct.rows]
    assert [row["attack"] for row in entry["rows"]] == ["random", "sima:timesteps=50,100"]
    assert {row["attack"] for row in attack_ranking([entry])} == {"random", "sima:timesteps=50,100"}
    assert model_ranking([entry])[0]["model"] == "board/tiny"
    assert not (worker.folder / id).exists()
    assert read_index(results) == {id: results.read(f"results/{id}/entry.json")}
    # The same again is the same.
    assert not Queue(requests).submit(about(hub, submitter="bob"))[2]


def own_scores(hub, path, change=lambda table: table) -> tuple[Request, bytes]:
    split = load_split("board/split", revision=hub["split_revision"])
    model = mia_hub.load_model("board/tiny", device="cpu")
    table = mia_hub.get_attack("sima", timesteps=(50,)).score(model, split.images, is_member=split.is_member)
    change(table).to_parquet(path)
    content = path.read_bytes()
    return about(hub, kind="scores", attacks=["our new attack"], scores=hashlib.sha256(content).hexdigest()), content


def test_scores_are_measured_by_us_and_marked_as_reported(hub, stores, worker, tmp_path):
    requests, results = stores
    id, _, _ = Queue(requests).submit(*own_scores(hub, tmp_path / "own.parquet"))
    assert worker.step() == id
    entry = entry_in(results, id)
    assert entry["origin"] == "self-reported" and [row["attack"] for row in entry["rows"]] == ["our new attack"]
    assert discrepancies(entry, lambda path: results.read(f"results/{id}/{path}")) == []
    assert attack_ranking([entry]) == []


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"model": "board/gone"}, "no public model 'board/gone'"),
        ({"revision": "0" * 40}, "has no revision"),
        ({"split_revision": "0" * 40}, "has no revision"),
        ({"split": "board/gone"}, "no public data set 'board/gone'"),
        ({"attacks": ["clid"]}, "isn't conditioned on text"),
    ],
)
def test_what_cannot_be_evaluated_says_why_and_the_worker_lives_on(hub, stores, worker, changes, says):
    requests, results = stores
    id, _, _ = Queue(requests).submit(about(hub, **changes))
    assert worker.step() == id
    status = Queue(requests).status(id)
    assert status.state == "FAILED" and says in status.error and results.files() == []
    assert worker.step() is None


def test_a_request_with_other_scores_than_it_names_is_refused(hub, stores, worker, tmp_path):
    requests, results = stores
    request, content = own_scores(hub, tmp_path / "own.parquet", lambda table: table.select(np.arange(len(table) - 1)))
    id, _, _ = Queue(requests).submit(request, content)
    worker.step()
    assert "all of the split's and no others are needed" in Queue(requests).status(id).error
    path = f"requests/{id}/request.json"
    changed = requests.read_json(path) | {"note": "", "seed": 3}
    other, _, _ = Queue(requests).submit(about(hub, seed=9))
    requests.commit({path.replace(id, other): json.dumps(changed).encode()}, "forged", parent=requests.version())
    worker.step()
    assert "is not what was submitted" in Queue(requests).status(other).error and results.files() == []


def test_limits_of_size_are_kept(hub, stores, worker):
    requests, _ = stores
    for limits, says in (
        ({"images": 10}, "60 images; at most 10"),
        ({"split_gib": 1e-6}, "GiB of Parquet files"),
        ({"model_gib": 1e-6}, "GiB are fetched"),
    ):
        requests.commit({"limits.json": json.dumps(limits).encode()}, "limits", parent=requests.version())
        id, _, _ = Queue(requests).submit(about(hub, seed=len(says)))
        worker.step()
        assert says in Queue(requests).status(id).error


@pytest.mark.parametrize(
    "files, says",
    [
        ({"member.csv": "image\n/etc/passwd\n", "nonmember.csv": "image\n/etc/passwd\n"}, "made of 'member.csv'; only its Parquet files"),
        ({}, "isn't one of its own at the commit"),
    ],
)
def test_a_data_set_whose_card_names_anything_else_is_refused(hub, loopback_hub, stores, worker, files, says):
    """It has Parquet files, too, so that its list of files looks well."""
    requests, results = stores
    name = f"board/{'other-files' if files else 'elsewhere'}"
    parts = ("member", "nonmember")
    paths = {part: f"{part}.csv" if files else f"hf://datasets/{name}@main/{part}.parquet" for part in parts}
    data_files = "".join(f"  - split: {part}\n    path: {path}\n" for part, path in paths.items())
    card = f"---\nconfigs:\n- config_name: default\n  data_files:\n{data_files}---\n"
    commit = loopback_hub.add_repo("dataset", name, files | {"README.md": card} | {f"{part}.parquet": b"x" for part in parts})
    id, _, _ = Queue(requests).submit(about(hub, split=name, split_revision=commit))
    assert worker.step() == id
    status = Queue(requests).status(id)
    assert status.state == "FAILED" and says in status.error and results.files() == []
    assert not (worker.folder / id).exists()


def nowhere(monkeypatch, loopback_hub):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    return contextlib.nullcontext()


OUTAGES = {"no network": nowhere} | {f"HTTP {status}": lambda _, hub, status=status: hub.broken(status) for status in (429, 503)}


@pytest.mark.parametrize("outage", OUTAGES)
def test_what_cannot_be_reached_at_the_moment_waits_on(hub, loopback_hub, stores, worker, monkeypatch, outage):
    """Each is tried once, so that one that can't be reached holds up no other; and none loses an attempt."""
    queue = Queue(stores[0])
    ids = [queue.submit(about(hub, seed=seed))[0] for seed in range(2)]
    with OUTAGES[outage](monkeypatch, loopback_hub), pytest.raises(Unavailable, match="Not everything could be evaluated now: The "):
        worker.run(once=True)
    for id in ids:
        status = queue.status(id)
        assert (status.state, status.attempts, status.error) == ("PENDING", 0, None)
        assert [past["why"][:10] for past in status.history] == ["claimed by", "given back"]
    assert worker.step() is None and 0 < worker._postponed[ids[0]][1] - time.monotonic() <= FIRST_WAIT


def test_what_the_hub_refuses_for_good_fails(hub, loopback_hub, stores, worker):
    id, _, _ = Queue(stores[0]).submit(about(hub))
    with loopback_hub.broken(403):
        assert worker.step() == id
    assert Queue(stores[0]).status(id).state == "FAILED"


def test_an_evaluation_tells_what_will_pass_from_what_will_last(hub, loopback_hub, tmp_path):
    (tmp_path / "limits.json").write_text(json.dumps(dataclasses.asdict(Limits()) | {"banned": []}))
    (tmp_path / "request.json").write_text(json.dumps(about(hub).to_dict()))
    with loopback_hub.broken(503):
        assert evaluate.main([str(tmp_path)]) == evaluate.LATER
    assert (tmp_path / "error.txt").read_text()
    with loopback_hub.broken(403):
        assert evaluate.main([str(tmp_path)]) == evaluate.REFUSED
    with loopback_hub.broken(503):
        queue = Queue(open_store(tmp_path / "requests"))
        id, _, _ = queue.submit(about(hub))
        assert list(job_outcome(queue, id)) == ["later.txt"], "and so does a job"


def test_a_crash_holds_up_nobody_and_no_error_ends_the_worker(hub, stores, worker, monkeypatch, caplog):
    queue, started, slept = Queue(stores[0]), [], []
    ids = [queue.submit(about(hub, seed=seed), at=utc_now() + timedelta(seconds=seed - 9))[0] for seed in range(3)]

    def evaluate(id, work):
        started.append(id)
        if id == ids[0]:
            raise KeyError("dataset")
        raise SubmissionError("refused")

    monkeypatch.setattr(worker, "_evaluate", evaluate)
    monkeypatch.setattr(
        "leaderboard.worker.worker.time.sleep", lambda seconds: slept.append((list(started), seconds)) or time_sleep(seconds)
    )
    worker.lease = timedelta(seconds=2)
    worker.run(once=True)
    assert slept[0][0] == ids, "the others came before it slept"
    assert [queue.status(id).state for id in ids] == ["FAILED"] * 3
    assert "unexpected error (KeyError). That happened 3 times" in queue.status(ids[0]).error
    assert "Traceback" in caplog.text and started.count(ids[0]) == 3


def running(stores, tmp_path, *options, **environment):
    command = [sys.executable, "-m", "leaderboard.worker", "--requests", stores[0].folder, "--results", stores[1].folder]
    command += ["--work", tmp_path / "work", "--device", "cpu", *options]
    return subprocess.Popen([str(part) for part in command], cwd=ROOT, env=os.environ | environment, start_new_session=True)


@pytest.mark.parametrize("after", [0.5, pytest.param(6, marks=pytest.mark.slow), pytest.param(9, marks=pytest.mark.slow)])
def test_a_killed_worker_loses_nothing(hub, stores, tmp_path, after):
    requests, results = stores
    id, _, _ = Queue(requests).submit(about(hub, seed=int(after * 2)))
    process = running(stores, tmp_path, "--once", "--lease", "2")
    time.sleep(after)
    # The worker and the evaluation that it started.
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(2.5)
    status = Queue(requests).status(id)
    survivor = Worker(*stores, backend=LocalBackend(device="cpu"), name="survivor", folder=tmp_path / "work")
    assert (survivor.step() == id) == (status.state != "FINISHED")
    assert Queue(requests).status(id).state == "FINISHED"
    entry = entry_in(results, id)
    assert discrepancies(entry, lambda path: results.read(f"results/{id}/{path}")) == []
    assert len([path for path in results.files() if path.endswith("entry.json")]) == 1


@pytest.mark.slow
def test_several_workers_share_a_queue(hub, stores, tmp_path):
    requests, results = stores
    ids = [Queue(requests).submit(about(hub, attacks=["random"], seed=seed))[0] for seed in range(4)]
    processes = [running(stores, tmp_path, "--once", "--name", f"w{i}") for i in range(2)]
    assert [process.wait(240) for process in processes] == [0, 0]
    statuses = [Queue(requests).status(id) for id in ids]
    assert {status.state for status in statuses} == {"FINISHED"} and {status.attempts for status in statuses} == {1}
    assert all(entry_in(results, id)["id"] == id for id in ids)


def test_an_evaluation_that_dies_is_tried_again_and_then_given_up(hub, stores, tmp_path, monkeypatch):
    requests, results = stores
    id, _, _ = Queue(requests).submit(about(hub))
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nif 'leaderboard.worker.evaluate' in sys.orig_argv: os.kill(os.getpid(), 9)\n"
    )
    environment = {"PYTHONPATH": str(tmp_path)}
    process = running(stores, tmp_path, "--once", "--lease", "0.5", **environment)
    assert process.wait(120) == 0
    status = Queue(requests).status(id)
    assert status.state == "FAILED" and "killed: out of memory, perhaps" in status.error and "3 times" in status.error
    assert results.files() == []
