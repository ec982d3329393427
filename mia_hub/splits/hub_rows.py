"""The rows of a data set on the Hub, at one commit; of Parquet files only the needed row groups are read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from mia_hub.errors import SplitError
from mia_hub.images.sequences import MappedSequence
from mia_hub.splits.hub_listing import Configuration, open_listing, snapshot_folder, table_key
from mia_hub.splits.parquet_rows import ParquetRows
from mia_hub.system.hub import HUB_TIMEOUT, HubTask, hub_errors

# A file is downloaded into the Hub's cache if it is small, or once this share of it was needed: then nothing is fetched twice ...
SMALL_FILE = 4 * 2**20
SHARE_WORTH_THE_FILE = 0.5
# ... but only if the Parquet files of the split together are no larger than this. Nothing of larger splits is written to disk.
LARGEST_CACHED = 2 * 2**30


class Rows(Protocol):
    """Rows of a table by number.

    Attributes:
        commit: of the data set; None in a folder.
        columns: their names.
        sources: what was opened: the configuration, and the files.
    """

    commit: str | None
    columns: list[str]
    sources: tuple[str | None, ...]

    def __len__(self) -> int: ...

    def features(self) -> Any:
        """Return the columns' types, as a `datasets.Features`."""
        ...

    def names_in_files(self, name: str) -> list[str] | None:
        """Return the names of a column's classes in the files, apart from the data set's card; None if they state none."""
        ...

    def is_text(self, name: str) -> bool:
        """Whether a column holds texts."""
        ...

    def column(self, name: str) -> list[Any]:
        """Return one column of all rows."""
        ...

    def numbers(self, name: str) -> npt.NDArray[np.int16]:
        """Return a column of class indices, or of true and false, as int16 ``[N]``; -1 for a missing value."""
        ...

    def lazy(self, name: str) -> Sequence[Any]:
        """Return one column, read when it is indexed. Images are undecoded files: bytes, or a dict that holds ``bytes``."""
        ...

    def take(self, rows: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield some rows, increasing, with these columns; images as in `lazy`."""
        ...


class HubDataset:
    """A data set on the Hub. Its revision is resolved to a commit before anything is read, so that the recorded commit is the one used.

    Args:
        name: ``owner/name``, in any spelling that leads to it: in other case, or as it was before it was renamed.
        config: its configuration; None for its only one, or its default.
        revision: branch, ref, tag or commit; None for the newest of main.

    Attributes:
        name: as the Hub spells it.
        commit: hash.
        sizes: bytes of every file, by path.
        license: in its card, or None.

    Without a network, what was used before is read from the Hub's cache.

    Raises:
        SplitError: if it can't be found, or reached and found in the cache.
    """

    def __init__(self, name: str, config: str | None = None, revision: str | None = None):
        self.name, self.config, self.revision = name, config, revision
        with self.errors():
            self.listing = open_listing(name, revision)
        self.name, self.commit, self.sizes, self.license = (
            self.listing.name,
            self.listing.commit,
            self.listing.sizes,
            self.listing.license,
        )
        self._configuration: Configuration | None = None

    def errors(self) -> AbstractContextManager[None]:
        """Translate the errors of reading the data set into `SplitError`."""
        return dataset_errors(self.name, self.revision)

    @property
    def is_offline(self) -> bool:
        """Whether the Hub couldn't be reached, so that only its cache serves."""
        return self.listing.unreachable is not None

    @property
    def configuration(self) -> Configuration:
        """The splits and the column types by the data set's own metadata.

        Raises:
            SplitError: if it names a file of another data set, or of another commit, which could change at any time.
        """
        if self._configuration is None:
            key = self.config or ""
            if not (self.is_offline and key in self.listing.configurations):
                self.listing.configurations[key] = self._read_configuration()
                self.listing.save()
            self._configuration = self.listing.configurations[key]
        return self._configuration

    def _read_configuration(self) -> Configuration:
        with self.errors():
            builder = self.make_builder()
            features = builder.info.features
            splits = {str(split): [self._own(str(each)) for each in paths] for split, paths in (builder.config.data_files or {}).items()}
        return Configuration(splits, None if features is None else features.to_dict())

    def features(self) -> Any:
        """Return the column types in the data set's card, as a `datasets.Features`; None if it states none."""
        import datasets

        stated = self.configuration.features
        return None if stated is None else datasets.Features.from_dict(stated)

    def make_builder(self, data_files: dict[str, list[str]] | None = None) -> Any:
        """Return the builder that `datasets` makes of the data set's own metadata, or of files that it doesn't name.

        Args:
            data_files: the files of each split; None for those of the metadata.
        """
        import datasets

        if self.is_offline:
            folder = self.listing.snapshot(
                [*self.sizes] if data_files is None else [path for paths in data_files.values() for path in paths]
            )
            files = data_files and {split: [str(folder / path) for path in paths] for split, paths in data_files.items()}
            return datasets.load_dataset_builder(str(folder), self.config, data_files=files)
        builder = datasets.load_dataset_builder(self.name, self.config, revision=self.commit, data_files=data_files)
        # If it can't read this commit, `datasets` uses what it once prepared of any other.
        if type(builder).__module__.startswith("datasets.packaged_modules.cache."):
            raise SplitError(
                f"The data set {self.name} could not be read at its commit {self.commit[:12]}. Check its card and files, or the network."
            )
        return builder

    @property
    def splits(self) -> dict[str, list[str]]:
        """The files of each split, by the data set's own metadata; see `configuration`."""
        return self.configuration.splits

    def _own(self, address: str) -> str:
        """Return the path of a file of this data set at this commit."""
        folder = f"hf://datasets/{self.name}@{self.commit}"
        if self.is_offline:
            folder, address = str(snapshot_folder(self.name, self.commit)), os.path.abspath(address)
        path = address.removeprefix(f"{folder}/")
        if path == address or "::" in path:
            raise SplitError(
                f"The data set {self.name} is refused: its card names the data file {address[:200]!r}, which isn't one of its own at "
                f"the commit {self.commit} and could change at any time. Name files by their paths in the data set."
            )
        return path

    def files_of(self, split: str) -> list[str]:
        """Return the files of one split.

        Raises:
            SplitError: if there is no such split.
        """
        splits = self.splits
        if split not in splits:
            raise SplitError(f"The data set {self.name} has no split {split!r}; it has {', '.join(splits) or 'none'}.")
        return splits[split]

    def open(self, split: str, files: Sequence[str], *, stated: bool = True, pool: int | None = None) -> Rows:
        """Open the rows of a split.

        Args:
            split: its name.
            files: its files.
            stated: whether the data set's own metadata names them; otherwise they are passed to `datasets` as the split.
            pool: the number of rows that are used; None for all.

        Raises:
            SplitError: if it can't be read.
        """
        with self.errors():
            if all(path.endswith(".parquet") for path in files):
                if pool is None:
                    self.require(files)
                types: Callable[[], Any] | None = self.features if stated else None
                return ParquetRows(files, HubFiles(self, files), pool=pool, commit=self.commit, config=self.config, stated=types)
            return LoadedRows(self, split, list(files), pool, stated=stated)

    def require(self, files: Sequence[str]) -> None:
        """Refuse files that are missing in the cache when the Hub can't be reached.

        Raises:
            SplitError: if any is; it names them, and the command that fetches them.
        """
        if self.is_offline:
            self.listing.snapshot(files)


class HubFiles:
    """Parquet files on the Hub."""

    def __init__(self, dataset: HubDataset, paths: Sequence[str]):
        self.dataset, self.errors = dataset, dataset.errors
        self._needed: Counter[str] = Counter()
        self._cached = sum(dataset.sizes.get(path, 0) for path in paths) <= LARGEST_CACHED

    def open(self, path: str) -> BinaryIO:
        from huggingface_hub import HfFileSystem

        name, commit = self.dataset.name, self.dataset.commit
        cached = self.dataset.listing.cached(path)
        if cached is not None:
            return open(cached, "rb")
        self.dataset.require([path])
        remote: BinaryIO = HfFileSystem().open(f"datasets/{name}@{commit}/{path}", "rb", cache_type="none")
        return remote

    def announce(self, path: str, bytes_needed: int) -> None:
        from huggingface_hub import hf_hub_download

        size = self.dataset.sizes.get(path, 0)
        before, self._needed[path] = self._needed[path], self._needed[path] + bytes_needed
        worthwhile = size <= SMALL_FILE or self._needed[path] > SHARE_WORTH_THE_FILE * size
        # Once above the share, it is in the cache.
        if self._cached and not self.dataset.is_offline and worthwhile and not before > SHARE_WORTH_THE_FILE * size:
            hf_hub_download(self.dataset.name, path, revision=self.dataset.commit, repo_type="dataset")


class LoadedRows:
    """Rows of anything that isn't Parquet (archives, folders of images, CSV): downloaded whole by `datasets`, and stored on disk."""

    def __init__(self, dataset: HubDataset, split: str, files: list[str], pool: int | None, *, stated: bool):
        import datasets

        self.sources = (dataset.config, *files)
        loaded = _prepared_table(dataset, split, files, stated=stated)
        self._images = [name for name, feature in loaded.features.items() if isinstance(feature, datasets.Image)]
        for name in self._images:
            # Undecoded: our own safe decoder opens every image.
            loaded = loaded.cast_column(name, datasets.Image(decode=False))
        self._loaded = loaded.select(range(min(len(loaded), pool or len(loaded))))
        self._own_files = _OwnFiles(dataset)
        self.commit: str | None = dataset.commit
        self.columns: list[str] = self._loaded.column_names

    def __len__(self) -> int:
        return len(self._loaded)

    def features(self) -> Any:
        return self._loaded.features

    def names_in_files(self, name: str) -> list[str] | None:
        return None

    def is_text(self, name: str) -> bool:
        return getattr(self._loaded.features[name], "dtype", None) in ("string", "large_string")

    def column(self, name: str) -> list[Any]:
        return list(self._loaded[name])

    def numbers(self, name: str) -> npt.NDArray[np.int16]:
        values = (-1 if value is None else min(int(value), 2**15 - 1) for value in self._loaded[name])
        return np.fromiter(values, np.int16, len(self))

    def lazy(self, name: str) -> Sequence[Any]:
        values: Sequence[Any] = self._loaded[name]
        return MappedSequence(values, self._own_files.with_bytes) if name in self._images else values

    def take(self, rows: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        some = self._loaded.select_columns(list(columns))
        for row in rows:
            cells = some[int(row)].items()
            yield int(row), {name: self._own_files.with_bytes(value) if name in self._images else value for name, value in cells}


def _prepared_table(dataset: HubDataset, split: str, files: list[str], *, stated: bool) -> Any:
    """Return the `datasets.Dataset` that `datasets` makes of a split; without a network the one that it made before, if there is one."""
    import datasets

    listing, key = dataset.listing, table_key(dataset.config, split, files)
    tables = listing.tables.get(key, [])
    if dataset.is_offline and tables and all(os.path.isfile(path) for path in tables):
        return datasets.concatenate_datasets([datasets.Dataset.from_file(path) for path in tables])
    builder = dataset.make_builder(None if stated else {split: files})
    builder.download_and_prepare()
    loaded = builder.as_dataset(split=split)
    listing.tables[key] = [cached["filename"] for cached in loaded.cache_files]
    listing.save()
    return loaded


class _OwnFiles:
    """The files of a data set at its commit, which `datasets` leaves in the Hub's cache."""

    def __init__(self, dataset: HubDataset):
        self._snapshot = snapshot_folder(dataset.name, dataset.commit)

    def with_bytes(self, cell: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """Return a cell of an image column with the file's content.

        A path that leads elsewhere, such as into another data set's files, is not followed: whoever made this data set wrote it.
        """
        if cell is None or cell.get("bytes") is not None or not cell.get("path"):
            return cell
        # Not resolved: the client's own links lead out of the folder.
        path = Path(os.path.abspath(cell["path"]))
        if not path.is_relative_to(self._snapshot) or not path.is_file():
            return {"bytes": None, "path": None}
        return {"bytes": path.read_bytes(), "path": path.name}


def file_bytes(value: Any) -> bytes | None:
    """Return the image file in a cell of an image column, or None. A path in the cell, which a stranger wrote, is not followed."""
    if isinstance(value, Mapping):
        value = value.get("bytes")
    return value if isinstance(value, bytes) else None


@dataclass(frozen=True)
class PublicDataset:
    """A data set on the Hub that anyone can read.

    Attributes:
        name: ``owner/name``, as the Hub spells it.
        commit: hash.
        sizes: bytes of each file by its path.
    """

    name: str
    commit: str
    sizes: dict[str, int]


def look_up_dataset(name: str, revision: str | None = None) -> PublicDataset:
    """Look up a data set that a stranger named, without a login.

    Args:
        name: its Hub id, in any spelling that leads to it.
        revision: branch, tag or commit; the newest by default.

    Raises:
        SplitError: if not everyone may see it.
    """
    from huggingface_hub import HfApi

    with dataset_errors(name, revision):
        info = HfApi(token=False).dataset_info(name, revision=revision, timeout=HUB_TIMEOUT, files_metadata=True)
    if info.gated:
        raise SplitError(f"The data set {name} is gated, so that not everyone may see what a result is about; name one that is open.")
    assert info.sha is not None  # the Hub always states it for one repository
    return PublicDataset(info.id, info.sha, {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or []})


def dataset_errors(name: str, revision: str | None) -> AbstractContextManager[None]:
    """Translate the errors of the Hub's clients, and of `datasets` for a broken data set, into `SplitError`."""
    return hub_errors(HubTask("dataset", name, revision), SplitError, any_error=True)
