"""Sources of a new split: a data set on the Hub, a folder of images, Parquet files, or an existing split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mia_hub.errors import SplitError
from mia_hub.images.captions import annotations_beside
from mia_hub.images.folders import list_folder
from mia_hub.images.image import InputImage
from mia_hub.images.metadata_files import first_value
from mia_hub.images.sequences import MappedSequence
from mia_hub.images.sources import as_images
from mia_hub.splits.hub_rows import HubDataset, Rows
from mia_hub.splits.local_rows import open_local
from mia_hub.splits.member_split import MEMBER_NAMES, NONMEMBER_NAMES, MemberSplit
from mia_hub.splits.origins import Origin
from mia_hub.splits.reading import (
    further_columns,
    image_column,
    images_of,
    label_values,
    member_split_names,
    parquet_files,
    read_dataset,
    read_folder,
    read_parquet,
    read_rows,
    split_of_file,
)
from mia_hub.splits.record_beside import record_beside, with_record
from mia_hub.splits.split_part import ColumnNames, FetchOptions


@dataclass(frozen=True)
class Pool:
    """Images that are not yet divided into members and non-members.

    Attributes:
        origin: of the images.
        images: lazy.
        captions, classes: one per image, or None.
        notes: what whoever draws from it must know of files that were not used, one sentence each.
    """

    origin: Origin
    images: Sequence[InputImage]
    captions: Sequence[Any] | None = None
    classes: Sequence[Any] | None = None
    notes: tuple[str, ...] = ()


def open_source(
    source: str | Path,
    *,
    config: str | None = None,
    revision: str | None = None,
    source_split: str | None = None,
    columns: ColumnNames | None = None,
    fetching: FetchOptions | None = None,
) -> tuple[Pool | MemberSplit, Origin]:
    """Open the source of a new split.

    Args:
        source: a data set on the Hub, a folder, or a Parquet file.
        config, revision: of a data set on the Hub.
        source_split: the split to draw from; None for "train", or the only one.
        columns: their names, if they aren't the usual ones.
        fetching: for a split that holds addresses in place of images.

    Returns:
        A `MemberSplit` if the source says which images are members, otherwise a `Pool` to draw from; and the origin.

    Raises:
        SplitError: if it can't be read.
        ImageError: for a folder without images.
    """
    columns, fetching, path = columns or ColumnNames(), fetching or FetchOptions(), Path(source)
    if path.exists():
        for option, value in (("config", config), ("revision", revision)):
            if value is not None:
                raise SplitError(f"{option}={value!r} is for data sets on the Hub, and {source} is not one; leave it out.")
        return _local(path, source_split, columns, fetching)
    if str(source).count("/") != 1:
        raise SplitError(f"{str(source)!r} is neither a folder, nor a Parquet file, nor a data set on the Hub of the form 'owner/name'.")
    dataset = HubDataset(str(source), config, revision)
    splits = dataset.splits
    if all(member_split_names(list(splits))) and source_split is None:
        return read_dataset(dataset, columns, fetching), Origin(dataset.name, None, config, dataset.commit, dataset.license)
    name = _split_to_draw_from(list(splits), source_split, f"The data set {dataset.name}")
    rows = dataset.open(name, splits[name])
    origin = Origin(dataset.name, name, config, dataset.commit, dataset.license)
    if label_values(rows):
        return read_rows(rows, name, dataset.name, columns, fetching), origin
    return _pool(rows, origin, columns), origin


def _local(path: Path, source_split: str | None, columns: ColumnNames, fetching: FetchOptions) -> tuple[Pool | MemberSplit, Origin]:
    origin = Origin(path.resolve().name)
    folder = path if path.is_dir() else path.parent
    paths = parquet_files(path, "**/*.parquet") if path.is_dir() else [path]
    if path.is_file() and path.suffix.lower() != ".parquet":
        raise SplitError(f"{path} is neither a folder nor a Parquet file; pass one of these, or a data set on the Hub.")
    if path.is_dir() and {child.name.lower() for child in path.iterdir() if child.is_dir()} & {*MEMBER_NAMES, *NONMEMBER_NAMES}:
        return read_folder(path, columns, fetching), origin
    if not paths:
        listing = list_folder(path)
        files = listing.images
        beside = annotations_beside(files, root=path, caption_column=columns.caption_column, class_column=columns.class_column)
        notes = (*listing.sentences(f"source {origin.name}"), *beside.notes)
        return Pool(origin, as_images(files), beside.captions, beside.classes, notes), origin
    splits: dict[str, list[Path]] = {}
    for file in paths:
        splits.setdefault(split_of_file(file, folder), []).append(file)
    if all(member_split_names(list(splits))) and source_split is None:
        split = read_parquet(folder, paths, str(path), columns, fetching)
        return with_record(split, record_beside(folder) if path.is_dir() else {}), origin
    name = _split_to_draw_from(list(splits), source_split, str(path))
    rows = open_local(folder, splits[name])
    if label_values(rows):
        return read_rows(rows, name, str(path), columns, fetching), origin
    origin = Origin(origin.name, name if path.is_dir() else None)
    return _pool(rows, origin, columns), origin


def _split_to_draw_from(splits: list[str], requested: str | None, name: str) -> str:
    split = requested or ("train" if "train" in splits else splits[0] if len(splits) == 1 else None)
    if split not in splits:
        several = "has several splits; name the one to draw from with --source-split:"
        problem = f"has no split {requested!r}; it has" if requested else several
        raise SplitError(f"{name} {problem} {', '.join(splits) or 'none'}.")
    return split


def _pool(rows: Rows, origin: Origin, columns: ColumnNames) -> Pool:
    column, by_address = image_column(rows, columns.image_column, origin.name)
    if by_address:
        raise SplitError(
            f"{origin.name} holds no images, but their addresses (in the column {column!r}), and a split is drawn from images at hand. "
            "Download them first (with img2dataset, for example), and give the folder."
        )
    further = further_columns(rows.columns, columns, origin.name)
    captions, classes = (None if name is None else MappedSequence(rows.lazy(name), first_value) for name in further)
    return Pool(origin, images_of(rows.lazy(column)), captions, classes)
