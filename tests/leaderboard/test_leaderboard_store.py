"""Where requests and results are kept: the same rules for a folder and for data sets on the Hub."""

import json
import subprocess
import sys
import threading
from datetime import timedelta

import pytest

from leaderboard.errors import Conflict, StoreError, SubmissionError
from leaderboard.requests.limits import Limits
from leaderboard.requests.queue import MOST_ATTEMPTS, Queue, timestamp, utc_now
from leaderboard.requests.request import Request
from leaderboard.stores.folder_store import FolderStore
from leaderboard.stores.hub_store import HubStore
from leaderboard.stores.opening import open_store
from leaderboard.stores.store import as_json

DEMO = {"kind": "model", "model": "demo", "split": "demo", "attacks": ["sima"]}


@pytest.fixture(params=["folder", "hub"])
def open_again(request, tmp_path, loopback_hub):
    """``open_again() -> Store``: the same store, as another process would open it."""
    if request.param == "folder":
        yield lambda: open_store(tmp_path / "store")
        return
    name = f"alice/store-{len(loopback_hub.log)}"
    yield lambda: open_store(f"hub:{name}", token="hf_alice")
    loopback_hub.delete_repo("dataset", name)


def put(store, **files):
    return store.commit({path.replace("__", "/"): content for path, content in files.items()}, "put", parent=store.version())


def test_files_come_back(open_again):
    store = open_again()
    put(store, a__b=b"1", a__c=b"2", d=b"3")
    other = open_again()
    assert other.files("a") == ["a/b", "a/c"] and set(other.files()) >= {"a/b", "a/c", "d"}
    assert other.read("a/b") == b"1" and other.read_many(["d", "gone", "a/c"]) == {"d": b"3", "a/c": b"2"}
    with pytest.raises(StoreError, match="at most 0 MiB are read"):
        other.read("a/b", largest=0)
    put(other, a__b=None, d=b"4")
    assert store.files("a") == ["a/c"] and store.read("d") == b"4"
    with pytest.raises(KeyError):
        store.read("a/b")
    with pytest.raises(StoreError, match="not readable JSON"):
        put(store, e=b"{") and store.read_json("e")


def test_a_change_based_on_an_older_version_is_refused(open_again):
    one, other = open_again(), open_again()
    seen = one.version()
    put(other, a=b"other")
    with pytest.raises(Conflict):
        one.commit({"a": b"one", "b": b"one"}, "late", parent=seen)
    assert one.read("a") == b"other" and "b" not in one.files()
    assert one.update(lambda store: {"a": store.read("a") + b" and one"}, "again")
    assert not one.update(lambda store: None, "nothing")
    assert other.read("a") == b"other and one"


def test_racing_writers_lose_nothing(open_again):
    put(open_again(), count=b"0")

    def add():
        store = open_again()
        for _ in range(4):
            store.update(lambda store: {"count": str(int(store.read("count")) + 1).encode()}, "add")

    threads = [threading.Thread(target=add) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert open_again().read("count") == b"12"


@pytest.mark.parametrize("path", ["../out", "a/../../out", "/etc/passwd", "a//b", ".hidden", "a/.git", "a b", "a\nb", "", "x" * 500])
def test_no_path_leads_out_of_a_store(open_again, path):
    store = open_again()
    with pytest.raises(StoreError, match="no path in a store"):
        store.commit({path: b""}, "out", parent=store.version())


KILLED = """
import os, sys
import leaderboard.stores.folder_store as store
place = sys.argv[2]
real = os.replace
count = 0
def replace(source, target):
    global count
    count += 1
    if count == int(place):
        os._exit(9)
    real(source, target)
store.os.replace = replace
s = store.FolderStore(sys.argv[1])
s.commit({"a": b"new", "b": b"new", "c": None}, "new", parent=s.version())
"""


@pytest.mark.parametrize("place", range(1, 6))
def test_a_killed_writer_leaves_all_or_nothing(tmp_path, place):
    store = FolderStore(tmp_path)
    put(store, a=b"old", b=b"old", c=b"old")
    version = store.version()
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(place)])
    again = FolderStore(tmp_path)
    now = again.version()
    state = {path: again.read(path) for path in again.files()}
    assert state == ({"a": b"old", "b": b"old", "c": b"old"} if now == version else {"a": b"new", "b": b"new"})
    # Of the first replacement on, the list of what is to be done is in place.
    assert (now == version) == (place == 1) and done.returncode in (0, 9)
    put(again, d=b"goes on")


