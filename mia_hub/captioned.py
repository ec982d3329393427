"""Captions and classes that lie beside picture files, as the tools that train on folders expect them."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from mia_hub.errors import SplitError

CAPTION_COLUMNS = ("caption", "captions", "text", "prompt")
CLASS_COLUMNS = ("class", "class_label", "class_index")


def captions_beside(paths: Sequence[str | Path], *, column: str | None = None) -> list[str] | None:
    """The caption of each picture file: from ``metadata.jsonl`` or ``metadata.csv`` in its folder, or from a text file of its own.

    The first is the convention of `datasets` (a column ``file_name``, and one of captions), the second that of most LoRA trainers
    (``cat.png`` and ``cat.txt``).

    Args:
        paths: picture files.
        column: of the metadata, where it isn't called caption, text or prompt.

    Returns:
        One caption per picture; None if there are none at all.

    Raises:
        SplitError: if some pictures have one and others have none, or there is no such column.
    """
    found = _beside(paths, (column,) if column else CAPTION_COLUMNS)
    if column is None:
        found = [caption if caption is not None else _text_file(Path(path)) for path, caption in zip(paths, found)]
    return _complete(found, paths, "caption", column)


def classes_beside(paths: Sequence[str | Path], *, column: str | None = None) -> list[int] | None:
    """The class index of each picture file, from ``metadata.jsonl`` or ``metadata.csv``; otherwise as `captions_beside`."""
    found = _complete(_beside(paths, (column,) if column else CLASS_COLUMNS), paths, "class", column)
    try:
        return None if found is None else [int(value) for value in found]
    except ValueError as error:
        raise SplitError(f"Classes beside pictures must be whole numbers, indices of the model's classes ({error}).") from error


def _complete(found: list, paths: Sequence[str | Path], what: str, column: str | None) -> list | None:
    missing = [path for path, value in zip(paths, found) if value is None]
    if len(missing) == len(found):
        if column:
            raise SplitError(f"There is no column {column!r} in a metadata.jsonl or metadata.csv beside {paths[0]}.")
        return None
    if missing:
        raise SplitError(
            f"{len(missing)} of {len(found)} pictures have no {what} beside them (such as {missing[0]}), and the others do; give each "
            "one, or none."
        )
    return found


def _beside(paths: Sequence[str | Path], columns: Sequence[str]) -> list[str | None]:
    folders = {folder: _metadata(folder, columns) for folder in {Path(path).parent for path in paths}}
    return [folders[Path(path).parent].get(Path(path).name) for path in paths]


def _metadata(folder: Path, columns: Sequence[str]) -> dict[str, str]:
    """File names to the value of the first of ``columns`` that there is."""
    try:
        if (folder / "metadata.jsonl").is_file():
            lines = (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
            rows = [json.loads(line) for line in lines if line.strip()]
        elif (folder / "metadata.csv").is_file():
            with open(folder / "metadata.csv", encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
        else:
            return {}
        found = {row["file_name"]: next((row[name] for name in columns if row.get(name) is not None), None) for row in rows}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SplitError(f"The metadata of {folder} can't be read ({error!r}); each line needs a file_name.") from error
    # Data sets with several captions of a picture list them; the first one stands for it.
    return {name: str(value[0] if isinstance(value, list) and value else value) for name, value in found.items() if value is not None}


def _text_file(path: Path) -> str | None:
    beside = path.with_suffix(".txt")
    try:
        return beside.read_text(encoding="utf-8").strip() if beside.is_file() else None
    except (OSError, ValueError) as error:
        raise SplitError(f"The caption {beside} can't be read as text ({error}).") from error
