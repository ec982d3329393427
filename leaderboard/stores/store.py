"""The interface of a store: files with versions, and guarded writes.

A change names the version that it is based on and is refused if anything was written since (`Conflict`); `Store.update` tries again on the
newer version. A change of several files happens whole or not at all, also when the process is killed in between.
"""

from __future__ import annotations

import json
import random
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from leaderboard.errors import BrokenFile, Conflict, StoreError

# New contents of files by their path; None removes one.
Changes = Mapping[str, bytes | None]
PATH = re.compile(r"[\w-][\w.,=+-]*(/[\w-][\w.,=+-]*)*")
ATTEMPTS = 12
LARGEST_FILE = 2**30
LARGEST_JSON = 2**20


class View(ABC):
    """A set of files that can be read."""

    @abstractmethod
    def files(self, under: str = "") -> list[str]:
        """Return the paths of all files below a folder ("" for all), in order."""

    @abstractmethod
    def read(self, path: str, *, largest: int = LARGEST_FILE) -> bytes:
        """Return the content of a file.

        Raises:
            KeyError: if there is none.
            BrokenFile: if it has more than ``largest`` bytes; it is then not read.
        """

    def prefetch(self, paths: Iterable[str]) -> None:  # noqa: B027
        """Fetch files together that will be read; where reading is cheap, nothing is done."""

    def read_many(self, paths: Iterable[str]) -> dict[str, bytes]:
        """Return the contents of those of the files that exist."""
        paths, contents = list(paths), {}
        self.prefetch(paths)
        for path in paths:
            with suppress(KeyError):
                contents[path] = self.read(path)
        return contents

    def read_json(self, path: str) -> dict[str, Any]:
        """Return a JSON object.

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
        """Return the current version, which changes with every write."""

    @abstractmethod
    def commit(self, changes: Changes, message: str, *, parent: str) -> str:
        """Write all of the changes, or none; return the new version.

        Raises:
            Conflict: if the version is not ``parent`` any more.
        """

    def link(self, path: str) -> str | None:
        """Return the address at which a browser shows a file; None if there is none."""
        return None

    def at(self, version: str | None = None) -> View:
        """Return a view of the store now, or at a version, for reading many files; a store without a history shows its present state."""
        return self

    def update(self, change: Callable[[View], Changes | None], message: str) -> bool:
        """Commit the changes that ``change`` derives from the store's present state; it is called again after a conflict.

        Args:
            change: reads the view that it is called with and returns changes, or None if there is nothing to do.
            message: of the commit.

        Returns:
            Whether anything was written.

        Raises:
            Conflict: if all attempts failed.
        """
        for attempt in range(ATTEMPTS):
            parent = self.version()
            changes = change(self.at(parent))
            if not changes:
                return False
            try:
                self.commit(changes, message, parent=parent)
            except Conflict:
                # A random wait, longer each time, so that the same writers don't collide again.
                time.sleep(random.uniform(0, 0.05 * 2 ** min(attempt, 6)))
                continue
            return True
        raise Conflict(f"Others keep writing to {self}; {message!r} failed in {ATTEMPTS} attempts.")


def is_path(path: str) -> bool:
    """Whether a path stays inside a store, and can be shown."""
    return bool(PATH.fullmatch(path)) and ".." not in path and len(path) <= 400


def check_path(path: str) -> str:
    """Refuse a path that could lead out of the store.

    Raises:
        StoreError: for such a path.
    """
    if not is_path(path):
        raise StoreError(
            f"{path!r} is not a valid path in a store; use letters and digits, and after the first character also - _ . , = +."
        )
    return path


def too_large(path: str, where: object, size: int, largest: int) -> BrokenFile:
    """Return the error about a file that is not read because of its size."""
    return BrokenFile(f"{path} in {where} is {size / 2**20:,.1f} MiB; at most {largest / 2**20:,.0f} MiB are read.")


def as_json(value: Mapping[str, Any]) -> bytes:
    """Return the stored form of a JSON object: stable, so that equal objects are equal files."""
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "replace")
