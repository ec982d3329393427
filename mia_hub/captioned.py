"""Captions and classes that lie beside picture files, as the tools that train on folders expect them."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mia_hub.errors import SplitError

CAPTION_COLUMNS = ("caption", "captions", "text", "prompt")
CLASS_COLUMNS = ("class", "class_label", "class_index")


def rows_of(captions: Sequence | None, rows) -> Sequence | None:
    """The captions of some pictures. What kind of captions they are, which their type may tell, is kept."""
    if captions is None:
        return None
    return (type(captions) if isinstance(captions, tuple) else list)(captions[row] for row in rows)


def first_of(value: Any) -> Any:
    """What stands for a picture that has several captions: the first of them, or None where the list is empty."""
    if not isinstance(value, (list, tuple)):
        return value
    return value[0] if value else None


def captions_beside(paths: Sequence[str | Path], *, column: str | None = None) -> list[str | None] | None:
    """The caption of each picture file: from ``metadata.jsonl`` or ``metadata.csv`` in its folder, or from a text file of its own.

    The first is the convention of `datasets` (a column ``file_name``, and one of captions), the second that of most LoRA trainers
    (``cat.png`` and ``cat.txt``).

    Args:
        paths: picture files.
        column: of the metadata, where it isn't called caption, text or prompt.

    Returns:
        One caption per picture, None where there is none; None if there are none at all. `complete` refuses gaps.

    Raises:
        SplitError: if there is no such column, or the metadata can't be read.
    """
    found = _beside(paths, (column,) if column else CAPTION_COLUMNS)
    if column is None:
        found = [caption if caption is not None else _text_file(Path(path)) for path, caption in zip(paths, found)]
    return _any(found, paths, column)


def classes_beside(paths: Sequence[str | Path], *, column: str | None = None) -> list[str | None] | None:
    """The class of each picture file, from ``metadata.jsonl`` or ``metadata.csv``; otherwise as `captions_beside`."""
    return _any(_beside(paths, (column,) if column else CLASS_COLUMNS), paths, column)


def complete(given: Sequence, what: str, where: str) -> Sequence:
    """Captions as texts, or classes as whole numbers, one for each picture; their type is kept where nothing has to be changed.

    Args:
        given: one per picture, None where there is none.
        what: "caption" or "class".
        where: what they belong to, for messages.

    Raises:
        SplitError: if some pictures have one and others none: that alone could tell members from non-members.
    """
    missing = sum(value is None for value in given)
    if missing:
        raise SplitError(
            f"{missing} of the {len(given)} pictures of {where} have no {what}, and the others do; give each one, or ask with empty ones."
        )
    kind = str if what == "caption" else int
    if all(isinstance(value, kind) and not isinstance(value, bool) for value in given):
        return given
    try:
        return [kind(value) for value in given]
    except (TypeError, ValueError) as error:
        raise SplitError(f"The classes of {where} must be whole numbers, indices of the model's classes ({error}).") from error


def _any(found: list, paths: Sequence[str | Path], column: str | None) -> list | None:
    if any(value is not None for value in found):
        return found
    if column:
        raise SplitError(f"There is no column {column!r} in a metadata.jsonl or metadata.csv beside {paths[0]}.")
    return None


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
    told = {name: first_of(value) for name, value in found.items()}
    return {name: str(value) for name, value in told.items() if value is not None}


def _text_file(path: Path) -> str | None:
    beside = path.with_suffix(".txt")
    try:
        return beside.read_text(encoding="utf-8").strip() if beside.is_file() else None
    except (OSError, ValueError) as error:
        raise SplitError(f"The caption {beside} can't be read as text ({error}).") from error
