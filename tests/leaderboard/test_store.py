"""Stores: the same rules for a folder and for data sets on the Hub."""

import threading

import pytest

from leaderboard.errors import Conflict, StoreError
from leaderboard.stores.folder_store import FolderStore
from leaderboard.stores.hub_store import HubStore


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
    version = one.version()
    put(other, a=b"other")
    with pytest.raises(Conflict):
        one.commit({"a": b"one", "b": b"one"}, "late", parent=version)
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


def test_no_path_leads_out_of_a_store(open_again):
    store = open_again()
    version = store.version()
    for path in ("../out", "a/../../out", "/etc/passwd", "a//b", ".hidden", "a/.git", "a b", "a\nb", "", "x" * 500):
        with pytest.raises(StoreError, match="not a valid path in a store"):
            store.commit({path: b""}, "out", parent=version)


def test_a_store_that_is_none_is_said(tmp_path, loopback_hub):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="can't be used"):
        FolderStore(tmp_path / "file")
    loopback_hub.add_repo("dataset", "alice/not-yours", {"a": "1"})
    store = HubStore("alice/not-yours", token="hf_bob")
    assert store.read("a") == b"1"
    with pytest.raises(StoreError, match="can't be read or written"):
        put(store, a=b"2")


def test_looking_at_a_store_makes_no_data_set(loopback_hub, capsys, monkeypatch):
    from huggingface_hub import HfApi

    from mia_hub.cli.parser import main

    monkeypatch.setenv("HF_TOKEN", "hf_alice")
    assert main(["submissions", "--requests", "hub:alice/mistyped"]) == 2
    output = capsys.readouterr().err
    assert "There is no data set alice/mistyped" in output and "Check the name" in output
    assert not HfApi(token="hf_alice").repo_exists("alice/mistyped", repo_type="dataset")
