"""What the commands of ``mia-hub`` share: exit statuses, and files that they write."""

from __future__ import annotations

from pathlib import Path

from mia_hub.errors import MiaHubError
from mia_hub.system.files import write_text


def make_folder(folder: Path) -> None:
    """Makes the folder that --out names.

    Raises:
        MiaHubError: if it can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MiaHubError(f"The folder {folder} can't be made ({error.strerror}); give another one to --out.") from error


def write(path: str | Path, text: str) -> None:
    """Writes a text and a newline, in one piece; "-" prints it.

    Raises:
        MiaHubError: if it can't be written.
    """
    if path == "-":
        print(text)
        return
    try:
        if Path(path).exists() and not Path(path).is_file():  # such as /dev/stdout, which nothing may take the place of
            Path(path).write_text(text + "\n", encoding="utf-8")
        else:
            write_text(Path(path).resolve(), text + "\n")
    except OSError as error:
        raise MiaHubError(f"{path} can't be written ({error.strerror}).") from error
