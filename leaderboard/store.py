"""Where requests and results are kept: a folder, or data set repositories on the Hub. One layout, one interface, every write guarded.

A change names the version that it was based on and is refused if anything was written since (`Conflict`); `update` tries again on the newer
version. A change of several files happens whole or not at all, also when the process is killed in between.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path

from leaderboard.errors import Conflict, StoreError
from mia_hub.errors import first_line

# New contents of files by their path; None removes one.
Changes = Mapping[str, bytes | None]
PATH = re.compile(r"[\w-][\w.,=+-]*(/[\w-][\w.,=+-]*)*")
ATTEMPTS = 12
HUB_TIMEOUT = 10


class Store(ABC):
    """A set of files with versions."""

    @abstractmethod
    def version(self) -> str:
        """Changes with every write."""

    @abstractmethod
    def files(self, under: str = "") -> list[str]:
        """Paths of all files below a folder ("" for all), in order."""

    @abstractmethod
    def read(self, path: str) -> bytes:
        """The content of a file.

        Raises:
            KeyError: if there is none.
        """

    @abstractmethod
    def commit(self, changes: Changes, message: str, *, parent: str) -> str:
        """Writes all of the changes, or none; returns the new version.

        Raises:
            Conflict: if the version is not ``parent`` any more.
        """

    def link(self, path: str) -> str | None:
        """Where people can read a file with a browser; None where nowhere."""
        return None

    def read_json(self, path: str) -> dict:
        """A JSON object.

        Raises:
            KeyError: if there is no such file.
            StoreError: if it is none.
        """
        try:
            value = json.loads(self.read(path))
        except ValueError as error:
            raise StoreError(f"{path} in {self} is not readable JSON.") from error
        if not isinstance(value, dict):
            raise StoreError(f"{path} in {self} should hold a JSON object.")
        return value

    def update(self, change: Callable[[Store], Changes | None], message: str) -> bool:
        """Applies what ``change`` makes of the store's present state; asked again where somebody else was faster.

        Args:
            change: reads the store and returns changes, or None if there is nothing to do.
            message: says what is done.

        Returns:
            Whether anything was written.

        Raises:
            Conflict: if it didn't come through in a dozen attempts.
        """
        for attempt in range(ATTEMPTS):
            parent = self.version()
            changes = change(self)
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


def check_path(path: str) -> str:
    """Refuses a path that could lead outside of the store.

    Raises:
        StoreError: for such a path.
    """
    if not PATH.fullmatch(path) or ".." in path or len(path) > 400:
        raise StoreError(f"{path!r} is no path that a store takes.")
    return path


def as_json(value: dict) -> bytes:
    """The bytes that a store keeps of a JSON object: stable, so that equal objects are equal files."""
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


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
        return sorted(path.as_posix() for path in found if path.parts[0] != self.AUX)

    def read(self, path: str) -> bytes:
        try:
            return (self.folder / check_path(path)).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise KeyError(path) from None

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


def _write(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    _write(temporary, content)
    os.replace(temporary, path)


class HubStore(Store):
    """A data set repository on the Hub; made if it isn't there and the token may."""

    MARK = ".store.json"

    def __init__(self, repo_id: str, *, token: str | None = None, private: bool | None = None):
        from huggingface_hub import HfApi

        self.repo_id, self._api = repo_id, HfApi(token=token)
        with self._errors():
            if not self._api.repo_exists(repo_id, repo_type="dataset"):
                self._api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)

    def __str__(self) -> str:
        return f"the data set {self.repo_id}"

    def link(self, path: str) -> str:
        return f"{self._api.endpoint}/datasets/{self.repo_id}/blob/main/{check_path(path)}"

    def version(self) -> str:
        with self._errors():
            return self._api.dataset_info(self.repo_id, timeout=HUB_TIMEOUT).sha

    def files(self, under: str = "") -> list[str]:
        with self._errors():
            found = self._api.list_repo_files(self.repo_id, repo_type="dataset")
        prefix = f"{check_path(under)}/" if under else ""
        return sorted(path for path in found if path.startswith(prefix) and PATH.fullmatch(path))

    def read(self, path: str) -> bytes:
        from huggingface_hub.errors import EntryNotFoundError

        with self._errors():
            try:
                file = self._api.hf_hub_download(self.repo_id, check_path(path), repo_type="dataset", revision=self.version())
            except EntryNotFoundError:
                raise KeyError(path) from None
        return Path(file).read_bytes()

    def commit(self, changes: Changes, message: str, *, parent: str) -> str:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete
        from huggingface_hub.errors import HfHubHTTPError

        operations = [
            CommitOperationDelete(path) if content is None else CommitOperationAdd(check_path(path), content)
            for path, content in sorted(changes.items())
        ]
        # The client drops files that are there already with the same content, and a commit without any others is not made: then the parent
        # would not be looked at. So each commit brings something that no other has.
        operations.append(CommitOperationAdd(self.MARK, as_json({"commit": uuid.uuid4().hex, "message": message})))
        with self._errors():
            try:
                done = self._api.create_commit(self.repo_id, operations, repo_type="dataset", commit_message=message, parent_commit=parent)
            except HfHubHTTPError as error:
                if getattr(error.response, "status_code", None) in (409, 412):
                    raise Conflict(f"{self} was written to since.") from error
                raise
        return done.oid

    def _errors(self):
        from contextlib import contextmanager

        @contextmanager
        def said():
            from huggingface_hub.errors import HfHubHTTPError, HTTPError

            try:
                yield
            except (HfHubHTTPError, HTTPError, OSError, ValueError) as error:
                raise StoreError(f"{self} can't be read or written ({type(error).__name__}: {first_line(error)[:200]}).") from error

        return said()


def open_store(address: str | os.PathLike[str], *, token: str | None = None) -> Store:
    """A folder, or with ``hub:owner/name`` a data set repository on the Hub."""
    text = str(address)
    return HubStore(text.removeprefix("hub:"), token=token) if text.startswith("hub:") else FolderStore(text)
