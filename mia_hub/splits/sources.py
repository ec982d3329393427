"""What a split can be made of: a data set on the Hub, a folder of images, Parquet files; or a split that is there already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mia_hub.errors import SplitError
from mia_hub.images.captions import annotations_beside, first_value
from mia_hub.images.image import InputImage
from mia_hub.images.sequences import MappedSequence
from mia_hub.images.sources import as_images, find_images
from mia_hub.splits.hub_rows import HubDataset, Rows
from mia_hub.splits.local_rows import open_local
from mia_hub.splits.member_split import MEMBER_NAMES, NONMEMBER_NAMES, MemberSplit
from mia_hub.splits.parts import ColumnNames, FetchOptions
from mia_hub.splits.reading import (
    further_columns,
    image_column,
    images_of,
    label_values,
    member_split_names,
    read_dataset,
    read_folder,
    read_parquet,
    read_rows,
    split_of_file,
)


@dataclass(frozen=True)
class Origin:
    """Where images come from, as the card of a split says it.

    Attributes:
        name: id on the Hub, or the last part of a path: what lies above it is nobody's business.
        split: of the data set, or None.
        config: of the data set, or None.
        revision: commit on the Hub, or None.
        license: as the source's own card states it, or None.
    """

    name: str
    split: str | None = None
    config: str | None = None
    revision: str | None = None
    license: str | None = None


@dataclass(frozen=True)
class Pool:
    """Images of which it isn't said yet which are members.

    Attributes:
        origin: where they come from.
        images: lazy.
        captions, classes: one per image, or None.
    """

    origin: Origin
    images: Sequence[InputImage]
    captions: Sequence | None = None
    classes: Sequence | None = None


def open_source(
    source: str | Path,
    *,
    config: str | None = None,
    revision: str | None = None,
    source_split: str | None = None,
    columns: ColumnNames | None = None,
    fetching: FetchOptions | None = None,
) -> tuple[Pool | MemberSplit, Origin]:
    """Opens what a split is to be made of.

    Args:
        source: a data set on the Hub, a folder, or a Parquet file.
        config, revision: of a data set on the Hub.
        source_split: which of its splits is drawn from; "train", or the only one, where None.
        columns: their names, where they aren't the usual ones.
        fetching: for a split that holds addresses in place of images.

    Returns:
        A `MemberSplit` if the source says which images are members, and otherwise a `Pool` to draw from; and where it comes from.

    Raises:
        SplitError: if it can't be read.
        ImageError: for a folder without images.
    """
    columns, fetching, path = columns or ColumnNames(), fetching or FetchOptions(), Path(source)
    if path.exists():
        for option, value in (("config", config), ("revision", revision)):
            if value is not None:
                raise SplitError(f"{option}={value!r} is for data sets on the Hub, and {source} is none; leave it out.")
        return _local(path, source_split, columns, fetching)
    if str(source).count("/") != 1:
        raise SplitError(f"{str(source)!r} is neither a folder, nor a Parquet file, nor a data set on the Hub of the form 'owner/name'.")
    dataset = HubDataset(str(source), config, revision)
    splits = dataset.splits
    if all(member_split_names(list(splits))) and source_split is None:
        return read_dataset(dataset, columns, fetching), Origin(dataset.name, None, config, dataset.commit, dataset.license)
    name = _chosen(list(splits), source_split, f"The data set {dataset.name}")
    rows = dataset.open(name, splits[name])
    origin = Origin(dataset.name, name, config, dataset.commit, dataset.license)
    if label_values(rows):
        return read_rows(rows, name, dataset.name, columns, fetching), origin
    return _pool(rows, origin, columns), origin


def _local(path: Path, source_split: str | None, columns: ColumnNames, fetching: FetchOptions) -> tuple[Pool | MemberSplit, Origin]:
    origin = Origin(path.resolve().name)
    folder = path if path.is_dir() else path.parent
    paths = sorted(path.glob("**/*.parquet")) if path.is_dir() else [path]
    if path.is_file() and path.suffix.lower() != ".parquet":
        raise SplitError(f"{path} is neither a folder nor a Parquet file; pass one of these, or a data set on the Hub.")
    if path.is_dir() and {child.name.lower() for child in path.iterdir() if child.is_dir()} & {*MEMBER_NAMES, *NONMEMBER_NAMES}:
        return read_folder(path, columns, fetching), origin
    if not paths:
        files = find_images(path)
        told = annotations_beside(files, caption_column=columns.caption_column, class_column=columns.class_column)
        return Pool(origin, as_images(files), told.captions, told.classes), origin
    splits: dict[str, list[Path]] = {}
    for file in paths:
        splits.setdefault(split_of_file(file, folder), []).append(file)
    if all(member_split_names(list(splits))) and source_split is None:
        return read_parquet(folder, paths, str(path), columns, fetching), origin
    name = _chosen(list(splits), source_split, str(path))
    rows = open_local(folder, splits[name])
    if label_values(rows):
        return read_rows(rows, name, str(path), columns, fetching), origin
    origin = Origin(origin.name, name if path.is_dir() else None)
    return _pool(rows, origin, columns), origin


def _chosen(splits: list[str], asked: str | None, name: str) -> str:
    wanted = asked or ("train" if "train" in splits else splits[0] if len(splits) == 1 else None)
    if wanted not in splits:
        missing = f"has no split {asked!r}; it has" if asked else "has several splits; name the one to draw from with --source-split:"
        raise SplitError(f"{name} {missing} {', '.join(splits) or 'none'}.")
    return wanted


def _pool(rows: Rows, origin: Origin, columns: ColumnNames) -> Pool:
    column, by_address = image_column(rows, columns.image_column, origin.name)
    if by_address:
        raise SplitError(
            f"{origin.name} holds no images, but their addresses (in the column {column!r}), and a split is drawn from images that are "
            "there. Download them first (img2dataset does it), and give the folder."
        )
    found = further_columns(rows.columns, columns, origin.name)
    captions, classes = (None if name is None else MappedSequence(rows.lazy(name), first_value) for name in found)
    return Pool(origin, images_of(rows.lazy(column)), captions, classes)
