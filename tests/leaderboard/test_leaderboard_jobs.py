"""Evaluations as jobs on the Hub: what is sent, that it is sent once, and what becomes of jobs that fail. The jobs really run, here."""

import subprocess
import sys
import time
from datetime import timedelta

import pytest
from support.board_setting import add_model_and_split
from support.loopback_jobs import run_here

from leaderboard.errors import StoreError
from leaderboard.requests.queue import Queue
from leaderboard.requests.request import Request
from leaderboard.results.entry import parse_entry
from leaderboard.results.recomputation import discrepancies
from leaderboard.stores.opening import open_store
from leaderboard.worker import run_job
from leaderboard.worker.backend import Unavailable
from leaderboard.worker.command import main
from leaderboard.worker.hub_jobs import HubJobs, JobOptions
from leaderboard.worker.worker import Worker

PAYER, TOKEN = "payer", "hf_payer"
PACKAGE = "git+https://huggingface.co/spaces/payer/mia_hub"


@pytest.fixture(scope="module")
def hub(loopback_hub, tiny_pixel_repo, tmp_path_factory):
    return add_model_and_split(loopback_hub, "jobbed", tiny_pixel_repo(), tmp_path_factory.mktemp("split"))


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
def submitted(hub, stores) -> str:
    about = {"kind": "model", "model": "jobbed/tiny", "split": "jobbed/split", "attacks": ["random", "sima:timesteps=50,100"]}
    return Queue(stores[0]).submit(Request.from_dict(about | hub))[0]


def worker_of(stores, tmp_path, name="w", lease=0.6, **options) -> Worker:
    jobs = HubJobs(*stores, JobOptions(**{"package": PACKAGE, "poll": 0.05, "device": "cpu"} | options))
    return Worker(*stores, name=name, folder=tmp_path / name, lease=timedelta(seconds=lease), backend=jobs)


