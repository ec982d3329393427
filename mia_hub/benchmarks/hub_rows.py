"""The rows of one split of a data set on the Hub, at one commit: of Parquet files only what is asked for is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fnmatch import fnmatch
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from mia_hub.benchmarks.source import Source
from mia_hub.errors import SplitError, first_line

# Footers are small and many, and each waits for the network.
WORKERS = 8
# A file of which more is needed is downloaded whole, by the Hub's client, which keeps it and goes on after an interruption.
SHARE_WORTH_THE_FILE = 0.5
SMALL_FILE = 32 * 2**20


class Rows(Protocol):
    """Rows by number.

    Attributes:
        commit: of the data set.
        columns: their names.
    """

    commit: str
    columns: list[str]

    def __len__(self) -> int: ...

    def column(self, name: str) -> list:
        """One column of all rows."""
        ...

    def take(self, rows: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Some rows, increasing, with these columns. Pictures are files, undecoded: bytes, or a dict that holds ``bytes``."""
        ...


def open_rows(source: Source) -> Rows:
    """Resolves the revision, and opens the split at that commit.

    Raises:
        SplitError: if the data set can't be found or reached, is gated, has no such split or files, or more or fewer rows than stated.
    """
    from huggingface_hub import HfApi

    from mia_hub.models.repository import HUB_TIMEOUT

    with dataset_errors(source):
        info = HfApi().dataset_info(source.dataset, revision=source.revision, timeout=HUB_TIMEOUT, files_metadata=True)
        sizes = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or []}
        files = _matching(source, sizes) if source.files else _stated_files(source, info.sha)
        parquet = all(path.endswith(".parquet") for path in files)
        rows: Rows = (
            ParquetRows(source, info.sha, {path: sizes.get(path, 0) for path in files}) if parquet else LoadedRows(source, info.sha)
        )
        found = len(rows)
    if source.rows is not None and found != min(source.rows, source.pool or source.rows):
        raise SplitError(
            f"The split {source.split!r} of {source.dataset} has {found:,} rows at commit {info.sha[:12]}, and {source.rows:,} are "
            "expected: with another number another draw would be made. Name a revision that has as many, in a copy of the benchmark's file."
        )
    return rows


def _matching(source: Source, paths) -> list[str]:
    found = sorted(path for path in paths if any(fnmatch(path, pattern) for pattern in source.files))
    if not found:
        raise SplitError(f"The data set {source.dataset} has no file {' or '.join(map(repr, source.files))} at this revision.")
    return found


def _stated_files(source: Source, commit: str) -> list[str]:
    """The files of the split, as the data set's own metadata names them."""
    import datasets

    stated = datasets.load_dataset_builder(source.dataset, source.config, revision=commit).config.data_files or {}
    if source.split not in stated:
        raise SplitError(f"The data set {source.dataset} has no split {source.split!r}; it has {', '.join(map(str, stated)) or 'none'}.")
    return [str(path).partition(f"@{commit}/")[2] for path in stated[source.split]]


