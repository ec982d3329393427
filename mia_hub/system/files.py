"""Files that are complete or absent: written beside their place, then renamed, so that no reader and no kill ever meets half a file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mia_hub.errors import MiaHubError
from mia_hub.rendering.transliteration import READABLE


def home_folder() -> Path:
    """Return the folder for what outlives a run: the value of MIA_HUB_HOME, or ``~/.local/share/mia_hub``."""
    return Path(os.environ.get("MIA_HUB_HOME") or "~/.local/share/mia_hub").expanduser()


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the path of a temporary file in the same folder, which replaces ``path`` when the block ends without an error."""
    path = Path(path)
    # Two processes may write the same file at once.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file atomically, in UTF-8, where a lone surrogate is written as its escape."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=READABLE)


def write_output_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically.

    Raises:
        MiaHubError: if it can't be written.
    """
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise MiaHubError(f"{path} can't be written ({error.strerror}).") from error


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits.

    Raises:
        OSError: if it can't be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_output_folder(folder: Path) -> None:
    """Make the folder that --out names.

    Raises:
        MiaHubError: if it can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MiaHubError(f"The folder {folder} can't be made ({error.strerror}); give another one to --out.") from error


def write_output(path: str | os.PathLike[str], text: str) -> None:
    """Write a text and a newline atomically, or print them where the path is "-".

    Raises:
        MiaHubError: if the file can't be written.
    """
    if path == "-":
        print(text)
        return
    try:
        if Path(path).exists() and not Path(path).is_file():  # such as /dev/stdout, which must not be replaced
            Path(path).write_text(text + "\n", encoding="utf-8", errors=READABLE)
        else:
            write_text(Path(path).resolve(), text + "\n")
    except OSError as error:
        raise MiaHubError(f"{path} can't be written ({error.strerror}).") from error
