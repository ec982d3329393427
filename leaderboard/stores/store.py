"""Where requests and results are kept: a folder, or data set repositories on the Hub. One layout, one interface,
every write guarded.

A change names the version that it was based on and is refused if anything was written since (`Conflict`); `update` tries again on the newer
version. A change of several files happens whole or not at all, also when the process is killed in between.
"""

from __future__ import annotations

import json
import random
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from leaderboard.errors import BrokenFile, Conflict, StoreError

# New contents of files by their path; None removes one.
Changes = Mapping[str, bytes | None]
PATH = re.compile(r"[\w-][\w.,=+-]*(/[\w-][\w.,=+-]*)*")
ATTEMPTS = 12
LARGEST_FILE = 2**30
LARGEST_JSON = 2**20


class View(ABC):
    """What can be read of a set of files."""

    @abstractmethod
    def files(self, under: str = "") -> list[str]:
        """Paths of all files below a folder ("" for all), in order."""

    @abstractmethod
    def read(self, path: str, *, largest: int = LARGEST_FILE) -> bytes:
        """The content of a file.

        Raises:
            KeyError: if there is none.
            BrokenFile: if it has more than ``largest`` bytes; it is then not read.
        """

    def prefetch(self, paths: Iterable[str]) -> None:  # noqa: B027
        """Says that these will be read, so that they can be fetched together; where reading is cheap, nothing is done."""

    def read_many(self, paths: Iterable[str]) -> dict[str, bytes]:
        """The contents of those of the files that are there."""
        paths, found = list(paths), {}
        self.prefetch(paths)
        for path in paths:
            with suppress(KeyError):
                found[path] = self.read(path)
        return found

    def read_json(self, path: str) -> dict:
        """A JSON object.

        Raises:
            KeyError: if there is no such file.
            BrokenFile: if it is none.
        """
        try:
            value = json.loads(self.read(path, largest=LARGEST_JSON))
        except (ValueError, RecursionError) as error:
            raise BrokenFile(f"{path} in {self} is not readable JSON.") from error
        if not isinstance(value, dict):
            raise BrokenFile(f"{path} in {self} should hold a JSON object.")
        return value


class Store(View):
    """A set of files with versions."""

    @abstractmethod
    def version(self) -> str:
        """Changes with every write."""

    @abstractmethod
    def commit(self, changes: Changes, message: str, *, parent: str) -> str:
        """Writes all of the changes, or none; returns the new version.

        Raises:
            Conflict: if the version is not ``parent`` any more.
        """

    def link(self, path: str) -> str | None:
        """Where people can read a file with a browser; None where nowhere."""
        return None

    def at(self, version: str | None = None) -> View:
        """The store as it is now, or was at a version, for reading much of it; a store without a memory is seen as it is."""
        return self

    def update(self, change: Callable[[View], Changes | None], message: str) -> bool:
        """Applies what ``change`` makes of the store's present state; asked again where somebody else was faster.

        Args:
            change: reads what it is given and returns changes, or None if there is nothing to do.
            message: says what is done.

        Returns:
            Whether anything was written.

        Raises:
            Conflict: if it didn't come through in a dozen attempts.
        """
        for attempt in range(ATTEMPTS):
            parent = self.version()
            changes = change(self.at(parent))
            if not changes:
                return False
            try:
                self.commit(changes, message, parent=parent)
            except Conflict:
                # Whoever collided waits a random while, longer each time, so that they don't collide again.
                time.sleep(random.uniform(0, 0.05 * 2 ** min(attempt, 6)))
                continue
            return True
        raise Conflict(f"{self} is being written to by others all the time; {message!r} didn't come through in {ATTEMPTS} attempts.")


def is_path(path: str) -> bool:
    """Whether a path stays inside of a store, and can be shown."""
    return bool(PATH.fullmatch(path)) and ".." not in path and len(path) <= 400


def check_path(path: str) -> str:
    """Refuses a path that could lead outside of the store.

    Raises:
        StoreError: for such a path.
    """
    if not is_path(path):
        raise StoreError(f"{path!r} is no path that a store takes.")
    return path


def too_large(path: str, where: object, size: int, largest: int) -> BrokenFile:
    """The error about a file that is not read because of its size."""
    return BrokenFile(f"{path} in {where} is {size / 2**20:,.1f} MiB; at most {largest / 2**20:,.0f} MiB are read.")


def as_json(value: dict) -> bytes:
    """The bytes that a store keeps of a JSON object: stable, so that equal objects are equal files."""
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "replace")
