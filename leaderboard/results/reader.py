"""All entries that the board shows: those that come with the software, and those of the configured store of results.

What can't be read or understood is left out and said, with the reason; it never takes the others with it. Only these two places count: an
entry is believed because of where it lies, after its schema and bounds were checked. That its figures follow from its scores was computed
by the worker before it was published, and is computed again by ``python -m leaderboard.verify``.
"""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from leaderboard.config import ENTRIES_FOLDER, results_address
from leaderboard.errors import StoreError
from leaderboard.results.entry import parse_entry, says_the_same
from leaderboard.results.index import read_index
from leaderboard.stores.folder_store import FolderStore, ReadOnlyFolder
from leaderboard.stores.opening import open_store
from leaderboard.stores.store import LARGEST_FILE, Store

ENTRY = re.compile(r"results/([0-9a-f]{16})/entry\.json")
FILE_OF_ENTRY = re.compile(r"entry\.json|(scores/[0-9]{2}\.parquet)|(reports/[0-9]{2}\.json)")
# A store is asked so often for news, in seconds.
CHECK_EVERY = 10


@dataclass(frozen=True)
class LeftOut:
    """An entry that isn't shown.

    Attributes:
        id: of the entry.
        where: the store.
        reason: for people.
    """

    id: str
    where: str
    reason: str


@dataclass(frozen=True)
class Results:
    """What there is to show.

    Attributes:
        entries: as `leaderboard.results.entry.parse_entry` gives them, in the order of their ids.
        left_out: what isn't shown, and why.
        problem: why the configured store couldn't be read; None if it could.
        version: changes whenever anything above does.
    """

    entries: tuple[dict[str, Any], ...]
    left_out: tuple[LeftOut, ...] = ()
    problem: str | None = None
    version: str = ""
    stores: dict[str, Store] = field(default_factory=dict, repr=False)

    def entry(self, id: str) -> dict[str, Any]:
        """An entry by its id.

        Raises:
            StoreError: if there is none.
        """
        for entry in self.entries:
            if entry["id"] == id:
                return entry
        raise StoreError(f"There is no entry {id[:40]!r} on this board.")

    def read(self, id: str, path: str, *, largest: int = LARGEST_FILE) -> bytes:
        """A file of an entry: ``entry.json``, its scores or its reports.

        Raises:
            KeyError: if there is none.
            BrokenFile: if it has more than ``largest`` bytes; it is then not read.
            StoreError: if the store can't be read.
        """
        if id not in self.stores or not FILE_OF_ENTRY.fullmatch(path):
            raise KeyError(path)
        return self.stores[id].read(f"results/{id}/{path}", largest=largest)


def store_to_read(address: str) -> Store:
    """The store at an address, without making one where there is none.

    Raises:
        StoreError: if it can't be reached.
    """
    if address.startswith("hub:") or (Path(address) / FolderStore.AUX).is_dir():
        return open_store(address, make=False)
    return ReadOnlyFolder(address)


class Reader:
    """Reads results, again only where something has changed.

    Args:
        address: of the configured store, as `leaderboard.stores.opening.open_store` takes it.
        shipped: the folder that comes with the software; None to leave it out.
        check_every: seconds between two questions for news.
    """

    def __init__(self, address: str, shipped: str | Path | None = ENTRIES_FOLDER, *, check_every: float = CHECK_EVERY):
        self.address, self.check_every = str(address), check_every
        self._shipped, self._store = None if shipped is None else ReadOnlyFolder(shipped), None
        self._lock, self._checked, self._results = threading.Lock(), -float("inf"), Results(())
        # What was read of each store: its version, its entries, what was left out.
        self._read: dict[str, tuple[str, dict[str, dict[str, Any]], list[LeftOut]]] = dict.fromkeys(("shipped", "configured"), ("", {}, []))

    def read(self) -> Results:
        """The results as they are now; while the configured store can't be reached, as it was last read."""
        with self._lock:
            if time.monotonic() - self._checked < self.check_every:
                return self._results
            problem = None
            try:
                self._store = self._store or store_to_read(self.address)
                self._refresh("configured", self._store)
            except StoreError as error:
                problem = str(error)
            if self._shipped is not None:
                self._refresh("shipped", self._shipped)
            self._results = self._together(problem)
            self._checked = time.monotonic()
            return self._results

    def _refresh(self, name: str, store: Store) -> None:
        version = store.version()
        if self._read[name][0] != version:
            self._read[name] = (version, *_entries_of(store))

    def _together(self, problem: str | None) -> Results:
        _, entries, left_out = self._read["shipped"]
        entries, left_out, stores = dict(entries), list(left_out), dict.fromkeys(entries, self._shipped)
        version, others, left_there = self._read["configured"]
        left_out += left_there
        for id, entry in others.items():
            if id not in entries:
                entries[id], stores[id] = entry, self._store
            elif not says_the_same(entries[id], entry):
                left_out.append(LeftOut(id, str(self._store), "it differs from the entry of this id that comes with the software"))
        versions = f"{self._read['shipped'][0]} {version} {problem}"
        return Results(tuple(entries[id] for id in sorted(entries)), tuple(left_out), problem, versions, stores)


def _entries_of(store: Store) -> tuple[dict[str, dict[str, Any]], list[LeftOut]]:
    """The entries of a store, and what of it is left out."""
    present = {found[1]: path for path in store.files() if (found := ENTRY.fullmatch(path))}
    try:
        contents, left_out = read_index(store), []
    except StoreError:
        contents, left_out = {}, []
    for id in [id for id in contents if id not in present]:
        del contents[id]
        left_out.append(LeftOut(id, str(store), "it is in the store's index, but its files are gone"))
    missing = {path: id for id, path in present.items() if id not in contents}
    contents |= {missing[path]: content for path, content in store.read_many(missing).items()}
    entries = {}
    for id, content in contents.items():
        try:
            entries[id] = parse_entry(content, id)
        except StoreError as error:
            left_out.append(LeftOut(id, str(store), str(error)))
    return entries, left_out


@cache
def reader_of(address: str) -> Reader:
    """One reader for each address, so that all visitors share what was read."""
    return Reader(address)


def read_results() -> Results:
    """All entries of the configured store and of the software, as they are now."""
    return reader_of(results_address()).read()
