"""Captions and classes that lie beside image files, in the layouts that tools for training on folders expect."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mia_hub.errors import SplitError
from mia_hub.images.caption_notes import caption_notes
from mia_hub.images.caption_reader import CaptionReader
from mia_hub.images.file_names import whole_path
from mia_hub.images.messages import printable
from mia_hub.images.metadata_files import METADATA_FILES, Columns

CAPTION_COLUMNS = ("caption", "captions", "text", "prompt")
CLASS_COLUMNS = ("class", "class_label", "class_index")


class Annotations(NamedTuple):
    """Captions and classes read beside image files.

    Attributes:
        captions, classes: one per image, None for an image without one; None if no image has one.
        notes: what the reader of a result must know of files that were not used, and of images without a caption; one sentence each.
    """

    captions: list[str | None] | None
    classes: list[str | None] | None
    notes: tuple[str, ...] = ()


def annotations_beside(
    paths: Sequence[str | Path],
    *,
    root: str | Path | None = None,
    caption_column: str | None = None,
    class_column: str | None = None,
) -> Annotations:
    """Return caption and class of each image file, from metadata; a caption also from a text file beside the image.

    Metadata is ``metadata.jsonl``, ``metadata.csv`` or ``metadata.parquet`` with a column ``file_name``, the convention of `datasets`: the
    path of the image relative to the metadata, which is in the image's folder or in one above it. The nearest that has a row for the image
    counts. Text files (``cat.txt`` or ``cat.caption`` beside ``cat.png``, or ``cat.png.txt``) are the convention of most LoRA trainers;
    they count where the metadata has no caption. An empty caption, or one of blanks, is none. Each file is read once.

    Args:
        paths: image files.
        root: the folder that was passed, with all of its images in ``paths``: no metadata above it is read, and files in it that no image
            uses are noted. None for images on their own: metadata counts in their own folders.
        caption_column: in the metadata, if it isn't called caption, text or prompt.
        class_column: in the metadata, if it isn't called class.

    Returns:
        The annotations, which may have gaps; `require_complete` refuses them.

    Raises:
        SplitError: if there is no such column, or a file can't be read.
    """
    images = [Path(path) for path in paths]
    columns = Columns(
        (caption_column,) if caption_column else CAPTION_COLUMNS,
        (class_column,) if class_column else CLASS_COLUMNS,
    )
    reader = CaptionReader({image.parent for image in images}, None if root is None else Path(root), columns, caption_column is None)
    values = [reader.read(image) for image in images]
    captions, classes = ([value[which] for value in values] for which in (0, 1))
    has_captions, has_classes = (any(value is not None for value in column) for column in (captions, classes))
    for column, has_values in ((caption_column, has_captions), (class_column, has_classes)):
        if column and not has_values:
            raise _no_column(column, reader)
    notes = caption_notes(reader, columns, images, captions, classes)
    return Annotations(captions if has_captions else None, classes if has_classes else None, notes)


def captions_beside(paths: Sequence[str | Path]) -> list[str | None] | None:
    """Return the captions of `annotations_beside`, of images on their own."""
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
    return complete_values(values, what, where)[0]


def complete_values(values: Sequence[Any], what: str, where: str) -> tuple[Sequence[Any], list[int]]:
    """Return what `require_complete` returns, and the rows of empty texts.

    Raises:
        SplitError: as `require_complete`.
    """
    kind, missing, converted = str if what == "caption" else int, 0, True
    empty: list[int] = []
    for row, value in enumerate(values):  # one pass: the values may come over the network
        missing += value is None
        converted = converted and isinstance(value, kind) and not isinstance(value, bool)
        if isinstance(value, str) and not value.strip():
            empty.append(row)
    if missing:
        raise SplitError(
            f"{missing} of the {len(values)} images of {where} have no {what}, while the others do; give every image one (beside image "
            "files an empty one counts as none), or query all without: captions='empty' for an audit (--captions empty), none for a check."
        )
    if converted:
        return values, empty
    try:
        return [kind(value) for value in values], empty
    except (TypeError, ValueError) as error:
        raise SplitError(f"The classes of {where} must be integers, indices of the model's classes ({error}).") from error


def select_rows(captions: Sequence[Any] | None, rows: Iterable[Any]) -> Sequence[Any] | None:
    """Return the captions of some images, as a tuple of the same class if they are one, else as a list."""
    if captions is None:
        return None
    selected = [captions[row] for row in rows]
    return type(captions)(selected) if isinstance(captions, tuple) else selected


def _no_column(column: str, reader: CaptionReader) -> SplitError:
    """Return the error about a requested column without any value."""
    tables = [folder.metadata for folder in reader.metadata_folders if folder.metadata]
    names = dict.fromkeys(name for table in tables for name in table.columns)
    if not tables:
        files = f"{', '.join(METADATA_FILES[:-1])} or {METADATA_FILES[-1]}"
        problem, advice = f"in a {files} in {whole_path(min(reader.folders))}", "Add one, or don't name the column"
    elif column in names:
        problem, advice = f"with values for these images in {whole_path(tables[0].path)}", "Fill it in, or name another column"
    else:
        shown = ", ".join(map(printable, names))
        problem, advice = f"in {whole_path(tables[0].path)}; it has {shown}", "Name one of these"
    return SplitError(f"There is no column {column!r} {problem}. {advice}.")
