"""Captions and classes that lie beside image files, as the tools that train on folders expect them."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mia_hub.errors import SplitError

CAPTION_COLUMNS = ("caption", "captions", "text", "prompt")
CLASS_COLUMNS = ("class", "class_label", "class_index")


def select_rows(captions: Sequence | None, rows) -> Sequence | None:
    """The captions of some images. What kind of captions they are, which their type may tell, is kept."""
    if captions is None:
        return None
    return (type(captions) if isinstance(captions, tuple) else list)(captions[row] for row in rows)


def first_value(value: Any) -> Any:
    """What stands for a image that has several captions: the first of them, or None where the list is empty."""
    if not isinstance(value, (list, tuple)):
        return value
    return value[0] if value else None


class Annotations(NamedTuple):
    """What lies beside image files: one entry per image, None where there is none; None for the list if there are none at all."""

    captions: list[str | None] | None
    classes: list[str | None] | None


def annotations_beside(paths: Sequence[str | Path], *, caption_column: str | None = None, class_column: str | None = None) -> Annotations:
    """Caption and class of each image file, from ``metadata.jsonl`` or ``metadata.csv`` in its folder; a caption also from a text file.

    The first is the convention of `datasets` (a column ``file_name``, and further ones), the second that of most LoRA trainers
    (``cat.png`` and ``cat.txt``). Each file of metadata is read once.

    Args:
        paths: image files.
        caption_column: of the metadata, where it isn't called caption, text or prompt.
        class_column: of the metadata, where it isn't called class.

    Returns:
        `require_complete` refuses gaps in either.

    Raises:
        SplitError: if there is no such column, or the metadata can't be read.
    """
    metadata = {folder: _metadata(folder) for folder in {Path(path).parent for path in paths}}
    rows = [metadata[Path(path).parent].get(Path(path).name, {}) for path in paths]
    captions = [_first(row, (caption_column,) if caption_column else CAPTION_COLUMNS) for row in rows]
    if caption_column is None:
        captions = [caption if caption is not None else _text_file(Path(path)) for path, caption in zip(paths, captions)]
    classes = [_first(row, (class_column,) if class_column else CLASS_COLUMNS) for row in rows]
    return Annotations(_any(captions, paths, caption_column), _any(classes, paths, class_column))


def captions_beside(paths: Sequence[str | Path]) -> list[str | None] | None:
    """The captions of `annotations_beside`."""
    return annotations_beside(paths).captions


def require_complete(given: Sequence, what: str, where: str) -> Sequence:
    """Captions as texts, or classes as whole numbers, one for each image; their type is kept where nothing has to be changed.

    Args:
        given: one per image, None where there is none.
        what: "caption" or "class".
        where: what they belong to, for messages.

    Raises:
        SplitError: if some images have one and others none: that alone could tell members from non-members.
    """
    kind, missing, as_it_is = str if what == "caption" else int, 0, True
    for value in given:  # once only: they may come over the network
        missing += value is None
        as_it_is = as_it_is and isinstance(value, kind) and not isinstance(value, bool)
    if missing:
        raise SplitError(
            f"{missing} of the {len(given)} images of {where} have no {what}, and the others do; give each one, or ask with empty ones."
        )
    if as_it_is:
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


def _metadata(folder: Path) -> dict[str, dict[str, Any]]:
    """The row of each file name."""
    try:
        if (folder / "metadata.jsonl").is_file():
            lines = (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
            rows = [json.loads(line) for line in lines if line.strip()]
        elif (folder / "metadata.csv").is_file():
            with open(folder / "metadata.csv", encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
        else:
            return {}
        return {row["file_name"]: dict(row) for row in rows}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SplitError(f"The metadata of {folder} can't be read ({error!r}); each line needs a file_name.") from error


def _first(row: dict[str, Any], columns: Sequence[str]) -> str | None:
    """The value of the first of these columns that there is; of a list of captions the first."""
    value = first_value(next((row[name] for name in columns if row.get(name) is not None), None))
    return None if value is None else str(value)


def _text_file(path: Path) -> str | None:
    beside = path.with_suffix(".txt")
    try:
        return beside.read_text(encoding="utf-8").strip() if beside.is_file() else None
    except (OSError, ValueError) as error:
        raise SplitError(f"The caption {beside} can't be read as text ({error}).") from error
