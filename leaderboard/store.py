"""Where requests and results are kept: a folder, or data set repositories on the Hub (`leaderboard.hub_store`). One layout, one interface,
every write guarded.

A change names the version that it was based on and is refused if anything was written since (`Conflict`); `update` tries again on the newer
version. A change of several files happens whole or not at all, also when the process is killed in between.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

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


class FolderStore(Store):
    """A folder on this machine, or on a file system that several share.

    A commit is first written aside whole, with a list of what it does; then its list is put in place, which is the moment at which it has
    happened; then the files are moved. What a killed process left undone is done by whoever comes next.
    """

    AUX = ".store"

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = Path(folder)
        try:
            (self.folder / self.AUX).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"The folder {folder} can't be used ({error.strerror}).") from error
        self._journal, self._version = self.folder / self.AUX / "journal.json", self.folder / self.AUX / "version"

    def __str__(self) -> str:
        return f"the folder {self.folder}"

    def _locked(self):
        from filelock import FileLock

        return FileLock(self.folder / self.AUX / "lock", timeout=60)

    def version(self) -> str:
        with self._locked():
            self._recover()
            return self._version.read_text() if self._version.exists() else "0"

    def files(self, under: str = "") -> list[str]:
        root = self.folder / check_path(under) if under else self.folder
        found = (path.relative_to(self.folder) for path in root.rglob("*") if path.is_file())
        return sorted(path for path in (path.as_posix() for path in found if path.parts[0] != self.AUX) if is_path(path))

    def read(self, path: str, *, largest: int = LARGEST_FILE) -> bytes:
        file = self.folder / check_path(path)
        try:
            size = file.stat().st_size
            if size > largest:
                raise too_large(path, self, size, largest)
            return file.read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise KeyError(path) from None
        except OSError as error:
            raise StoreError(f"{path} in {self} can't be read ({error.strerror}).") from error

    def commit(self, changes: Changes, message: str, *, parent: str) -> str:
        staged = self.folder / self.AUX / uuid.uuid4().hex
        staged.mkdir()
        moves = {}
        for number, (path, content) in enumerate(sorted(changes.items())):
            check_path(path)
            moves[path] = None if content is None else str(number)
            if content is not None:
                _write(staged / str(number), content)
        with self._locked():
            self._recover()
            now = self._version.read_text() if self._version.exists() else "0"
            if now != parent:
                shutil.rmtree(staged)
                raise Conflict(f"{self} was written to since.")
            new = str(int(now) + 1)
            _replace(self._journal, json.dumps({"version": new, "staged": staged.name, "moves": moves, "message": message}).encode())
            self._recover()
        return new

    def _recover(self) -> None:
        """Finishes the commit whose list is in place, if there is one. Doing it twice does no harm."""
        if not self._journal.exists():
            return
        journal = json.loads(self._journal.read_text())
        staged = self.folder / self.AUX / journal["staged"]
        for path, source in journal["moves"].items():
            target = self.folder / path
            if source is None:
                target.unlink(missing_ok=True)
            elif (staged / source).exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(staged / source, target)
        _replace(self._version, journal["version"].encode())
        shutil.rmtree(staged, ignore_errors=True)
        self._journal.unlink()


class ReadOnlyFolder(FolderStore):
    """A folder that is only read, such as one that comes with the software. Nothing is made in it, and it need not be there."""

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = Path(folder)

    def version(self) -> str:
        seen = ((path, (self.folder / path).stat()) for path in self.files())
        return hashlib.sha256(repr([(path, found.st_size, found.st_mtime_ns) for path, found in seen]).encode()).hexdigest()

    def commit(self, changes: Changes, message: str, *, parent: str) -> str:
        raise StoreError(f"{self} is only read.")


def _write(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    _write(temporary, content)
    os.replace(temporary, path)


def open_store(address: str | os.PathLike[str], *, token: str | None = None, make: bool = True) -> Store:
    """A folder, or with ``hub:owner/name`` a data set repository on the Hub.

    Args:
        address: as above.
        token: of the Hub; the login's own by default.
        make: whether a repository that isn't there is made. A folder always is.

    Raises:
        StoreError: if it can't be reached, or isn't there and shall not be made.
    """
    text = str(address)
    if not text.startswith("hub:"):
        return FolderStore(text)
    from leaderboard.hub_store import HubStore

    return HubStore(text.removeprefix("hub:"), token=token, make=make)
