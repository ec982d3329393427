"""The queue: requests are claimed in order, kept alive, and never lost."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from support.made_requests import BOBS, DEMO_REQUEST, put

from leaderboard.errors import StoreError, SubmissionError
from leaderboard.requests.limits import Limits
from leaderboard.requests.queue import MOST_ATTEMPTS, Queue
from leaderboard.requests.request import Request
from leaderboard.requests.status import timestamp, utc_now
from leaderboard.stores.opening import open_store
from leaderboard.stores.store import as_json


def in_queue(store, count=1, **changes) -> list[str]:
    queue, requests = Queue(store), [Request.from_dict(DEMO_REQUEST | {"seed": seed} | changes) for seed in range(count)]
    return [queue.submit(request, at=utc_now() + timedelta(seconds=request.seed))[0] for request in requests]


def test_the_same_request_is_one_request(open_again):
    queue = Queue(open_again())
    first, status, new = queue.submit(Request.from_dict(DEMO_REQUEST | {"submitter": "alice"}))
    assert new and status.state == "PENDING"
    for same in ({"submitter": "bob"}, {"note": "again"}, {"attacks": ["sima:p=4"]}):
        assert Queue(open_again()).submit(Request.from_dict(DEMO_REQUEST | same)) == (first, queue.status(first), False)
    assert queue.submit(Request.from_dict(DEMO_REQUEST | {"seed": 1}))[0] != first
    assert len(queue.listing()) == 2 and queue.request(first).submitter == "alice"


def test_requests_are_taken_in_order_and_kept_alive(open_again):
    store = open_again()
    ids = in_queue(store, 2)
    queue, start = Queue(store), utc_now()
    assert [queue.claim(name, at=start) for name in ("w1", "w2", "w3")] == [*ids, None]
    assert queue.renew(ids[0], "w1", at=start + timedelta(minutes=4), progress="3 attacks scored")
    later = start + timedelta(minutes=6)
    assert queue.claim("w3", at=later) == ids[1], "the other's lease ran out, this one's was prolonged"
    assert not queue.renew(ids[1], "w2") and not queue.finish(ids[1], "w2") and not queue.fail(ids[1], "w2", "late")
    assert queue.finish(ids[1], "w3", at=later)
    status = queue.status(ids[1])
    assert (status.state, status.finished, status.attempts) == ("FINISHED", timestamp(later), 2)
    assert [past["why"] for past in status.history] == ["claimed by w2", "claimed by w3", "done"]
    assert queue.status(ids[0]).progress == "3 attacks scored"


def test_a_request_that_takes_its_workers_down_fails_and_may_be_submitted_again(open_again):
    store = open_again()
    (id,), queue = in_queue(store), Queue(store)
    at = utc_now()
    for _ in range(MOST_ATTEMPTS):
        assert queue.claim("w", at=at) == id
        at += timedelta(hours=1)
    assert queue.claim("w", at=at) is None
    status = queue.status(id)
    assert status.state == "FAILED" and "started 3 times" in status.error
    assert queue.submit(Request.from_dict(DEMO_REQUEST | {"seed": 0}))[2]
    assert queue.status(id).state == "PENDING" and queue.status(id).error is None and queue.status(id).history[-1]["state"] == "FAILED"


def test_a_request_that_was_changed_is_refused(open_again):
    store = open_again()
    (id,) = in_queue(store)
    changed = store.read_json(f"requests/{id}/request.json") | {"seed": 5}
    put(store, {f"requests/{id}/request.json": as_json(changed)})
    with pytest.raises(SubmissionError, match="not what was submitted"):
        Queue(store).request(id)


def test_limits_hold(open_again):
    store = open_again()
    put(store, {"limits.json": json.dumps({"per_day": 2, "banned": ["Mallory", "evil", "bob/secret"]}).encode()})
    in_queue(store, 2, submitter="alice")
    with pytest.raises(SubmissionError, match="alice has made 2 requests in 24 hours; at most 2"):
        in_queue(store, 3, submitter="alice")
    assert Queue(store).submit(Request.from_dict(DEMO_REQUEST | {"seed": 7, "submitter": "bob"}))[2]
    revision = {"revision": "0" * 40}
    for fields in ({"submitter": "mallory"}, {"model": "evil/model"} | revision, {"model": "bob/secret"} | revision,
                  {"model": f"a/b + Evil/lora@{'0' * 40}"} | revision):  # fmt: skip
        with pytest.raises(SubmissionError, match="not accepted here"):
            Queue(store).submit(Request.from_dict(DEMO_REQUEST | {"seed": 8} | fields))
    for broken in ({"per_day": "many"}, {"banned": "bob"}, {"hour": 3}):
        put(store, {"limits.json": json.dumps(broken).encode()})
        with pytest.raises(StoreError, match=r"limits.json .* can't be understood"):
            Limits.of(store)


def test_a_status_that_was_lost_is_begun_again(tmp_path):
    store = open_store(tmp_path)
    queue = Queue(store)
    queue.submit(BOBS)
    put(store, {f"requests/{BOBS.id}/status.json": b"{"})
    assert queue.status(BOBS.id).state == "FAILED" and queue.claim("w") is None
    assert queue.submit(replace(BOBS, submitter="alice"))[2] and queue.claim("w") == BOBS.id
    status = queue.status(BOBS.id)
    assert (status.submitter, status.state) == ("alice", "RUNNING") and status.submitted


def test_trying_again_counts_and_goes_to_the_end(tmp_path):
    queue, start = Queue(open_store(tmp_path), Limits(per_day=2)), utc_now()
    at = [start + timedelta(minutes=minutes) for minutes in range(6)]
    alices = replace(BOBS, submitter="alice")
    queue.submit(alices, at=at[0])
    assert queue.claim("w", at=at[1]) == alices.id and queue.fail(alices.id, "w", "It broke.", at=at[1])
    others, _, _ = queue.submit(replace(BOBS, seed=7), at=at[2])
    assert queue.submit(alices, at=at[3])[2]
    assert {each.id: each.place for each in queue.listing()} == {others: 1, alices.id: 2}
    with pytest.raises(SubmissionError, match="alice has made 2 requests"):
        queue.submit(replace(alices, seed=8), at=at[4])
    assert queue.submit(replace(alices, seed=8), at=at[0] + timedelta(days=1, minutes=1))[2]
