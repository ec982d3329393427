"""Requests that come by pull request: what is wrong with them fails visibly and holds nobody up."""

import json
from dataclasses import replace

import pytest
from huggingface_hub import HfApi
from support.made_requests import BOBS, DEMO, put, run, submit

from leaderboard.errors import SubmissionError
from leaderboard.requests.queue import Queue, utc_now
from leaderboard.requests.request import Request
from leaderboard.requests.status import Status, timestamp
from leaderboard.stores.hub_store import HubStore
from leaderboard.stores.opening import open_store
from leaderboard.stores.store import as_json
from leaderboard.worker import work_folder


def test_a_request_comes_by_pull_request(store_on_the_hub, commits, capsys, monkeypatch):
    command = ["submit", "--model", "board/tiny", "--split", "board/split", "--attacks", "sima", "--requests", f"hub:{store_on_the_hub}"]
    assert "nobody is logged in" in run(capsys, *command)[2]
    monkeypatch.setenv("HF_TOKEN", "hf_bob")
    status, _, error = run(capsys, *command)
    assert status == 2 and "--pull-request" in error and "can't be read or written" in error
    status, output, _ = run(capsys, *command, "--pull-request")
    assert status == 0 and f"/datasets/{store_on_the_hub}/discussions/1" in output
    accepted = json.loads(run(capsys, *command, "--pull-request", "--json")[1])
    assert accepted["pull_request"].endswith("/2")
    queue = Queue(HubStore(store_on_the_hub, token="hf_alice"))
    assert queue.listing() == []
    HfApi(token="hf_alice").merge_pull_request(store_on_the_hub, 1, repo_type="dataset")
    (found,) = queue.listing()
    assert (found.id, found.status, found.request.submitter, found.place) == (accepted["id"], Status(), "bob", 1)
    assert "it came by a pull request" in run(capsys, "submissions", "--requests", f"hub:{store_on_the_hub}")[1]
    assert "made before" in run(capsys, *command, "--pull-request")[1]
    assert queue.claim("w") == accepted["id"]
    assert queue.status(accepted["id"]).submitter == "bob (pull request)" and queue.status(accepted["id"]).submitted
    queue.fail(accepted["id"], "w", "It broke.")
    assert "failed: It broke. A pull request can't submit it again" in run(capsys, *command, "--pull-request")[2]


def test_the_name_in_a_pull_request_owns_nothing(tmp_path):
    store = open_store(tmp_path)
    request = Request.from_dict(BOBS.to_dict() | {"model": "bob/model", "revision": "0" * 40, "push": True})
    put(store, {f"requests/{request.id}/request.json": as_json(request.to_dict())})
    queue = Queue(store)
    assert queue.claim("w") == request.id and queue.status(request.id).owns == ""
    # Nor does whoever brings it once more have it offered.
    queue.fail(request.id, "w", "It broke.")
    queue.submit(request, namespaces=("bob",))
    assert queue.status(request.id).owns == ""


FORGED = {
    "no JSON": (b"{", "not readable JSON"),
    "no text": (b"\xff\xfe\x00", "not readable JSON"),
    "too deep": (b"[" * 100_000, "not readable JSON"),
    "a list": (b"[]", "should hold a JSON object"),
    "two megabytes": (b'{"note": "' + b"x" * 2**21 + b'"}', "MiB; at most 1 MiB are read"),
    "a further field": (as_json(BOBS.to_dict() | {"reproduced": True}), "has no field 'reproduced'"),
    "another request": (as_json(BOBS.to_dict() | {"seed": 2}), "is not what was submitted"),
    "a path": (as_json(BOBS.to_dict() | {"model": "../../etc"}), "Hub id"),
    "a lone surrogate": (json.dumps(BOBS.to_dict() | {"note": "\ud800"}).encode(), "control characters"),
    "numbers for texts": (as_json(BOBS.to_dict() | {"submitter": 7}), "submitter must be text"),
    "a banned user": (as_json((BOBS.to_dict()) | {"submitter": "Mallory"}), "not accepted here"),
    "scores that aren't there": (as_json(BOBS.to_dict() | {"kind": "scores", "scores": "0" * 64}), "is not what was submitted"),
}


@pytest.fixture
def store(open_again):
    return open_again()


