"""A store in a folder. A commit of several files happens whole or not at all, also when the process is killed in between."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from leaderboard.errors import Conflict, StoreError
from leaderboard.stores.store import LARGEST_FILE, Changes, Store, check_path, is_path, too_large

if TYPE_CHECKING:
    from filelock import BaseFileLock


class FolderStore(Store):
    """A folder on this machine, or on a file system that several share.

    A commit is first written aside whole, with a journal of its moves. Then the journal is put in place, which is the moment at which the
    commit has happened; then the files are moved. The next process completes what a killed one has left.
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

    def _locked(self) -> BaseFileLock:
        from filelock import FileLock

        return FileLock(self.folder / self.AUX / "lock", timeout=60)

    def version(self) -> str:
        with self._locked():
            self._recover()
            return self._version.read_text() if self._version.exists() else "0"

    def files(self, under: str = "") -> list[str]:
        root = self.folder / check_path(under) if under else self.folder
        files = (path.relative_to(self.folder) for path in root.rglob("*") if path.is_file())
        return sorted(path for path in (path.as_posix() for path in files if path.parts[0] != self.AUX) if is_path(path))

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
        """Complete the commit whose journal is in place, if there is one. Doing it twice does no harm."""
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
    """A folder that is only read, such as the one that comes with the software. Nothing is created in it, and it need not exist."""

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = Path(folder)

    def version(self) -> str:
        stats = [(path, (self.folder / path).stat()) for path in self.files()]
        return hashlib.sha256(repr([(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]).encode()).hexdigest()

    def commit(self, changes: Changes, message: str, *, parent: str) -> str:
        raise StoreError(f"{self} is read-only.")


def _write(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    _write(temporary, content)
    os.replace(temporary, path)
