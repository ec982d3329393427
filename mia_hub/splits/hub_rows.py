"""The rows of a data set on the Hub, at one commit: of Parquet files only what is asked for is read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mia_hub.errors import SplitError
from mia_hub.images.sequences import MappedSequence
from mia_hub.splits.parquet_rows import ParquetRows
from mia_hub.system.hub import HUB_TIMEOUT, HubTask, hub_errors

# A file is downloaded into the Hub's cache if it is small, or once so much of it was asked for: then nothing is fetched twice ...
SMALL_FILE = 4 * 2**20
SHARE_WORTH_THE_FILE = 0.5
# ... but only where the Parquet files of the split together are no larger than this. Of larger ones nothing is kept on disk.
LARGEST_KEPT = 2 * 2**30


class Rows(Protocol):
    """Rows by number.

    Attributes:
        commit: of the data set; None in a folder.
        columns: their names.
        made_of: what was opened: the configuration, and the files.
    """

    commit: str | None
    columns: list[str]
    made_of: tuple[str | None, ...]

    def __len__(self) -> int: ...

    def features(self):
        """The columns' types, as a `datasets.Features`."""
        ...

    def names_in_files(self, name: str) -> list[str] | None:
        """The names of a column's classes that the files state, beside the data set's card; None where they state none."""
        ...

    def is_text(self, name: str) -> bool:
        """Whether a column holds texts."""
        ...

    def column(self, name: str) -> list:
        """One column of all rows."""
        ...

    def numbers(self, name: str) -> np.ndarray:
        """int16 ``[N]``: a column of class indices, or of true and false; -1 where there is none."""
        ...

    def lazy(self, name: str) -> Sequence:
        """One column, read when it is asked for. Images are files, undecoded: bytes, or a dict that holds ``bytes``."""
        ...

    def take(self, rows: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Some rows, increasing, with these columns; images as in `lazy`."""
        ...


class HubDataset:
    """A data set on the Hub. Its revision is resolved to a commit before anything is read, so that what is recorded is what was used.

    Args:
        name: ``owner/name``.
        config: its configuration; its only one, or its default, where None.
        revision: branch, ref, tag or commit; the newest of main where None.

    Attributes:
        commit: hash.
        sizes: bytes of every file, by path.
        license: as its card states it, or None.

    Raises:
        SplitError: if it can't be found or reached.
    """

    def __init__(self, name: str, config: str | None = None, revision: str | None = None):
        from huggingface_hub import HfApi

        self.name, self.config, self.revision = name, config, revision
        with self.errors():
            info = HfApi().dataset_info(name, revision=revision, timeout=HUB_TIMEOUT, files_metadata=True)
        self.commit: str = info.sha
        self.sizes = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or []}
        card = info.card_data.to_dict() if info.card_data else {}
        self.license = card["license"] if isinstance(card.get("license"), str) else None
        self._builder = None

    def errors(self):
        return dataset_errors(self.name, self.revision)

    @property
    def builder(self):
        """What `datasets` makes of the data set's own metadata."""
        if self._builder is None:
            with self.errors():
                self._builder = self.make_builder()
        return self._builder

    def make_builder(self, data_files: dict[str, list[str]] | None = None):
        """As `builder`, also of files that the metadata doesn't name."""
        import datasets

        found = datasets.load_dataset_builder(self.name, self.config, revision=self.commit, data_files=data_files)
        # Where it can't read this commit, `datasets` takes what it once prepared of any other.
        if type(found).__module__.startswith("datasets.packaged_modules.cache."):
            raise SplitError(
                f"The data set {self.name} could not be read at its commit {self.commit[:12]}. Check its card and files, or the network."
            )
        return found

    @property
    def splits(self) -> dict[str, list[str]]:
        """The files of each split, as the data set's own metadata names them.

        Raises:
            SplitError: if it names a file of another data set, or of another commit: what is read could change at any time.
        """
        stated = self.builder.config.data_files or {}
        return {str(split): [self._own(str(address)) for address in addresses] for split, addresses in stated.items()}

    def _own(self, address: str) -> str:
        """The path of a file of this data set at this commit."""
        path = address.removeprefix(f"hf://datasets/{self.name}@{self.commit}/")
        if path == address or "::" in path:
            raise SplitError(
                f"The data set {self.name} is refused: its card names a data file that isn't one of its own at the commit {self.commit}, "
                f"{address[:200]!r}, so that what is read could change at any time. Name files by their paths in the data set."
            )
        return path

    def files_of(self, split: str) -> list[str]:
        """The files of one split.

        Raises:
            SplitError: if there is no such split.
        """
        splits = self.splits
        if split not in splits:
            raise SplitError(f"The data set {self.name} has no split {split!r}; it has {', '.join(splits) or 'none'}.")
        return splits[split]

    def open(self, split: str, files: Sequence[str], *, stated: bool = True, pool: int | None = None) -> Rows:
        """The rows of a split.

        Args:
            split: its name.
            files: its files.
            stated: whether the data set's own metadata names them; otherwise they are given to `datasets` as the split.
            pool: look at so many rows only.

        Raises:
            SplitError: if it can't be read.
        """
        with self.errors():
            if all(path.endswith(".parquet") for path in files):
                types = (lambda: self.builder.info.features) if stated else None
                return ParquetRows(files, HubFiles(self, files), pool=pool, commit=self.commit, config=self.config, stated=types)
            return LoadedRows(self, split, list(files), pool, stated=stated)


class HubFiles:
    """Parquet files on the Hub."""

    def __init__(self, dataset: HubDataset, paths: Sequence[str]):
        self.dataset, self.errors = dataset, dataset.errors
        self._asked: Counter[str] = Counter()
        self._keep = sum(dataset.sizes.get(path, 0) for path in paths) <= LARGEST_KEPT

    def open(self, path: str):
        from huggingface_hub import HfFileSystem, try_to_load_from_cache

        name, commit = self.dataset.name, self.dataset.commit
        here = try_to_load_from_cache(name, path, revision=commit, repo_type="dataset")
        if isinstance(here, str):
            return open(here, "rb")
        return HfFileSystem().open(f"datasets/{name}@{commit}/{path}", "rb", cache_type="none")

    def announce(self, path: str, bytes_needed: int) -> None:
        from huggingface_hub import hf_hub_download

        size = self.dataset.sizes.get(path, 0)
        before, self._asked[path] = self._asked[path], self._asked[path] + bytes_needed
        worth = size <= SMALL_FILE or self._asked[path] > SHARE_WORTH_THE_FILE * size
        # Once over the mark it lies in the cache.
        if self._keep and worth and not before > SHARE_WORTH_THE_FILE * size:
            hf_hub_download(self.dataset.name, path, revision=self.dataset.commit, repo_type="dataset")


class LoadedRows:
    """Rows of anything that isn't Parquet (archives, folders of images, CSV): loaded whole by `datasets`, which keeps them on disk."""

    def __init__(self, dataset: HubDataset, split: str, files: list[str], pool: int | None, *, stated: bool):
        import datasets

        data_files = None if stated else {split: files}
        self.made_of = (dataset.config, *files)
        builder = dataset.make_builder(data_files)
        builder.download_and_prepare()
        loaded = builder.as_dataset(split=split)
        self._images = [name for name, feature in loaded.features.items() if isinstance(feature, datasets.Image)]
        for name in self._images:
            # Undecoded, so that our own safe decoder opens every image.
            loaded = loaded.cast_column(name, datasets.Image(decode=False))
        self._loaded = loaded.select(range(min(len(loaded), pool or len(loaded))))
        self._own_files = _OwnFiles(dataset)
        self.commit, self.columns = dataset.commit, self._loaded.column_names

    def __len__(self) -> int:
        return len(self._loaded)

    def features(self):
        return self._loaded.features

    def names_in_files(self, name: str) -> list[str] | None:
        return None

    def is_text(self, name: str) -> bool:
        return getattr(self._loaded.features[name], "dtype", None) in ("string", "large_string")

    def column(self, name: str) -> list:
        return list(self._loaded[name])

    def numbers(self, name: str) -> np.ndarray:
        values = (-1 if value is None else min(int(value), 2**15 - 1) for value in self._loaded[name])
        return np.fromiter(values, np.int16, len(self))

    def lazy(self, name: str) -> Sequence:
        values = self._loaded[name]
        return MappedSequence(values, self._own_files.filled) if name in self._images else values

    def take(self, rows: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        some = self._loaded.select_columns(list(columns))
        for row in rows:
            cells = some[int(row)].items()
            yield int(row), {name: self._own_files.filled(value) if name in self._images else value for name, value in cells}


class _OwnFiles:
    """The files of a data set at its commit, where `datasets` leaves them: in the Hub's cache."""

    def __init__(self, dataset: HubDataset):
        from huggingface_hub.constants import HF_HUB_CACHE
        from huggingface_hub.file_download import repo_folder_name

        folder = repo_folder_name(repo_id=dataset.name, repo_type="dataset")
        self._snapshot = Path(os.path.abspath(HF_HUB_CACHE), folder, "snapshots", dataset.commit)

    def filled(self, cell: Mapping | None) -> Mapping | None:
        """A cell of an image column with the file's content.

        A path that leads anywhere else, into another data set's files, say, was written by whoever made this one, and is not followed.
        """
        if cell is None or cell.get("bytes") is not None or not cell.get("path"):
            return cell
        # Not resolved: the client's own links lead out of the folder.
        path = Path(os.path.abspath(cell["path"]))
        if not path.is_relative_to(self._snapshot) or not path.is_file():
            return {"bytes": None, "path": None}
        return {"bytes": path.read_bytes(), "path": path.name}


def file_bytes(value: Any) -> bytes | None:
    """The image file in a cell of an image column; None if the cell holds none. A path in it, which a stranger wrote, is not followed."""
    if isinstance(value, Mapping):
        value = value.get("bytes")
    return value if isinstance(value, bytes) else None


def look_up_dataset(name: str, revision: str | None = None) -> tuple[str, dict[str, int]]:
    """What a stranger's name of a data set stands for on the Hub, looked up as anyone sees it, without a login.

    Args:
        name: its Hub id.
        revision: branch, tag or commit; the newest by default.

    Returns:
        The commit that it is at, and the bytes of each file by its path.

    Raises:
        SplitError: if it isn't there for everyone.
    """
    from huggingface_hub import HfApi

    with dataset_errors(name, revision):
        info = HfApi(token=False).dataset_info(name, revision=revision, timeout=HUB_TIMEOUT, files_metadata=True)
    if info.gated:
        raise SplitError(f"The data set {name} is gated, so that not everyone may see what a result is about; name one that is open.")
    return info.sha, {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or []}


def dataset_errors(name: str, revision: str | None) -> AbstractContextManager[None]:
    """Translate the errors of the Hub's clients, and of `datasets` for a broken data set, into `SplitError`."""
    return hub_errors(HubTask("dataset", name, revision), SplitError, any_error=True)
