"""Members and non-members of a folder, of Parquet files or of a data set on the Hub; nothing is read before it is needed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mia_hub.errors import ImageError, SplitError
from mia_hub.images.captions import CAPTION_COLUMNS, CLASS_COLUMNS, annotations_beside
from mia_hub.images.folders import list_folder
from mia_hub.images.image import InputImage
from mia_hub.images.metadata_files import first_value, is_metadata
from mia_hub.images.sequences import ConcatenatedSequence, MappedSequence, RepeatedItem
from mia_hub.images.sources import as_images
from mia_hub.splits.hub_rows import HubDataset, Rows, file_bytes
from mia_hub.splits.local_rows import open_local
from mia_hub.splits.member_split import MEMBER_NAMES, NONMEMBER_NAMES, MemberSplit, drawn_rows
from mia_hub.splits.origins import Origin
from mia_hub.splits.record_beside import record_beside, record_on_hub, with_record
from mia_hub.splits.split_part import ColumnNames, FetchOptions, SplitPart

LABEL_COLUMNS = ("label", "is_member", "member", "membership")
# Columns of true and false whose name says that true means member.
BOOLEAN_COLUMNS = ("is_member", "member", "membership")
IMAGE_COLUMNS = ("image", "img", "images")
URL_COLUMNS = ("url", "URL", "image_url", "img_url")
# Characters of a caption. Models read a few hundred; a compressed file holds millions in a few bytes.
MOST_TEXT = 2**16
NEEDED = (
    "It needs two splits, 'member' and 'nonmember', or a column 'label' of type ClassLabel with the names 'nonmember' and 'member', or a "
    "column 'is_member' of true and false; which of two unnamed values means member is not guessed."
)


def read_folder(folder: Path, columns: ColumnNames, fetching: FetchOptions) -> MemberSplit:
    """Read the split in a folder: ``member/`` and ``nonmember/`` with images in them, or Parquet files.

    Raises:
        SplitError: if it doesn't say which images are members.
    """
    named = {path.name.lower(): path for path in folder.iterdir() if path.is_dir()}
    members, nonmembers = (next((named[n] for n in names if n in named), None) for names in (MEMBER_NAMES, NONMEMBER_NAMES))
    if members and nonmembers:
        if not any(parquet_files(side) for side in (members, nonmembers)):
            return with_record(_read_image_folders(folder, members, nonmembers, columns), record_beside(folder))
    elif members or nonmembers:
        raise SplitError(f"The folder {folder} has a {'member' if members else 'nonmember'} folder but not the other; both are needed.")
    paths = parquet_files(folder, "**/*.parquet")
    if paths:
        return with_record(read_parquet(folder, paths, str(folder), columns, fetching), record_beside(folder))
    raise SplitError(
        f"The folder {folder} doesn't say which images are members: it needs a folder 'member' and a folder 'nonmember' of images "
        "(or Parquet files of two such splits, data/member-*.parquet and data/nonmember-*.parquet)."
    )


def _read_image_folders(folder: Path, members: Path, nonmembers: Path, columns: ColumnNames) -> MemberSplit:
    sides = [list_folder(members), list_folder(nonmembers)]
    files = [side.images for side in sides]
    named = {"caption_column": columns.caption_column, "class_column": columns.class_column}
    beside = annotations_beside([*files[0], *files[1]], root=folder, **named)
    left_out = tuple(note for side, owner in zip(sides, ("members", "non-members")) for note in side.sentences(owner))
    images = as_images(files[0]), as_images(files[1])
    return MemberSplit(str(folder), *images, beside.captions, None, beside.classes, (*left_out, *beside.notes))


def parquet_files(folder: Path, pattern: str = "*.parquet") -> list[Path]:
    """Return the Parquet files in a folder, sorted, without ``metadata.parquet`` of image files beside or below it."""
    return [path for path in sorted(folder.glob(pattern)) if not (is_metadata(path.name) and _has_images(path.parent))]


def _has_images(folder: Path) -> bool:
    try:
        return bool(list_folder(folder).images)
    except ImageError:
        return False


def read_parquet(folder: Path, paths: Sequence[Path], name: str, columns: ColumnNames, fetching: FetchOptions) -> MemberSplit:
    """Read the split in Parquet files: two splits by the names of files or folders, or one with a label column.

    Raises:
        SplitError: if they don't say which rows are members.
    """
    parts = [[path for path in paths if split_of_file(path, folder) in names] for names in (MEMBER_NAMES, NONMEMBER_NAMES)]
    if all(parts):
        return _split(name, [SplitPart(open_local(folder, files), None, files[0].parent.name) for files in parts], columns, fetching)
    if any(parts):
        raise SplitError(f"{name} has Parquet files of {'members' if parts[0] else 'non-members'} only; both splits are needed.")
    splits = sorted({split_of_file(path, folder) for path in paths})
    if len(splits) > 1:
        raise SplitError(f"The Parquet files of {name} are of the splits {', '.join(splits)}; needed are 'member' and 'nonmember'.")
    return read_rows(open_local(folder, paths), splits[0], name, columns, fetching)


def read_rows(rows: Rows, split: str, name: str, columns: ColumnNames, fetching: FetchOptions) -> MemberSplit:
    """Read the split in one table, by its label column.

    Raises:
        SplitError: if it doesn't say which rows are members.
    """
    return _split(name, _by_label(rows, split, name), columns, fetching, rows.commit)


def split_of_file(path: Path, folder: Path) -> str:
    """Return the split that a file belongs to: ``member`` for ``data/member-00000-of-00001.parquet`` and ``member/0.parquet``."""
    stem = re.sub(r"-\d+(-of-\d+)?([-.].*)?$", "", path.stem).lower()
    parents = [part.lower() for part in path.relative_to(folder).parts[:-1]]
    return next((part for part in reversed(parents) if part in MEMBER_NAMES + NONMEMBER_NAMES), stem)


def read_hub(name: str, config: str | None, revision: str | None, columns: ColumnNames, fetching: FetchOptions) -> MemberSplit:
    """Read the split in a data set on the Hub.

    Raises:
        SplitError: if it can't be read, or doesn't say which rows are members.
    """
    return read_dataset(HubDataset(name, config, revision), columns, fetching)


def member_split_names(names: Sequence[str]) -> list[str | None]:
    """Return which of some names are those of the members and of the non-members; None for a missing one."""
    return [next((n for n in names if n.lower() in known), None) for known in (MEMBER_NAMES, NONMEMBER_NAMES)]


def read_dataset(dataset: HubDataset, columns: ColumnNames, fetching: FetchOptions) -> MemberSplit:
    """Read the split in a data set that is already open, as `read_hub`."""
    splits = dataset.splits
    members, nonmembers = member_split_names(list(splits))
    if members is not None and nonmembers is not None:
        if all(path.endswith(".parquet") for split in (members, nonmembers) for path in splits[split]):
            dataset.require([*splits[members], *splits[nonmembers]])
        parts = [SplitPart(dataset.open(split, splits[split]), None, split) for split in (members, nonmembers)]
    elif len(splits) == 1:
        split, files = next(iter(splits.items()))
        parts = _by_label(dataset.open(split, files), split, f"The data set {dataset.name}")
    else:
        raise SplitError(f"The data set {dataset.name} has the splits {', '.join(splits)}; needed are 'member' and 'nonmember'.")
    origins = tuple(Origin(dataset.name, part.name, dataset.config, dataset.commit, dataset.license) for part in parts)
    read = replace(_split(dataset.name, parts, columns, fetching, dataset.commit), origins=origins)
    return with_record(read, record_on_hub(dataset))


def _by_label(rows: Rows, split: str, name: str) -> list[SplitPart]:
    """Return members and non-members of one table by its label column; the data itself must say which value means member."""
    label = label_values(rows)
    if label is None:
        raise SplitError(f"{name} doesn't say which images are members. {NEEDED}")
    column, values = label
    labels = rows.numbers(column)
    if (labels < 0).any():
        raise SplitError(f"{name}: {(labels < 0).sum():,} rows have no {column!r}; each must be a member or a non-member.")
    parts = [SplitPart(rows, np.flatnonzero(labels == value), split) for value in values]
    for lacking, part in zip(("members", "non-members"), parts):
        if not len(part):
            raise SplitError(
                f"{name} has no {lacking}: by the column {column!r}, none of the {len(rows):,} rows of its split {split!r} is one. "
                "Both members and non-members are needed."
            )
    return parts


def label_values(rows: Rows) -> tuple[str, tuple[int, int]] | None:
    """Return the column that says which rows are members, and its values for member and for non-member; None without such a column."""
    features = rows.features()
    for column in LABEL_COLUMNS:
        feature = features.get(column)
        names = [str(name).lower() for name in getattr(feature, "names", None) or ()]
        member, nonmember = member_split_names(names)
        if member is not None and nonmember is not None:
            _check_names(rows, column, names)
            return column, (names.index(member), names.index(nonmember))
        if getattr(feature, "dtype", None) == "bool" and column in BOOLEAN_COLUMNS:
            return column, (1, 0)
    return None


def _check_names(rows: Rows, column: str, names: list[str]) -> None:
    """Refuse a column whose classes have other names in the data set's card than in its files: one may have the sides swapped."""
    in_files = rows.names_in_files(column)
    if in_files and [str(name).lower() for name in in_files] != names:
        raise SplitError(
            f"The data set's card says that the classes of {column!r} are {', '.join(names)}, and its files say "
            f"{', '.join(map(str, in_files))}, in this order; which is right is not guessed. Correct the card, or write the files again."
        )