@pytest.mark.parametrize("case", FORGED)
def test_what_a_pull_request_brings_wrong_fails_visibly_and_holds_nobody_up(tmp_path, case):
    content, message = FORGED[case]
    store = open_store(tmp_path / "store")
    put(store, {f"requests/{BOBS.id}/request.json": content, "limits.json": as_json({"banned": ["mallory"]})})
    queue = Queue(store)
    assert [each.status.state for each in queue.listing()] == ["PENDING"]
    honest = submit(queue, DEMO, submitter="alice")
    assert queue.claim("w") == honest.id and queue.claim("w") is None
    status = queue.status(BOBS.id)
    assert status.state == "FAILED" and message in status.error and status.finished
    # It can be put right: the same request, submitted by somebody, replaces what is broken.
    if case != "a banned user":
        assert queue.submit(BOBS)[2] and queue.request(BOBS.id).seed == 1 and queue.claim("w") == BOBS.id


def test_odd_places_and_statuses_do_no_harm(store):
    now = timestamp(utc_now())
    statuses = {
        "state": {"state": "DONE"}, "attempts": {"attempts": "many"}, "time": {"submitted": "yesterday"}, "zone": {"lease": "2026-01-01"},
        "field": {"reproduced": True}, "history": {"history": [{"why": 1}]}, "text": {"error": "x" * 5000}, "list": {"history": 5},
    }  # fmt: skip
    files = {f"requests/{name}/status.json": as_json(values) for name, values in statuses.items()}
    files |= {f"requests/{name}/request.json": as_json(BOBS.to_dict()) for name in ("text", "my-request", "x" * 90)}
    files |= {
        "requests/loose.json": b"{}",
        "requests/a/b/c.json": b"{}",
        "requests/empty/scores.parquet": b"",
        "other/x/request.json": b"{}",
    }
    put(store, files)
    queue = Queue(store)
    assert queue.claim("w") is None
    found = {each.id: each for each in queue.listing()}
    assert set(found) == {*statuses, "my-request", "x" * 90, "empty"}
    assert {each.status.state for each in found.values()} == {"FAILED"} and all(each.status.error for each in found.values())
    assert submit(queue, DEMO, submitter="alice").new and queue.claim("w", at=utc_now()) is not None
    assert queue.status("my-request").submitted >= now


def test_names_in_pull_requests_have_a_count_of_their_own(store):
    requests = [Request.from_dict(BOBS.to_dict() | {"seed": seed, "submitter": "alice"}) for seed in range(4)]
    put(store, {f"requests/{each.id}/request.json": as_json(each.to_dict()) for each in requests} | {"limits.json": b'{"per_day": 3}'})
    queue = Queue(store)
    assert queue.claim("w") is not None
    states = sorted(each.status.state for each in queue.listing())
    assert states == ["FAILED", "PENDING", "PENDING", "RUNNING"]
    (failed,) = [each.status for each in queue.listing() if each.status.state == "FAILED"]
    assert "alice has made 3 requests in 24 hours; at most 3" in failed.error
    # Whoever really is alice still has all of hers.
    accepted = [submit(queue, DEMO | {"seed": seed}, submitter="alice") for seed in range(10, 13)]
    assert all(each.new for each in accepted)
    with pytest.raises(SubmissionError, match="alice has made 3 requests"):
        submit(queue, DEMO | {"seed": 13}, submitter="alice")


@pytest.mark.parametrize("name, shown", [("alice", "alice (pull request)"), ("a" * 96, "a" * 81 + " (pull request)")])
def test_a_name_from_a_pull_request_is_shown_as_one(tmp_path, name, shown):
    store = open_store(tmp_path / "store")
    claimed = replace(BOBS, submitter=name)
    put(store, {f"requests/{claimed.id}/request.json": as_json(claimed.to_dict())})
    queue = Queue(store)
    assert queue.claim("w") == claimed.id
    work_folder.fill_work_folder(queue, claimed.id, tmp_path / "work")
    evaluated = Request.from_dict(json.loads((tmp_path / "work" / "request.json").read_text()))
    assert evaluated.submitter == queue.status(claimed.id).submitter == shown and evaluated.id == claimed.id
    honest = submit(queue, DEMO, submitter="alice").id
    work_folder.fill_work_folder(queue, honest, tmp_path / "honest")
    assert json.loads((tmp_path / "honest" / "request.json").read_text())["submitter"] == "alice"
