"""Sentences about captions beside images: those that are there and were not used, and those that are missing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from mia_hub.images.caption_reader import CaptionReader
from mia_hub.images.messages import printable
from mia_hub.images.metadata_files import FILE_COLUMN, METADATA_FILES, Columns

# Names in a sentence; further files are counted.
MOST_NAMED = 3


def caption_notes(
    reader: CaptionReader, columns: Columns, images: Sequence[Path], captions: Sequence[str | None], classes: Sequence[str | None]
) -> tuple[str, ...]:
    """Return what the reader of a result must know: one sentence for each kind of file that no image used, and on images left without.

    Args:
        reader: after all images were read.
        columns: that were read.
        images: that were read.
        captions, classes: one per image, None for an image without one.
    """
    without = [[image for image, value in zip(images, values) if value is None] for values in (captions, classes)]
    has_captions, has_classes = (len(lacking) < len(images) for lacking in without)
    notes = [
        *_texts(reader),
        *_rows(reader),
        *_metadata(reader),
        *([] if has_captions else _columns_of_captions(reader, columns)),
        *([] if has_captions or has_classes else _other_tables(reader)),
        *(_gaps(reader, without[0], "caption") if has_captions else ()),
        *(_gaps(reader, without[1], "class") if has_classes else ()),
    ]
    return tuple(notes)


def _gaps(reader: CaptionReader, images: Sequence[Path], what: str) -> Iterable[str]:
    if images:
        yield f"{_count(images, 'image')} without a {what}, or with an empty one, while others have one: {_names(reader, images)}."


def _texts(reader: CaptionReader) -> Iterable[str]:
    alone = [text for folder in reader.folders_below_root for text in folder.texts_without_image()]
    for texts, reason in (
        (alone, "no image of the same name is in the same folder"),
        (reader.unused_texts.for_metadata, "the captions of the same images are read from metadata"),
        (reader.unused_texts.for_texts, "another text file of the same image is read"),
    ):
        if texts:
            yield f"{_count(texts, 'text file')} not used, since {reason}: {_names(reader, texts)}."


def _rows(reader: CaptionReader) -> Iterable[str]:
    tables = [folder.metadata for folder in reader.metadata_folders if folder.metadata]
    rows = [(metadata.path, row, (metadata.path.parent, row.line)) for metadata in tables for row in metadata.rows]
    known, only_shadowed = reader.used_rows | reader.shadowed_rows, reader.shadowed_rows - reader.used_rows
    unknown = [path.parent / row.file_name for path, row, key in rows if key not in known]
    if unknown and reader.root is not None:
        yield f"{_count(unknown, 'row', 'of metadata ')} not used, since no image has this {FILE_COLUMN}: {_names(reader, unknown)}."
    shadowed = [path for path, _, key in rows if key in only_shadowed]
    if shadowed:
        where = _names(reader, list(dict.fromkeys(shadowed)))
        yield f"{_count(shadowed, 'row', 'of metadata ')} not used, since metadata nearer to the image has one, too: in {where}."


def _metadata(reader: CaptionReader) -> Iterable[str]:
    counted = reader.metadata_folders
    second = [folder.path / name for folder in counted for name in folder.metadata_names[1:]]
    unnamed = [folder.path / folder.metadata_names[0] for folder in counted if folder.metadata_names and not folder.metadata]
    elsewhere = [
        folder.path / name
        for folder in reader.folders_below_root
        if folder not in counted and not folder.has_images
        for name in folder.metadata_names
    ]
    for files, reason in (
        (second, f"of several in a folder one is read, in the order {', '.join(METADATA_FILES)}"),
        (unnamed, f"no column is called {FILE_COLUMN}"),
        (elsewhere, "no image is in the same folder or below it"),
    ):
        if files:
            yield f"{_count(files, 'metadata file')} not used, since {reason}: {_names(reader, files)}."


def _columns_of_captions(reader: CaptionReader, columns: Columns) -> Iterable[str]:
    """Say which columns metadata without captions has, and how to name one of them."""
    tables = [folder.metadata for folder in reader.metadata_folders if folder.metadata and folder.metadata.rows]
    tables = [table for table in tables if not set(columns.captions) & set(table.columns)]
    others = dict.fromkeys(name for table in tables for name in table.columns if not _known(name, columns))
    if others:
        usual = f"{', '.join(columns.captions[:-1])} or {columns.captions[-1]}"
        files = _names(reader, [table.path for table in tables])
        yield (
            f"No caption was read from {files}, since no column is called {usual}. The columns are "
            f"{_shown(list(map(printable, others)))}: name that of the captions with caption_column=… (--caption-column), or call it "
            f"{columns.captions[0]}."
        )


def _known(column: str, columns: Columns) -> bool:
    return not column or column.endswith(FILE_COLUMN) or column in columns.classes


def _other_tables(reader: CaptionReader) -> Iterable[str]:
    tables = [table for folder in reader.folders_below_root for table in folder.tables_not_read()]
    if tables:
        formats = f"{', '.join(METADATA_FILES[:-1])} or {METADATA_FILES[-1]}"
        yield f"{_count(tables, 'file')} not read: {_names(reader, tables)}. Captions are read from text files, {formats}."


def _count(things: Sequence[object], what: str, which: str = "") -> str:
    return f"1 {what} {which}is" if len(things) == 1 else f"{len(things):,} {what}s {which}are"


def _names(reader: CaptionReader, paths: Sequence[Path]) -> str:
    """Return the first paths, relative to the root: the rest of a path is private."""
    base = reader.root
    return _shown([printable(os.path.relpath(path, base) if base is not None else path.name) for path in paths[:MOST_NAMED]], len(paths))


def _shown(names: Sequence[str], count: int | None = None) -> str:
    further = (count or len(names)) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {further:,} more" if further > 0 else "")