def test_a_store_that_is_none_is_said(tmp_path, loopback_hub):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="can't be used"):
        FolderStore(tmp_path / "file")
    loopback_hub.add_repo("dataset", "alice/not-yours", {"a": "1"})
    store = HubStore("alice/not-yours", token="hf_bob")
    assert store.read("a") == b"1"
    with pytest.raises(StoreError, match="can't be read or written"):
        put(store, a=b"2")


# The queue


def in_queue(store, count=1, **changes) -> list[str]:
    queue, made = Queue(store), [Request.from_dict(DEMO | {"seed": seed} | changes) for seed in range(count)]
    return [queue.submit(request, at=utc_now() + timedelta(seconds=request.seed))[0] for request in made]


def test_the_same_request_is_one_request(open_again):
    queue = Queue(open_again())
    first, status, new = queue.submit(Request.from_dict(DEMO | {"submitter": "alice"}))
    assert new and status.state == "PENDING"
    for same in ({"submitter": "bob"}, {"note": "again"}, {"attacks": ["sima:p=4"]}):
        assert Queue(open_again()).submit(Request.from_dict(DEMO | same)) == (first, queue.status(first), False)
    assert queue.submit(Request.from_dict(DEMO | {"seed": 1}))[0] != first
    assert len(queue.ids()) == 2 and queue.request(first).submitter == "alice"


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
    assert queue.submit(Request.from_dict(DEMO | {"seed": 0}))[2]
    assert queue.status(id).state == "PENDING" and queue.status(id).error is None and queue.status(id).history[-1]["state"] == "FAILED"


def test_a_request_that_was_changed_is_refused(open_again):
    store = open_again()
    (id,) = in_queue(store)
    changed = store.read_json(f"requests/{id}/request.json") | {"seed": 5}
    put(store, **{f"requests__{id}__request.json": as_json(changed)})
    with pytest.raises(SubmissionError, match="not what was submitted"):
        Queue(store).request(id)


def test_limits_hold(open_again):
    store = open_again()
    put(store, **{"limits.json": json.dumps({"per_day": 2, "banned": ["Mallory", "evil", "bob/secret"]}).encode()})
    in_queue(store, 2, submitter="alice")
    with pytest.raises(SubmissionError, match="alice has made 2 requests in 24 hours; at most 2"):
        in_queue(store, 3, submitter="alice")
    assert Queue(store).submit(Request.from_dict(DEMO | {"seed": 7, "submitter": "bob"}))[2]
    revision = {"revision": "0" * 40}
    for asked in ({"submitter": "mallory"}, {"model": "evil/model"} | revision, {"model": "bob/secret"} | revision,
                  {"model": f"a/b + Evil/lora@{'0' * 40}"} | revision):  # fmt: skip
        with pytest.raises(SubmissionError, match="not accepted here"):
            Queue(store).submit(Request.from_dict(DEMO | {"seed": 8} | asked))
    for broken in ({"per_day": "many"}, {"banned": "bob"}, {"hour": 3}):
        put(store, **{"limits.json": json.dumps(broken).encode()})
        with pytest.raises(StoreError, match=r"limits.json .* can't be understood"):
            Limits.of(store)


def test_looking_at_a_store_makes_no_data_set(loopback_hub, capsys, monkeypatch):
    from huggingface_hub import HfApi

    from mia_hub.cli.parser import main

    monkeypatch.setenv("HF_TOKEN", "hf_alice")
    assert main(["submissions", "--requests", "hub:alice/mistyped"]) == 2
    said = capsys.readouterr().err
    assert "There is no data set alice/mistyped" in said and "Check the name" in said
    assert not HfApi(token="hf_alice").repo_exists("alice/mistyped", repo_type="dataset")
