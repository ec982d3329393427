"""Evaluations of models and of submitted scores, with real models and splits on a Hub of our own."""

import hashlib
import json

import numpy as np
import pytest
from support.board_setting import InProcess, N, published_entry, write_request
from support.made_requests import put

import mia_hub
from leaderboard.requests.queue import Queue
from leaderboard.results.index import read_index
from leaderboard.results.ranking import attack_ranking, model_ranking
from leaderboard.stores.opening import open_store
from leaderboard.worker import evaluate
from leaderboard.worker.run_job import job_outcome
from leaderboard.worker.worker import Worker


@pytest.fixture
def worker(stores, tmp_path):
    return Worker(*stores, backend=InProcess(device="cpu"), name="w", folder=tmp_path / "work")


def test_a_model_is_evaluated_and_its_figures_follow_from_its_scores(about, commits, stores, worker):
    requests, results = stores
    id, _, _ = Queue(requests).submit(about(submitter="alice", note="<b>=1+1</b>"))
    assert worker.step() == id and worker.step() is None
    status = Queue(requests).status(id)
    assert status.state == "FINISHED" and status.finished and status.error is None
    entry = published_entry(results, id)
    assert entry["origin"] == "computed" and entry["model"]["revision"] == commits["revision"] and entry["split"]["n_members"] == N
    direct = mia_hub.compare("board/tiny", "board/split", ["random", mia_hub.get_attack("sima", timesteps=(50, 100))], device="cpu")
    assert [row["auc"]["value"] for row in entry["rows"]] == [row.report.auc.value for row in direct.rows]
    assert [row["attack"] for row in entry["rows"]] == ["random", "sima:timesteps=50,100"]
    assert {row["attack"] for row in attack_ranking([entry])} == {"random", "sima:timesteps=50,100"}
    assert model_ranking([entry])[0]["model"] == "board/tiny"
    assert not (worker.folder / id).exists()
    assert read_index(results) == {id: results.read(f"results/{id}/entry.json")}
    # The same again is the same.
    assert not Queue(requests).submit(about(submitter="bob"))[2]


@pytest.fixture(scope="module")
def scored(commits):
    """A table of scores that somebody has computed for the model and the split."""
    split = mia_hub.load_split("board/split", revision=commits["split_revision"])
    model = mia_hub.load_model("board/tiny", device="cpu")
    return mia_hub.get_attack("sima", timesteps=(50,)).score(model, split.images, is_member=split.is_member)


@pytest.fixture
def own_scores(about, tmp_path):
    """``own_scores(table) -> (request, content)``"""

    def request_of(table):
        table.to_parquet(tmp_path / "own.parquet")
        content = (tmp_path / "own.parquet").read_bytes()
        return about(kind="scores", attacks=["our new attack"], scores=hashlib.sha256(content).hexdigest()), content

    return request_of


def test_scores_are_measured_by_us_and_marked_as_reported(scored, own_scores, stores, worker):
    requests, results = stores
    id, _, _ = Queue(requests).submit(*own_scores(scored))
    assert worker.step() == id
    entry = published_entry(results, id)
    assert entry["origin"] == "self-reported" and [row["attack"] for row in entry["rows"]] == ["our new attack"]
    assert attack_ranking([entry]) == []


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model": "board/gone"}, "no public model 'board/gone'"),
        ({"revision": "0" * 40}, "has no revision"),
        ({"split_revision": "0" * 40}, "has no revision"),
        ({"split": "board/gone"}, "no public data set 'board/gone'"),
        ({"attacks": ["clid"]}, "isn't conditioned on text"),
    ],
)
def test_what_cannot_be_evaluated_says_why_and_the_worker_lives_on(about, stores, worker, changes, message):
    requests, results = stores
    id, _, _ = Queue(requests).submit(about(**changes))
    assert worker.step() == id
    status = Queue(requests).status(id)
    assert status.state == "FAILED" and message in status.error and results.files() == []
    assert worker.step() is None


def test_a_request_with_other_scores_than_it_names_is_refused(about, scored, own_scores, stores, worker):
    requests, results = stores
    id, _, _ = Queue(requests).submit(*own_scores(scored.select(np.arange(len(scored) - 1))))
    worker.step()
    assert "they must cover exactly the split's images" in Queue(requests).status(id).error
    path = f"requests/{id}/request.json"
    changed = requests.read_json(path) | {"note": "", "seed": 3}
    other, _, _ = Queue(requests).submit(about(seed=9))
    put(requests, {path.replace(id, other): json.dumps(changed).encode()})
    worker.step()
    assert "is not what was submitted" in Queue(requests).status(other).error and results.files() == []


def test_limits_of_size_hold(about, stores, worker):
    requests, _ = stores
    for limits, message in (
        ({"images": 10}, "60 images; at most 10"),
        ({"split_gib": 1e-6}, "GiB of Parquet files"),
        ({"model_gib": 1e-6}, "MiB are fetched"),
    ):
        put(requests, {"limits.json": json.dumps(limits).encode()})
        id, _, _ = Queue(requests).submit(about(seed=len(message)))
        worker.step()
        assert message in Queue(requests).status(id).error


@pytest.mark.parametrize(
    "files, message",
    [
        ({"member.csv": "image\n/etc/passwd\n", "nonmember.csv": "image\n/etc/passwd\n"}, "made of 'member.csv'; only its Parquet files"),
        ({}, "isn't one of its own at the commit"),
    ],
)
def test_a_data_set_whose_card_names_anything_else_is_refused(about, loopback_hub, stores, worker, files, message):
    """It has Parquet files, too, so that its list of files looks well."""
    requests, results = stores
    name = f"board/{'other-files' if files else 'elsewhere'}"
    parts = ("member", "nonmember")
    paths = {part: f"{part}.csv" if files else f"hf://datasets/{name}@main/{part}.parquet" for part in parts}
    data_files = "".join(f"  - split: {part}\n    path: {path}\n" for part, path in paths.items())
    card = f"---\nconfigs:\n- config_name: default\n  data_files:\n{data_files}---\n"
    commit = loopback_hub.add_repo("dataset", name, files | {"README.md": card} | {f"{part}.parquet": b"x" for part in parts})
    id, _, _ = Queue(requests).submit(about(split=name, split_revision=commit))
    assert worker.step() == id
    status = Queue(requests).status(id)
    assert status.state == "FAILED" and message in status.error and results.files() == []
    assert not (worker.folder / id).exists()


def test_an_evaluation_tells_what_will_pass_from_what_will_last(about, loopback_hub, tmp_path):
    folder = write_request(tmp_path / "work", about())
    with loopback_hub.broken(503):
        assert evaluate.main([str(folder)]) == evaluate.LATER
    assert (folder / "error.txt").read_text()
    with loopback_hub.broken(403):
        assert evaluate.main([str(folder)]) == evaluate.REFUSED
    with loopback_hub.broken(503):
        queue = Queue(open_store(tmp_path / "requests"))
        id, _, _ = queue.submit(about())
        assert list(job_outcome(queue, id)) == ["later.txt"], "and so does a job"
