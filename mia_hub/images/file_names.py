"""Values that are looked up by a file's name, whichever system wrote it."""

from __future__ import annotations

import posixpath
import unicodedata
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")


def whole_path(path: Path) -> str:
    """Return a path on one line, without terminal codes, and not shortened: it is opened by whoever reads it."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(path))


def uniform_name(name: str) -> str:
    r"""Return a relative path with ``/`` between its parts, without ``./``, and in Unicode's composed form (NFC): macOS writes another."""
    return unicodedata.normalize("NFC", posixpath.normpath(name.replace("\\", "/")))


class ByFileName(Generic[T]):
    """Values by a relative path: by the path as it is spelled, or else by `uniform_name`."""

    def __init__(self) -> None:
        self._spelled: dict[str, T] = {}
        self._uniform: dict[str, T] = {}

    def add(self, name: str, value: T) -> None:
        """Store a value, unless there is one of this name."""
        self._spelled.setdefault(name, value)
        self._uniform.setdefault(uniform_name(name), value)

    def get(self, name: str) -> T | None:
        """Return the value of a file, or None."""
        value = self._spelled.get(name)
        return self._uniform.get(uniform_name(name)) if value is None else value