def image_column(rows: Rows, requested: str | None, name: str) -> tuple[str, bool]:
    """Return the column of images, and whether it holds their addresses instead.

    Raises:
        SplitError: if there is none.
    """
    candidates = (requested,) if requested else (*IMAGE_COLUMNS, *URL_COLUMNS)
    column = next((name for name in candidates if name in rows.columns), None)
    if column is None:
        raise SplitError(f"{name} has no column {requested or 'image'!r}; it has {', '.join(rows.columns)}. Name one with image_column=….")
    return column, rows.is_text(column)


def further_columns(names: Sequence[str], columns: ColumnNames, what: str) -> list[str | None]:
    """Return the columns of captions and of classes, None for a missing one.

    Raises:
        SplitError: if a requested one is missing.
    """
    further: list[str | None] = []
    for requested, usual in ((columns.caption_column, CAPTION_COLUMNS), (columns.class_column, CLASS_COLUMNS)):
        if requested and requested not in names:
            raise SplitError(f"{what} has no column {requested!r}; it has {', '.join(names)}.")
        further.append(next((name for name in ((requested,) if requested else usual) if name in names), None))
    return further


def images_of(cells: Sequence[Any]) -> Sequence[InputImage]:
    """Return the images in the cells of an image column."""
    return as_images(MappedSequence(cells, _image_file)) if len(cells) else ()


