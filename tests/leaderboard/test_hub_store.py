"""A store on the Hub: few requests, and nothing wrong is read from its pack."""

import json

import pytest
from support.made_requests import BOBS, DEMO, submit

from leaderboard.errors import StoreError
from leaderboard.requests.queue import Queue, utc_now
from leaderboard.requests.request import Request
from leaderboard.requests.status import Status, timestamp
from leaderboard.stores.hub_store import HubStore, git_name
from leaderboard.stores.store import as_json


def test_a_long_list_costs_few_questions(store_on_the_hub, loopback_hub):
    many, start = 120, timestamp(utc_now())
    files = {}
    for seed in range(many):
        request = Request.from_dict(BOBS.to_dict() | {"seed": seed})
        files[f"requests/{request.id}/request.json"] = as_json(request.to_dict())
        files[f"requests/{request.id}/status.json"] = as_json(Status("FINISHED", submitted=start, submitter="bob").to_dict())
    loopback_hub.commit("dataset", store_on_the_hub, files)

    def queries(action) -> int:
        before = len(loopback_hub.log)
        action()
        return len(loopback_hub.log) - before

    store = HubStore(store_on_the_hub, token="hf_alice")
    cold = queries(lambda: Queue(store).listing())
    assert cold > many, "nothing is packed yet"
    assert queries(lambda: Queue(store).listing()) == 1, "what hasn't changed is not fetched again"
    submit(Queue(store), DEMO | {"seed": 5001}, submitter="alice")
    submit(Queue(store), DEMO | {"seed": 5000}, submitter="alice")
    fresh = HubStore(store_on_the_hub, token="hf_bob")
    assert queries(lambda: Queue(fresh).listing()) < 15, "a newcomer is served by the pack"
    assert len(Queue(fresh).listing()) == many + 2 and all(each.request for each in Queue(fresh).listing())


@pytest.mark.parametrize("pack", [b"{", b"[7]", b'{"a": "b"}', json.dumps(["forged"] * 3).encode()])
def test_a_forged_pack_is_of_no_use(store_on_the_hub, loopback_hub, monkeypatch, pack):
    monkeypatch.setattr("leaderboard.stores.hub_store.WORTH_A_PACK", 1)
    loopback_hub.commit("dataset", store_on_the_hub, {f"requests/{BOBS.id}/request.json": as_json(BOBS.to_dict()), HubStore.PACK: pack})
    (submission,) = Queue(HubStore(store_on_the_hub, token="hf_alice")).listing()
    assert submission.request == BOBS


def test_contents_are_named_as_git_names_them():
    # git hash-object of an empty file, and of "hello\n".
    assert (
        git_name(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391" and git_name(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"
    )


def test_a_store_that_is_away_is_said_and_nothing_is_lost(store_on_the_hub, loopback_hub):
    queue = Queue(HubStore(store_on_the_hub, token="hf_alice"))
    accepted = submit(queue, DEMO, submitter="alice")
    with loopback_hub.broken(500), pytest.raises(StoreError, match="can't be read or written"):
        queue.listing()
    assert queue.status(accepted.id).state == "PENDING"
