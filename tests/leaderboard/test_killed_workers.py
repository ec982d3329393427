"""Workers and evaluations in processes of their own, some of which are killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.board_setting import InProcess, published_entry
from support.clock import Clock

from leaderboard.requests.queue import Queue
from leaderboard.worker.local_backend import LocalBackend
from leaderboard.worker.worker import Worker

ROOT = Path(__file__).parents[2]


def worker_process(stores, tmp_path, *options, **environment):
    command = [sys.executable, "-m", "leaderboard.worker", "--requests", stores[0].folder, "--results", stores[1].folder]
    command += ["--work", tmp_path / "work", "--device", "cpu", *options]
    return subprocess.Popen([str(part) for part in command], cwd=ROOT, env=os.environ | environment, start_new_session=True)


def wait_for_claim(queue: Queue, id: str) -> None:
    end = time.monotonic() + 120
    while queue.status(id).state == "PENDING":
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("after", [0, pytest.param(6, marks=pytest.mark.slow), pytest.param(9, marks=pytest.mark.slow)])
def test_a_killed_worker_loses_nothing(about, stores, tmp_path, monkeypatch, after):
    """Killed so many seconds after it has claimed the request."""
    requests, results = stores
    id, _, _ = Queue(requests).submit(about(seed=after))
    process = worker_process(stores, tmp_path, "--once")
    wait_for_claim(Queue(requests), id)
    time.sleep(after)
    # The worker and the evaluation that it started.
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    status = Queue(requests).status(id)
    Clock(monkeypatch).passed += 600
    survivor = Worker(*stores, backend=InProcess(device="cpu"), name="survivor", folder=tmp_path / "work")
    assert (survivor.step() == id) == (status.state != "FINISHED")
    assert Queue(requests).status(id).state == "FINISHED"
    published_entry(results, id)
    assert len([path for path in results.files() if path.endswith("entry.json")]) == 1


@pytest.mark.slow
def test_several_workers_share_a_queue(about, stores, tmp_path):
    requests, results = stores
    ids = [Queue(requests).submit(about(attacks=["random"], seed=seed))[0] for seed in range(4)]
    processes = [worker_process(stores, tmp_path, "--once", "--name", f"w{i}") for i in range(2)]
    assert [process.wait(240) for process in processes] == [0, 0]
    statuses = [Queue(requests).status(id) for id in ids]
    assert {status.state for status in statuses} == {"FINISHED"} and {status.attempts for status in statuses} == {1}
    assert all(published_entry(results, id)["id"] == id for id in ids)


def test_an_evaluation_that_dies_is_tried_again_and_then_given_up(about, stores, tmp_path, monkeypatch):
    requests, results = stores
    id, _, _ = Queue(requests).submit(about())
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nif 'leaderboard.worker.evaluate' in sys.orig_argv: os.kill(os.getpid(), 9)\n"
    )
    # The evaluation inherits it; this process has started already.
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    Clock(monkeypatch)
    Worker(*stores, backend=LocalBackend(device="cpu"), name="w", folder=tmp_path / "work").run(once=True)
    status = Queue(requests).status(id)
    assert status.state == "FAILED" and "killed: out of memory, perhaps" in status.error and "3 times" in status.error
    assert results.files() == []
