"""Evaluations as jobs on the Hub: what is sent, that it is sent once, and what becomes of jobs that fail. One of them really runs, here."""

from datetime import timedelta

import pytest
from support.board_setting import published_entry
from support.clock import Clock
from support.loopback_jobs import Finished, prints, run_here
from support.made_requests import put

from leaderboard.errors import StoreError
from leaderboard.requests.queue import MOST_ATTEMPTS, Queue
from leaderboard.stores.opening import open_store
from leaderboard.worker import run_job
from leaderboard.worker.backend import Unavailable
from leaderboard.worker.command import main
from leaderboard.worker.hub_jobs import HubJobs, JobOptions
from leaderboard.worker.worker import Worker

PAYER, TOKEN = "payer", "hf_payer"
PACKAGE = "git+https://huggingface.co/spaces/payer/mia_hub"


@pytest.fixture
def stores(loopback_hub, monkeypatch):
    """Two data sets of the payer, and no jobs yet."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.delenv("SPACE_ID", raising=False)
    loopback_hub.jobs.clear()
    names = [f"{PAYER}/{what}-{len(loopback_hub.log)}" for what in ("requests", "results")]
    yield [open_store(f"hub:{name}") for name in names]
    loopback_hub.jobs.clear()
    for name in names:
        loopback_hub.delete_repo("dataset", name)


@pytest.fixture
def submitted(about, stores) -> str:
    return Queue(stores[0]).submit(about())[0]


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture
def worker_of(stores, tmp_path):
    """``worker_of(name, lease, **options of its jobs) -> Worker``"""

    def make(name="w", lease=0.6, **options) -> Worker:
        jobs = HubJobs(*stores, JobOptions(**{"package": PACKAGE, "poll": 0.05, "device": "cpu"} | options))
        return Worker(*stores, name=name, folder=tmp_path / name, lease=timedelta(seconds=lease), backend=jobs)

    return make


def interrupted(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.slow
def test_a_job_evaluates_and_a_second_worker_finds_it_again(submitted, stores, worker_of, clock, loopback_hub, monkeypatch):
    """Sent by a worker that is killed while it waits; found by the next one; run for real; checked and published."""
    requests, results = stores
    killed = worker_of("killed", timeout="90m")
    monkeypatch.setattr(killed, "_watch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        killed.step()
    (job,) = loopback_hub.jobs.sent
    assert job.stage == "SCHEDULING"
    _was_sent_as_the_api_expects(job.spec, stores, submitted)
    # It gets its machine when somebody looks at it again.
    clock.passed += 600
    survivor = worker_of("survivor", lease=3, poll=0.5)
    loopback_hub.jobs.run_with = run_here
    loopback_hub.jobs.start(job)
    progresses = []
    monkeypatch.setattr(survivor.queue, "renew", _noting(survivor.queue.renew, progresses))
    # It is killed, too, once the result is published and the job's files are cleared away.
    monkeypatch.setattr(survivor.queue, "finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        survivor.step()
    clock.passed += 600
    assert worker_of("last").step() == submitted
    assert loopback_hub.jobs.sent == [job] and job.stage == "COMPLETED", job.lines
    status = Queue(requests).status(submitted)
    assert (status.state, status.worker, status.attempts) == ("FINISHED", "last", 3)
    entry = published_entry(results, submitted)
    assert [row["attack"] for row in entry["rows"]] == ["random", "sima:timesteps=50,100"]
    assert results.files("jobs") == [], "what the job left was taken away when it was published"
    assert progresses and all(f"as a job on the Hub: {loopback_hub.url}/jobs/{PAYER}/{job.id}" in progress for progress in progresses)


def _was_sent_as_the_api_expects(spec: dict, stores, id: str) -> None:
    requests, results = (f"hub:{store.repo_id}" for store in stores)
    python = ["python", "-m", "leaderboard.worker.run_job", id, "--requests", requests, "--results", results]
    assert spec["command"][:7] == ["uv", "run", "--no-project", "--python", "3.11", "--with", PACKAGE]
    assert spec["command"][7:] == [*python, "--into", f"jobs/{id}-0", "--device", "cpu"]
    assert spec["secrets"] == {"HF_TOKEN": TOKEN} and TOKEN not in str({key: spec[key] for key in spec if key != "secrets"})
    assert spec["flavor"] == "a10g-small" and spec["timeoutSeconds"] == 90 * 60 and "uv" in spec["dockerImage"]
    assert spec["labels"]["mia-hub-request"].startswith(f"{id}-0-")


def _noting(renew, progresses: list):
    def noted(id, worker, *, progress=None, **options):
        progresses.append(progress)
        return renew(id, worker, progress=progress, **options)

    return noted


def test_what_a_job_is_given_by_default(submitted, stores, worker_of, loopback_hub, monkeypatch):
    """A token of its own, the Space's own package, and the queue's limit of hours."""
    monkeypatch.setenv("MIA_HUB_JOB_TOKEN", "hf_narrow")
    monkeypatch.setenv("SPACE_ID", "payer/board")
    loopback_hub.jobs.run_with = prints("hf_payer hf_narrow", status=3)
    assert worker_of(package=None).step() == submitted
    (job,) = loopback_hub.jobs.sent
    assert job.spec["secrets"] == {"HF_TOKEN": "hf_narrow"} and job.spec["timeoutSeconds"] == 12 * 3600
    assert job.spec["command"][6] == f"git+{loopback_hub.url}/spaces/payer/board"
    assert "(token) (token)" in Queue(stores[0]).status(submitted).error, "a token that a job prints is not shown"


@pytest.mark.parametrize(
    "machine, message",
    [
        (prints("no such", "CUDA device", status=3), ("as ERROR (Job failed with exit code: 3)", "CUDA device", "/jobs/payer/")),
        (prints(), ("as COMPLETED, without a result", "It printed nothing")),
        (prints("x" * 5000), ("as COMPLETED, without a result", "x" * 1000)),
    ],
)
def test_a_job_without_a_result_fails_its_request_with_its_last_words(submitted, stores, worker_of, loopback_hub, machine, message):
    loopback_hub.jobs.run_with = machine
    worker = worker_of()
    assert worker.step() == submitted
    status = Queue(stores[0]).status(submitted)
    assert status.state == "FAILED" and all(part in status.error for part in message), status.error
    assert len(status.error) <= 2000 and worker.step() is None and len(loopback_hub.jobs.sent) == 1


def test_a_job_that_cannot_reach_what_it_needs_is_followed_by_another(submitted, stores, worker_of, clock, loopback_hub):
    """At most as often as a request is started: jobs are paid for."""

    def unreachable(job):
        files = {"later.txt": b"The Hub was away."}
        return Finished([], action=lambda: run_job.store_outcome(files, stores[1], job.spec["command"][16]))

    loopback_hub.jobs.run_with = unreachable
    worker_of().run(once=True)
    status = Queue(stores[0]).status(submitted)
    assert status.state == "FAILED" and status.error == "The Hub was away. That happened 3 times."
    into = [job.spec["command"][16] for job in loopback_hub.jobs.sent]
    assert into == [f"jobs/{submitted}-0", f"jobs/{submitted}-0-again1", f"jobs/{submitted}-0-again2"]


def test_submitted_again_it_is_another_job(submitted, stores, worker_of, loopback_hub):
    loopback_hub.jobs.run_with = prints(status=1)
    worker = worker_of()
    for _ in range(2):
        assert worker.step() == submitted
        Queue(stores[0]).submit(Queue(stores[0]).request(submitted))
    first, second = (job.spec["labels"]["mia-hub-request"] for job in loopback_hub.jobs.sent)
    assert first != second and second.startswith(f"{submitted}-1-")


def test_a_refusal_inside_the_job_reaches_the_submitter(submitted, stores, worker_of, loopback_hub):
    requests, results = stores
    put(requests, {"limits.json": b'{"images": 10}'})
    options = ["--requests", f"hub:{requests.repo_id}", "--results", f"hub:{results.repo_id}", "--into", f"jobs/{submitted}-0"]
    assert run_job.main([submitted, *options, "--device", "cpu"]) == 0
    assert results.files("jobs") == [f"jobs/{submitted}-0/error.txt"]
    loopback_hub.jobs.run_with = prints()
    worker_of().step()
    status = Queue(requests).status(submitted)
    assert status.state == "FAILED" and "60 images; at most 10" in status.error and results.files("jobs") == []
    assert run_job.main(["0" * 16, *options]) == 0 and b"no request.json" in results.read(f"jobs/{submitted}-0/error.txt")


def test_a_job_that_takes_too_long_or_is_cancelled_fails_its_request(submitted, stores, worker_of, loopback_hub):
    requests, _ = stores
    put(requests, {"limits.json": b'{"hours": 1e-9}'})
    worker_of(timeout="1h").step()
    assert loopback_hub.jobs.sent[0].stage == "CANCELED" and "took longer than" in Queue(requests).status(submitted).error
    Queue(requests).submit(Queue(requests).request(submitted))

    def cancelled(job):
        job.message = "Cancelled by payer"
        return Finished([], action=lambda: setattr(job, "stage", "CANCELED"))

    put(requests, {"limits.json": b'{"hours": 1}'})
    loopback_hub.jobs.run_with = cancelled
    worker_of(timeout="1h").step()
    assert "as CANCELED" in Queue(requests).status(submitted).error


def test_a_hub_that_takes_no_jobs_costs_the_request_nothing(submitted, stores, worker_of, tmp_path, loopback_hub, capsys):
    loopback_hub.jobs.refuse = (402, "Payment required")
    worker = worker_of()
    for _ in range(MOST_ATTEMPTS):
        with pytest.raises(Unavailable):
            worker.step()
    options = ["--requests", f"hub:{stores[0].repo_id}", "--results", f"hub:{stores[1].repo_id}", "--work", str(tmp_path)]
    assert main([*options, "--backend", "hf-jobs", "--package", PACKAGE, "--once"]) == 2
    error = capsys.readouterr().err
    assert "the Hub answered 402" in error and "Payment required" in error and "add credits" in error and "Traceback" not in error
    status = Queue(stores[0]).status(submitted)
    assert (status.state, status.attempts) == ("PENDING", 0) and "given back" in status.history[-1]["why"]
    loopback_hub.jobs.refuse = None
    assert main([*options, "--backend", "hf-jobs", "--package", PACKAGE, "--flavor", "abacus", "--once"]) == 2
    assert "flavor must be one of" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"package": None}, Unavailable, "--package is needed outside of a Space"),
        ({"timeout": "soon"}, Unavailable, "--timeout must be a time such as 90m or 2h; got 'soon'"),
        ({"namespace": None, "token": None}, Unavailable, "nobody is logged in"),
        ({"namespace": None, "token": "nonsense"}, Unavailable, "The token is invalid"),
        ({"requests": "folder"}, StoreError, "can't read the folder .*give --requests as hub:owner/name"),
        ({"results": "folder"}, StoreError, "give --results as hub:owner/name"),
    ],
)
def test_what_cannot_work_is_said_at_once(stores, tmp_path, monkeypatch, options, error, message):
    arguments = dict(zip(("requests", "results"), stores)) | {"package": PACKAGE} | options
    arguments |= {name: open_store(tmp_path / name) for name in ("requests", "results") if arguments[name] == "folder"}
    if "token" in arguments:
        token = arguments.pop("token")
        monkeypatch.setenv("HF_TOKEN", token) if token else monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(error, match=message):
        HubJobs(arguments.pop("requests"), arguments.pop("results"), JobOptions(**arguments))
