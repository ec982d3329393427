"""A worker on its way through the queue, and what stands in its way."""

import contextlib
import time
from datetime import timedelta

import pytest
from support.board_setting import InProcess, published_entry
from support.clock import Clock

from leaderboard.errors import SubmissionError
from leaderboard.requests.queue import Queue, utc_now
from leaderboard.worker.backend import Unavailable
from leaderboard.worker.worker import FIRST_WAIT, Worker


@pytest.fixture
def worker(stores, tmp_path):
    return Worker(*stores, backend=InProcess(device="cpu"), name="w", folder=tmp_path / "work", lease=timedelta(seconds=30))


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def nowhere(monkeypatch, loopback_hub):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    return contextlib.nullcontext()


OUTAGES = {"no network": nowhere} | {f"HTTP {status}": lambda _, hub, status=status: hub.broken(status) for status in (429, 503)}


@pytest.mark.parametrize("outage", OUTAGES)
def test_what_cannot_be_reached_at_the_moment_waits_on(about, loopback_hub, stores, worker, monkeypatch, outage):
    """Each is tried once, so that one that can't be reached holds up no other; and none loses an attempt."""
    queue = Queue(stores[0])
    ids = [queue.submit(about(seed=seed))[0] for seed in range(2)]
    with OUTAGES[outage](monkeypatch, loopback_hub), pytest.raises(Unavailable, match="Not everything could be evaluated now: The "):
        worker.run(once=True)
    for id in ids:
        status = queue.status(id)
        assert (status.state, status.attempts, status.error) == ("PENDING", 0, None)
        assert [past["why"][:10] for past in status.history] == ["claimed by", "given back"]
    assert worker.step() is None and 0 < worker._postponed[ids[0]][1] - time.monotonic() <= FIRST_WAIT


def test_what_the_hub_refuses_for_good_fails(about, loopback_hub, stores, worker):
    id, _, _ = Queue(stores[0]).submit(about())
    with loopback_hub.broken(403):
        assert worker.step() == id
    assert Queue(stores[0]).status(id).state == "FAILED"


def test_a_crash_holds_up_nobody_and_no_error_ends_the_worker(about, stores, worker, clock, monkeypatch, caplog):
    queue, started = Queue(stores[0]), []
    ids = [queue.submit(about(seed=seed), at=utc_now() + timedelta(seconds=seed - 9))[0] for seed in range(3)]

    def evaluate(id, folder):
        started.append(id)
        if id == ids[0]:
            raise KeyError("dataset")
        raise SubmissionError("refused")

    monkeypatch.setattr(worker, "_evaluate", evaluate)
    before_sleep = []
    monkeypatch.setattr("leaderboard.worker.worker.sleep", lambda seconds: before_sleep.append(list(started)) or clock.sleep(seconds))
    worker.run(once=True)
    assert before_sleep[0] == ids, "the others came before it slept"
    assert [queue.status(id).state for id in ids] == ["FAILED"] * 3
    assert "unexpected error (KeyError). That happened 3 times" in queue.status(ids[0]).error
    assert "Traceback" in caplog.text and started.count(ids[0]) == 3


KILLED = {
    "before it evaluates": ("backend", "start"),
    "before it publishes": ("results", "update"),
    "before it marks the request as finished": ("queue", "finish"),
}


@pytest.mark.parametrize("when", KILLED)
def test_another_worker_resumes_where_one_was_killed(about, stores, tmp_path, clock, monkeypatch, when):
    requests, results = stores
    id, _, _ = Queue(requests).submit(about(attacks=["random"]))
    killed = Worker(*stores, backend=InProcess(device="cpu"), name="killed", folder=tmp_path / "work")
    part, method = KILLED[when]
    with monkeypatch.context() as patch:
        patch.setattr(getattr(killed, part), method, lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            killed.step()
    survivor = Worker(*stores, backend=InProcess(device="cpu"), name="survivor", folder=tmp_path / "work")
    assert survivor.step() is None, "its lease has not run out"
    clock.passed += 600
    assert survivor.step() == id
    status = Queue(requests).status(id)
    assert (status.state, status.worker, status.attempts) == ("FINISHED", "survivor", 2)
    published_entry(results, id)
    assert len([path for path in results.files() if path.endswith("entry.json")]) == 1


def test_while_it_is_refused_a_worker_tries_less_and_less_often(stores, clock, monkeypatch):
    worker = Worker(*stores)

    def step():
        if len(clock.slept) == 10:
            raise KeyboardInterrupt
        raise Unavailable("402")

    monkeypatch.setattr(worker, "step", step)
    with pytest.raises(KeyboardInterrupt):
        worker.run(idle=30)
    assert clock.slept[:3] == [30, 60, 120] and clock.slept[-1] == 3600
