"""A store in a folder, whose writer is killed at any moment."""

import subprocess
import sys

import pytest
from support.made_requests import put

from leaderboard.errors import StoreError
from leaderboard.results.reader import ResultsReader
from leaderboard.stores.folder_store import FolderStore, ReadOnlyFolder

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
    put(store, {"a": b"old", "b": b"old", "c": b"old"})
    version = store.version()
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(place)])
    again = FolderStore(tmp_path)
    now = again.version()
    state = {path: again.read(path) for path in again.files()}
    assert state == ({"a": b"old", "b": b"old", "c": b"old"} if now == version else {"a": b"new", "b": b"new"})
    # Of the first replacement on, the list of what is to be done is in place.
    assert (now == version) == (place == 1) and done.returncode in (0, 9)
    put(again, {"d": b"goes on"})


def test_a_folder_that_is_not_there_is_empty_and_is_not_made(tmp_path):
    results = ResultsReader(tmp_path / "none", None).read()
    assert results.entries == () and results.problem is None and not (tmp_path / "none").exists()
    with pytest.raises(StoreError, match="is read-only"):
        ReadOnlyFolder(tmp_path).commit({"a": b""}, "", parent="")
