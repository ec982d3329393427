"""All entries that the board shows: those that come with the software, and those of the configured store of results.

An entry that can't be read or understood is omitted and listed with the reason; the others are shown. Only these two places count: an
entry is trusted because of where it is stored, after its format and bounds were checked. The worker checked before publishing it that its
figures follow from its scores, and ``python -m leaderboard.verify`` checks it again.
"""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from leaderboard.config import ENTRIES_FOLDER, results_address
from leaderboard.errors import StoreError
from leaderboard.results.entry import parse_entry
from leaderboard.results.index import read_index
from leaderboard.results.recomputation import agree
from leaderboard.stores.folder_store import FolderStore, ReadOnlyFolder
from leaderboard.stores.opening import open_store
from leaderboard.stores.store import LARGEST_FILE, Store

ENTRY = re.compile(r"results/([0-9a-f]{16})/entry\.json")
FILE_OF_ENTRY = re.compile(r"entry\.json|(scores/[0-9]{2}\.parquet)|(reports/[0-9]{2}\.json)")
# Seconds between two looks for changes of a store.
CHECK_EVERY = 10


@dataclass(frozen=True)
class OmittedEntry:
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
    """All entries, and those that are omitted.

    Attributes:
        entries: as `leaderboard.results.entry.parse_entry` gives them, in the order of their ids.
        omitted: those that aren't shown, and why.
        problem: why the configured store couldn't be read; None if it could.
        version: changes whenever anything above does.
        stores: the store of each entry, by its id.
    """

    entries: tuple[dict[str, Any], ...]
    omitted: tuple[OmittedEntry, ...] = ()
    problem: str | None = None
    version: str = ""
    stores: dict[str, Store] = field(default_factory=dict, repr=False)

    def entry(self, id: str) -> dict[str, Any]:
        """Return an entry by its id.

        Raises:
            StoreError: if there is none.
        """
        for entry in self.entries:
            if entry["id"] == id:
                return entry
        raise StoreError(f"There is no entry {id[:40]!r} on this board.")

    def read(self, id: str, path: str, *, largest: int = LARGEST_FILE) -> bytes:
        """Return a file of an entry: ``entry.json``, its scores or its reports.

        Raises:
            KeyError: if there is none.
            BrokenFile: if it has more than ``largest`` bytes; it is then not read.
            StoreError: if the store can't be read.
        """
        if id not in self.stores or not FILE_OF_ENTRY.fullmatch(path):
            raise KeyError(path)
        return self.stores[id].read(f"results/{id}/{path}", largest=largest)


def store_to_read(address: str) -> Store:
    """Return the store at an address, without making one where there is none.

    Raises:
        StoreError: if it can't be reached.
    """
    if address.startswith("hub:") or (Path(address) / FolderStore.AUX).is_dir():
        return open_store(address, make=False)
    return ReadOnlyFolder(address)


class ResultsReader:
    """Reads results, and reads them again only where something has changed.

    Args:
        address: of the configured store, as `leaderboard.stores.opening.open_store` takes it.
        shipped: the folder that comes with the software; None to leave it out.
        check_every: seconds between two looks for changes.
    """

    def __init__(self, address: str, shipped: str | Path | None = ENTRIES_FOLDER, *, check_every: float = CHECK_EVERY):
        self.address, self.check_every = str(address), check_every
        self._shipped = None if shipped is None else ReadOnlyFolder(shipped)
        self._store: Store | None = None
        self._lock, self._checked, self._results = threading.Lock(), -float("inf"), Results(())
        self._shipped_content = self._content = _Content("", {}, [])

    def read(self) -> Results:
        """Return the results as they are now; while the configured store can't be reached, as they were last read."""
        with self._lock:
            if time.monotonic() - self._checked < self.check_every:
                return self._results
            problem = None
            try:
                self._store = self._store or store_to_read(self.address)
                self._content = _refreshed(self._content, self._store)
            except StoreError as error:
                problem = str(error)
            if self._shipped is not None:
                self._shipped_content = _refreshed(self._shipped_content, self._shipped)
            self._results = self._merged(problem)
            self._checked = time.monotonic()
            return self._results

    def _merged(self, problem: str | None) -> Results:
        shipped, own = self._shipped_content, self._content
        entries, omitted = dict(shipped.entries), [*shipped.omitted, *own.omitted]
        stores: dict[str, Store] = {} if self._shipped is None else dict.fromkeys(entries, self._shipped)
        for id, entry in own.entries.items():
            assert self._store is not None
            if id not in entries:
                entries[id], stores[id] = entry, self._store
            elif not agree(entries[id], entry):
                omitted.append(OmittedEntry(id, str(self._store), "it differs from the entry of this id that comes with the software"))
        version = f"{shipped.version} {own.version} {problem}"
        return Results(tuple(entries[id] for id in sorted(entries)), tuple(omitted), problem, version, stores)


class _Content(NamedTuple):
    """The content of a store at a version."""

    version: str
    entries: dict[str, dict[str, Any]]
    omitted: list[OmittedEntry]


def _refreshed(content: _Content, store: Store) -> _Content:
    version = store.version()
    return content if content.version == version else _Content(version, *_entries_of(store))


def _entries_of(store: Store) -> tuple[dict[str, dict[str, Any]], list[OmittedEntry]]:
    """Return the entries of a store, and those that are omitted."""
    present = {match[1]: path for path in store.files() if (match := ENTRY.fullmatch(path))}
    omitted = []
    try:
        contents = read_index(store)
    except StoreError:
        contents = {}
    for id in [id for id in contents if id not in present]:
        del contents[id]
        omitted.append(OmittedEntry(id, str(store), "it is in the store's index, but its files are gone"))
    missing = {path: id for id, path in present.items() if id not in contents}
    contents |= {missing[path]: content for path, content in store.read_many(missing).items()}
    entries = {}
    for id, content in contents.items():
        try:
            entries[id] = parse_entry(content, id)
        except StoreError as error:
            omitted.append(OmittedEntry(id, str(store), str(error)))
    return entries, omitted


@cache
def reader_of(address: str) -> ResultsReader:
    """Return the reader of an address, one for all visitors."""
    return ResultsReader(address)


def current_results() -> Results:
    """Return all entries of the configured store and of the software, as they are now."""
    return reader_of(results_address()).read()