def _image_file(cell: Any) -> dict[str, bytes | str | None]:
    path = cell.get("path") if isinstance(cell, dict) else None
    content = file_bytes(cell)
    # Without bytes there is no path, either: a path that a stranger wrote is never opened.
    return {"bytes": content, "path": Path(path).name if path and content else None}


def _split(name: str, parts: list[SplitPart], columns: ColumnNames, fetching: FetchOptions, revision: str | None = None) -> MemberSplit:
    images = [image_column(part.rows, columns.image_column, name) for part in parts]
    further = [further_columns(part.rows.columns, columns, name) for part in parts]
    notes: tuple[str, ...] = ()
    if any(by_address for _, by_address in images):
        from mia_hub.splits.fetching import fetch_parts

        if fetching.limit is not None:
            drawn = drawn_rows([len(part) for part in parts], fetching.limit, fetching.seed)
            parts = [part.only(places) for part, places in zip(parts, drawn)]
        fetched = fetch_parts(name, parts, [column for column, _ in images], fetching, revision)
        (members, nonmembers), parts, name, notes = fetched.images, fetched.parts, fetched.name, fetched.notes
    else:
        members, nonmembers = (images_of(part.lazy(column)) for part, (column, _) in zip(parts, images))
    captions, classes = (_both_columns(parts, [columns[which] for columns in further]) for which in (0, 1))
    return MemberSplit(name, members, nonmembers, captions, revision, classes, notes)


def _both_columns(parts: list[SplitPart], columns: list[str | None]) -> Sequence[Any] | None:
    """Return captions, or classes, of two parts, of which one may have none."""
    if columns == [None, None]:
        return None
    members, nonmembers = (RepeatedItem(None, len(part)) if column is None else part.lazy(column) for part, column in zip(parts, columns))
    return MappedSequence(ConcatenatedSequence(members, nonmembers), _checked_length)


def _checked_length(cell: Any) -> Any:
    """Return a caption or class.

    Raises:
        SplitError: for a text so long that many of them would fill the memory.
    """
    value = first_value(cell)
    if isinstance(value, str) and len(value) > MOST_TEXT:
        raise SplitError(f"A caption has {len(value):,} characters; at most {MOST_TEXT:,} are read. Shorten it, or name another column.")
    return value