def runs(code: str):
    """A machine on which jobs run this Python code instead."""
    return lambda job: subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_job_evaluates_and_a_second_worker_finds_it_again(submitted, stores, tmp_path, loopback_hub, monkeypatch):
    """Sent by a worker that is killed while it waits; found by the next one; run for real; checked and published."""
    requests, results = stores
    killed = worker_of(stores, tmp_path, "killed", timeout="90m")
    with monkeypatch.context() as patch:
        patch.setattr(killed, "_watch", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            killed.step()
    (job,) = loopback_hub.jobs.sent
    assert job.stage == "SCHEDULING"
    _was_sent_as_the_api_expects(job.spec, stores, submitted)
    # It gets its machine when somebody looks at it again.
    survivor = worker_of(stores, tmp_path, "survivor", lease=30)
    loopback_hub.jobs.run_with = run_here
    loopback_hub.jobs.start(job)
    seen = []
    monkeypatch.setattr(survivor.queue, "keep", _noting(survivor.queue.keep, seen))
    survivor.lease = timedelta(seconds=6)
    # It is killed, too, once the result is published and the job's files are cleared away.
    monkeypatch.setattr(survivor.queue, "finish", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        while survivor.step() is None:
            time.sleep(0.1)
    last = worker_of(stores, tmp_path, "last", lease=30)
    while last.step() is None:
        time.sleep(0.1)
    assert loopback_hub.jobs.sent == [job] and job.stage == "COMPLETED", job.lines
    status = Queue(requests).status(submitted)
    assert (status.state, status.worker, status.attempts) == ("FINISHED", "last", 3)
    entry = parse_entry(results.read(f"results/{submitted}/entry.json"), submitted)
    assert discrepancies(entry, lambda path: results.read(f"results/{submitted}/{path}")) == []
    assert [row["attack"] for row in entry["rows"]] == ["random", "sima:timesteps=50,100"]
    assert results.files("jobs") == [], "what the job left was taken away when it was published"
    assert seen and all(f"as a job on the Hub: {loopback_hub.url}/jobs/{PAYER}/{job.id}" in said for said in seen)


def _was_sent_as_the_api_expects(spec: dict, stores, id: str) -> None:
    requests, results = (f"hub:{store.repo_id}" for store in stores)
    python = ["python", "-m", "leaderboard.worker.run_job", id, "--requests", requests, "--results", results]
    assert spec["command"][:7] == ["uv", "run", "--no-project", "--python", "3.11", "--with", PACKAGE]
    assert spec["command"][7:] == [*python, "--into", f"jobs/{id}-0", "--device", "cpu"]
    assert spec["secrets"] == {"HF_TOKEN": TOKEN} and TOKEN not in str({key: spec[key] for key in spec if key != "secrets"})
    assert spec["flavor"] == "a10g-small" and spec["timeoutSeconds"] == 90 * 60 and "uv" in spec["dockerImage"]
    assert spec["labels"]["mia-hub-request"].startswith(f"{id}-0-")


def _noting(keep, seen: list):
    def noted(id, worker, *, progress=None, **options):
        seen.append(progress)
        return keep(id, worker, progress=progress, **options)

    return noted


def test_what_a_job_is_told_without_words(submitted, stores, tmp_path, loopback_hub, monkeypatch):
    """A token of its own, the Space's own package, and the queue's limit of hours."""
    monkeypatch.setenv("MIA_HUB_JOB_TOKEN", "hf_narrow")
    monkeypatch.setenv("SPACE_ID", "payer/board")
    loopback_hub.jobs.run_with = runs("print('hf_payer hf_narrow'); raise SystemExit(3)")
    assert worker_of(stores, tmp_path, package=None).step() == submitted
    (job,) = loopback_hub.jobs.sent
    assert job.spec["secrets"] == {"HF_TOKEN": "hf_narrow"} and job.spec["timeoutSeconds"] == 12 * 3600
    assert job.spec["command"][6] == f"git+{loopback_hub.url}/spaces/payer/board"
    assert "(token) (token)" in Queue(stores[0]).status(submitted).error, "a token that a job prints is not shown"


@pytest.mark.parametrize(
    "code, says",
    [
        ("print('no such\\nCUDA device'); raise SystemExit(3)", ("as ERROR (Job failed with exit code: 3)", "CUDA device", "/jobs/payer/")),
        ("pass", ("as COMPLETED, without a result", "It said nothing")),
        ("print('x' * 5000)", ("as COMPLETED, without a result", "x" * 1000)),
    ],
)
def test_a_job_without_a_result_fails_its_request_with_its_last_words(submitted, stores, tmp_path, loopback_hub, code, says):
    loopback_hub.jobs.run_with = runs(code)
    worker = worker_of(stores, tmp_path)
    assert worker.step() == submitted
    status = Queue(stores[0]).status(submitted)
    assert status.state == "FAILED" and all(part in status.error for part in says), status.error
    assert len(status.error) <= 2000 and worker.step() is None and len(loopback_hub.jobs.sent) == 1


def test_a_job_that_cannot_reach_what_it_needs_is_followed_by_another(submitted, stores, tmp_path, loopback_hub):
    """At most as often as a request is started: jobs are paid for."""
    leave = "import sys; from leaderboard.worker.run_job import store_outcome; from leaderboard.stores.opening import open_store; "
    loopback_hub.jobs.run_with = lambda job: runs(
        leave + f"store_outcome({{'later.txt': b'The Hub was away.'}}, open_store('hub:{stores[1].repo_id}'), {job.spec['command'][16]!r})"
    )(job)
    worker_of(stores, tmp_path, lease=0.2).run(once=True)
    status = Queue(stores[0]).status(submitted)
    assert status.state == "FAILED" and status.error == "The Hub was away. That happened 3 times."
    into = [job.spec["command"][16] for job in loopback_hub.jobs.sent]
    assert into == [f"jobs/{submitted}-0", f"jobs/{submitted}-0-again1", f"jobs/{submitted}-0-again2"]


def test_submitted_again_it_is_another_job(submitted, stores, tmp_path, loopback_hub):
    loopback_hub.jobs.run_with = runs("raise SystemExit(1)")
    worker = worker_of(stores, tmp_path)
    for _ in range(2):
        assert worker.step() == submitted
        Queue(stores[0]).submit(Queue(stores[0]).request(submitted))
    first, second = (job.spec["labels"]["mia-hub-request"] for job in loopback_hub.jobs.sent)
    assert first != second and second.startswith(f"{submitted}-1-")


def test_a_refusal_inside_the_job_reaches_the_submitter(submitted, stores, tmp_path, loopback_hub):
    requests, results = stores
    requests.commit({"limits.json": b'{"images": 10}'}, "limits", parent=requests.version())
    options = ["--requests", f"hub:{requests.repo_id}", "--results", f"hub:{results.repo_id}", "--into", f"jobs/{submitted}-0"]
    assert run_job.main([submitted, *options, "--device", "cpu"]) == 0
    assert results.files("jobs") == [f"jobs/{submitted}-0/error.txt"]
    loopback_hub.jobs.run_with = runs("pass")
    worker_of(stores, tmp_path).step()
    status = Queue(requests).status(submitted)
    assert status.state == "FAILED" and "60 images; at most 10" in status.error and results.files("jobs") == []
    assert run_job.main(["0" * 16, *options]) == 0 and b"no request.json" in results.read(f"jobs/{submitted}-0/error.txt")


def test_a_job_that_takes_too_long_or_is_cancelled_fails_its_request(submitted, stores, tmp_path, loopback_hub):
    requests, _ = stores
    requests.commit({"limits.json": b'{"hours": 1e-9}'}, "limits", parent=requests.version())
    worker_of(stores, tmp_path, timeout="1h").step()
    assert loopback_hub.jobs.sent[0].stage == "CANCELED" and "took longer than" in Queue(requests).status(submitted).error
    Queue(requests).submit(Queue(requests).request(submitted))
    loopback_hub.jobs.run_with = _cancelled_by_somebody
    worker_of(stores, tmp_path, timeout="1h", lease=30).step()
    assert "as CANCELED" in Queue(requests).status(submitted).error


def _cancelled_by_somebody(job):
    process = runs("import time; time.sleep(60)")(job)
    process.kill()
    job.message = "Cancelled by payer"

    class Ended:
        stdout = process.stdout

        def wait(self):
            job.stage = "CANCELED"

        kill = staticmethod(process.kill)

    return Ended()


def test_a_hub_that_takes_no_jobs_costs_the_request_nothing(submitted, stores, tmp_path, loopback_hub, capsys):
    loopback_hub.jobs.refuse = (402, "Payment required")
    options = ["--requests", f"hub:{stores[0].repo_id}", "--results", f"hub:{stores[1].repo_id}", "--work", str(tmp_path)]
    for _ in range(4):
        assert main([*options, "--backend", "hf-jobs", "--package", PACKAGE, "--once"]) == 2
    said = capsys.readouterr().err
    assert "the Hub answered 402" in said and "Payment required" in said and "add credits" in said and "Traceback" not in said
    status = Queue(stores[0]).status(submitted)
    assert (status.state, status.attempts) == ("PENDING", 0) and "given back" in status.history[-1]["why"]
    loopback_hub.jobs.refuse = None
    assert main([*options, "--backend", "hf-jobs", "--package", PACKAGE, "--flavor", "abacus", "--once"]) == 2
    assert "flavor must be one of" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, error, says",
    [
        ({"package": None}, Unavailable, "--package is needed outside of a Space"),
        ({"timeout": "soon"}, Unavailable, "--timeout is a time such as 90m or 2h; got 'soon'"),
        ({"namespace": None, "token": None}, Unavailable, "nobody is logged in"),
        ({"namespace": None, "token": "nonsense"}, Unavailable, "The token is unknown"),
        ({"requests": "folder"}, StoreError, "can't see the folder .*give --requests as hub:owner/name"),
        ({"results": "folder"}, StoreError, "give --results as hub:owner/name"),
    ],
)
def test_what_cannot_work_is_said_at_once(stores, tmp_path, monkeypatch, options, error, says):
    given = dict(zip(("requests", "results"), stores)) | {"package": PACKAGE} | options
    given |= {name: open_store(tmp_path / name) for name in ("requests", "results") if given[name] == "folder"}
    if "token" in given:
        token = given.pop("token")
        monkeypatch.setenv("HF_TOKEN", token) if token else monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(error, match=says):
        HubJobs(given.pop("requests"), given.pop("results"), JobOptions(**given))


def test_while_it_is_refused_a_worker_tries_less_and_less_often(tmp_path, monkeypatch):
    worker, slept = Worker(open_store(tmp_path / "a"), open_store(tmp_path / "b")), []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 10:
            raise KeyboardInterrupt

    monkeypatch.setattr("leaderboard.worker.worker.time.sleep", sleep)
    monkeypatch.setattr(worker, "step", lambda: (_ for _ in ()).throw(Unavailable("402")))
    with pytest.raises(KeyboardInterrupt):
        worker.run(idle=30)
    assert slept[:3] == [30, 60, 120] and slept[-1] == 3600