class ParquetRows:
    """Rows of Parquet files on the Hub; ``pool`` is all that is looked at."""

    def __init__(self, source: Source, commit: str, sizes: dict[str, int]):
        self.dataset, self.commit, self.pool = source.dataset, commit, source.pool
        self._sizes = sizes
        self._footers: dict[str, Any] = {}
        paths = list(sizes)
        # With a pool, the first files may be all that is needed.
        step = WORKERS if self.pool else len(paths)
        for start in range(0, len(paths), step):
            part = paths[start : start + step]
            with ThreadPoolExecutor(WORKERS) as workers:
                self._footers |= dict(zip(part, workers.map(self._footer, part)))
            if self.pool and sum(footer.num_rows for footer in self._footers.values()) >= self.pool:
                break
        self.columns = next(iter(self._footers.values())).schema.to_arrow_schema().names

    def _open(self, path: str):
        from huggingface_hub import HfFileSystem, try_to_load_from_cache

        here = try_to_load_from_cache(self.dataset, path, revision=self.commit, repo_type="dataset")
        if isinstance(here, str):
            return open(here, "rb")
        return HfFileSystem().open(f"datasets/{self.dataset}@{self.commit}/{path}", "rb", cache_type="none")

    def _footer(self, path: str):
        import pyarrow.parquet as pq

        with self._open(path) as file:
            return pq.read_metadata(file)

    @cached_property
    def _groups(self) -> list[tuple[str, int, int, int]]:
        """File, row group, its first row and the row after its last, in order."""
        found, start = [], 0
        for path, footer in self._footers.items():
            for group in range(footer.num_row_groups):
                found.append((path, group, start, start := start + footer.row_group(group).num_rows))
        return found

    def __len__(self) -> int:
        rows = self._groups[-1][3] if self._groups else 0
        return min(rows, self.pool or rows)

    def column(self, name: str) -> list:
        import pyarrow.parquet as pq

        def read(path: str) -> list:
            with self._open(path) as file:
                opened = pq.ParquetFile(file, metadata=self._footers[path])
                # As many row groups as the pool reaches into.
                groups = [group for p, group, start, _ in self._groups if p == path and start < len(self)]
                return opened.read_row_groups(groups, columns=[name])[name].to_pylist() if groups else []

        with ThreadPoolExecutor(WORKERS) as workers:
            parts = list(workers.map(read, self._footers))
        return [value for part in parts for value in part][: len(self)]

    def take(self, rows: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        import pyarrow.parquet as pq

        rows = np.asarray(rows)
        wanted = {}
        for path, group, start, stop in self._groups:
            here = rows[(rows >= start) & (rows < stop)]
            if len(here):
                wanted.setdefault(path, []).append((group, start, here))
        for path, groups in wanted.items():
            self._fetch_if_worth_it(path, [group for group, _, _ in groups], columns)
            with self._open(path) as file:
                opened = pq.ParquetFile(file, metadata=self._footers[path])
                for group, start, here in groups:
                    table = opened.read_row_group(group, columns=list(columns)).take(here - start)
                    yield from zip(map(int, here), table.to_pylist())

    def _fetch_if_worth_it(self, path: str, groups: list[int], columns: Sequence[str]) -> None:
        from huggingface_hub import hf_hub_download

        footer, size = self._footers[path], self._sizes[path]
        names = set(columns)
        needed = 0
        for group in groups:
            chunks = (footer.row_group(group).column(i) for i in range(footer.num_columns))
            needed += sum(chunk.total_compressed_size for chunk in chunks if chunk.path_in_schema.split(".")[0] in names)
        if size <= SMALL_FILE or needed > SHARE_WORTH_THE_FILE * size:
            hf_hub_download(self.dataset, path, revision=self.commit, repo_type="dataset")


class LoadedRows:
    """Rows of anything that isn't Parquet (archives, folders of pictures, CSV): loaded whole by `datasets`, which keeps them on disk."""

    def __init__(self, source: Source, commit: str):
        import datasets

        files = {source.split: list(source.files)} if source.files else None
        loaded = datasets.load_dataset(source.dataset, source.config, revision=commit, data_files=files, split=source.split)
        for name, feature in loaded.features.items():
            if isinstance(feature, datasets.Image):
                # Undecoded, so that our own safe decoder opens every picture.
                loaded = loaded.cast_column(name, datasets.Image(decode=False))
        self._loaded = loaded.select(range(min(len(loaded), source.pool or len(loaded))))
        self.commit, self.columns = commit, self._loaded.column_names

    def __len__(self) -> int:
        return len(self._loaded)

    def column(self, name: str) -> list:
        return list(self._loaded[name])

    def take(self, rows: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        some = self._loaded.select_columns(list(columns))
        for row in rows:
            yield int(row), some[int(row)]


def file_bytes(value: Any) -> bytes | None:
    """The picture file in a cell of an image column; None if the cell holds none."""
    if isinstance(value, dict):
        value = value.get("bytes")
    return value if isinstance(value, bytes) else None


@contextmanager
def dataset_errors(source: Source):
    """The errors of the Hub's clients, said for a person."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    name = source.dataset
    try:
        yield
    except SplitError:
        raise
    except RevisionNotFoundError as error:
        raise SplitError(f"The data set {name} has no revision {source.revision!r}.") from error
    except Exception as error:  # the clients raise many kinds for an unreachable Hub or a broken data set
        # `datasets` has no error class for a gated data set.
        if isinstance(error, GatedRepoError) or "is a gated dataset" in str(error):
            raise SplitError(
                f"The data set {name} is gated: accept its terms on https://huggingface.co/datasets/{name}, then log in with "
                "'hf auth login'."
            ) from error
        if isinstance(error, RepositoryNotFoundError):
            raise SplitError(
                f"The Hub has no data set {name!r} that you may see. Check the spelling, or log in with 'hf auth login'."
            ) from error
        raise SplitError(f"The data set {name} could not be read ({type(error).__name__}: {first_line(error)[:200]}).") from error
