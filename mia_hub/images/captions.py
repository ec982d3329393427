"""Captions and classes that lie beside image files, in the layouts that tools for training on folders expect."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mia_hub.errors import SplitError

CAPTION_COLUMNS = ("caption", "captions", "text", "prompt")
CLASS_COLUMNS = ("class", "class_label", "class_index")


class Annotations(NamedTuple):
    """Captions and classes read beside image files: one entry per image, None for an image without one; None if no image has one."""

    captions: list[str | None] | None
    classes: list[str | None] | None


def annotations_beside(paths: Sequence[str | Path], *, caption_column: str | None = None, class_column: str | None = None) -> Annotations:
    """Return caption and class of each image file, from the metadata in its folder; a caption also from a text file.

    Metadata is ``metadata.jsonl`` or ``metadata.csv`` with a column ``file_name``, the convention of `datasets`; text files
    (``cat.txt`` beside ``cat.png``) are that of most LoRA trainers. Each metadata file is read once.

    Args:
        paths: image files.
        caption_column: in the metadata, if it isn't called caption, text or prompt.
        class_column: in the metadata, if it isn't called class.

    Returns:
        The annotations, which may have gaps; `require_complete` refuses them.

    Raises:
        SplitError: if there is no such column, or the metadata can't be read.
    """
    metadata = {folder: _metadata(folder) for folder in {Path(path).parent for path in paths}}
    rows = [metadata[Path(path).parent].get(Path(path).name, {}) for path in paths]
    captions = [_first_text(row, (caption_column,) if caption_column else CAPTION_COLUMNS) for row in rows]
    if caption_column is None:
        captions = [caption if caption is not None else _text_file(Path(path)) for path, caption in zip(paths, captions)]
    classes = [_first_text(row, (class_column,) if class_column else CLASS_COLUMNS) for row in rows]
    return Annotations(_none_if_empty(captions, paths, caption_column), _none_if_empty(classes, paths, class_column))


def captions_beside(paths: Sequence[str | Path]) -> list[str | None] | None:
    """Return the captions of `annotations_beside`."""
    return annotations_beside(paths).captions


def require_complete(values: Sequence[Any], what: str, where: str) -> Sequence[Any]:
    """Return captions as texts, or classes as integers, one for each image; the same object where no value has to be converted.

    Args:
        values: one per image, None for an image without one.
        what: "caption" or "class".
        where: what the images belong to, for messages.

    Raises:
        SplitError: if only some images have one: that alone could tell members from non-members.
    """
    kind, missing, converted = str if what == "caption" else int, 0, True
    for value in values:  # one pass: the values may come over the network
        missing += value is None
        converted = converted and isinstance(value, kind) and not isinstance(value, bool)
    if missing:
        raise SplitError(
            f"{missing} of the {len(values)} images of {where} have no {what}, while the others do; give every image one, or use empty "
            "ones for all."
        )
    if converted:
        return values
    try:
        return [kind(value) for value in values]
    except (TypeError, ValueError) as error:
        raise SplitError(f"The classes of {where} must be integers, indices of the model's classes ({error}).") from error


def select_rows(captions: Sequence[Any] | None, rows: Iterable[Any]) -> Sequence[Any] | None:
    """Return the captions of some images, as a tuple of the same class if they are one, else as a list."""
    if captions is None:
        return None
    selected = [captions[row] for row in rows]
    return type(captions)(selected) if isinstance(captions, tuple) else selected


def first_value(value: Any) -> Any:
    """Return the first caption of an image that has several; None for an empty list, and any other value unchanged."""
    if not isinstance(value, (list, tuple)):
        return value
    return value[0] if value else None


def _none_if_empty(values: list[str | None], paths: Sequence[str | Path], column: str | None) -> list[str | None] | None:
    if any(value is not None for value in values):
        return values
    if column:
        raise SplitError(f"There is no column {column!r} in a metadata.jsonl or metadata.csv beside {paths[0]}.")
    return None


def _metadata(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the row of each file name."""
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


def _first_text(row: dict[str, Any], columns: Sequence[str]) -> str | None:
    """Return the value of the first of these columns that has one."""
    value = first_value(next((row[name] for name in columns if row.get(name) is not None), None))
    return None if value is None else str(value)


def _text_file(path: Path) -> str | None:
    beside = path.with_suffix(".txt")
    try:
        return beside.read_text(encoding="utf-8").strip() if beside.is_file() else None
    except (OSError, ValueError) as error:
        raise SplitError(f"The caption {beside} can't be read as text ({error}).") from error
