"""Rows of Parquet files, in a folder or on the Hub; only footers and the needed row groups are read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from mia_hub.errors import SplitError, first_line
from mia_hub.images.sequences import LazySequence
from mia_hub.splits.file_spans import FileSpans, chunk_span
from mia_hub.splits.parquet_footer import bytes_in_memory, chunks, class_names, dictionary_columns, difference, rows_in_groups, stated_types

# Threads that read footers, which are small and many, and on the Hub wait for the network.
WORKERS = 8
# Footers in memory; those of further files are read again.
FOOTERS_KEPT = 64
# Bytes of each column's row groups in memory; the row group last used is always in memory.
CACHED_BYTES = 64 * 2**20
# Bytes of row groups that are fetched together when a column is read in order, so that short texts don't wait for each row group.
AHEAD_BYTES = 2 * 2**20
MOST_AHEAD = 64
# A small file may state a huge row group, or hugely many rows; larger ones are refused before they are read.
MOST_GROUP_BYTES = 2**30
MOST_ROWS = 10**8


class Files(Protocol):
    """The place of Parquet files."""

    def open(self, path: str) -> BinaryIO: ...

    def announce(self, path: str, bytes_needed: int) -> None:
        """Receive the number of bytes that are about to be read, so that a file can be fetched whole if that is worthwhile."""
        ...

    def errors(self) -> AbstractContextManager[None]:
        """Translate the errors of reading into `SplitError`."""
        ...


class LocalFiles:
    """Files in a folder."""

    def open(self, path: str) -> BinaryIO:
        return open(path, "rb")

    def announce(self, path: str, bytes_needed: int) -> None:
        pass

    @contextmanager
    def errors(self) -> Iterator[None]:
        import pyarrow as pa

        try:
            yield
        except (OSError, pa.ArrowException) as error:
            raise SplitError(f"A Parquet file can't be read ({first_line(error)[:300]}). Check the file, or write it again.") from error


class ParquetRows:
    """Rows of Parquet files by number.

    Args:
        paths: of the files, in order.
        files: their place; a local folder by default.
        pool: the number of rows that are used, and as many files as hold them; None for all.
        commit: of the data set, or None.
        config: of the data set, or None.
        stated: returns the column types in the data set's card, a `datasets.Features` or None; they take precedence over the files'.

    Attributes:
        columns: their names.
        sources: what was opened: the configuration, and the files.

    Raises:
        SplitError: if a file can't be read, or the files' columns differ.
    """

    def __init__(
        self,
        paths: Iterable[str | Path],
        files: Files | None = None,
        *,
        pool: int | None = None,
        commit: str | None = None,
        config: str | None = None,
        stated: Callable[[], Any] | None = None,
    ):
        self.files, self.pool, self.commit, self._stated = files or LocalFiles(), pool, commit, stated
        self.paths = [str(path) for path in paths]
        self.sources = (config, *self.paths)
        self._footer = lru_cache(maxsize=FOOTERS_KEPT)(self._read_footer)
        with self.files.errors():
            self._schema = self._footer(self.paths[0]).schema.to_arrow_schema()
            sizes = self._group_sizes()
        self.columns: list[str] = self._schema.names
        # One entry per row group: its file, its number there, and the row after its last.
        self._file = np.repeat(np.arange(len(sizes), dtype=np.int32), [len(part) for part in sizes])
        self._number = np.concatenate([np.arange(len(part), dtype=np.int32) for part in sizes])
        self._ends = np.cumsum(np.concatenate(sizes))
        if len(self) > MOST_ROWS:
            problem = f"{self.paths[0]} and the other files of its split have {len(self):,} rows"
            raise SplitError(f"{problem}; at most {MOST_ROWS:,} are read. Make a smaller split.")

    def _group_sizes(self) -> list[npt.NDArray[np.int64]]:
        """Return the rows in each row group of each file; with a pool, only of the first files that hold it."""
        sizes: list[npt.NDArray[np.int64]] = []
        step = WORKERS if self.pool else len(self.paths)
        for start in range(0, len(self.paths), step):
            with ThreadPoolExecutor(WORKERS) as workers:
                sizes += workers.map(self._rows_in_groups, self.paths[start : start + step])
            if self.pool and sum(part.sum() for part in sizes) >= self.pool:
                break
        return sizes

    def _rows_in_groups(self, path: str) -> npt.NDArray[np.int64]:
        footer = self._footer(path)
        schema = footer.schema.to_arrow_schema()
        if twice := sorted(name for name in set(schema.names) if schema.names.count(name) > 1):
            raise SplitError(f"{path} has two columns named {twice[0]!r}; write it again with one.")
        if odd := difference(self._schema, schema):
            raise SplitError(f"{path} {odd}, unlike {self.paths[0]} of the same split. Give all files of a split the same columns.")
        return rows_in_groups(footer)

    def _read_footer(self, path: str) -> Any:
        import pyarrow.parquet as pq

        # Footers are read again while images are read; their errors are the file's, not an image's.
        with self.files.errors(), self.files.open(path) as file:
            return pq.read_metadata(file)

    def __len__(self) -> int:
        rows = int(self._ends[-1]) if len(self._ends) else 0
        return min(rows, self.pool or rows)

    def features(self) -> Any:
        """Return the columns' types: those of classes from the card, the others as `datasets` stated them in the files."""
        features = stated_types(self._schema)
        stated = (self._stated() if self._stated else None) or {}
        features.update({column: stated[column] for column in class_names(stated) if column in features})
        return features

    def names_in_files(self, name: str) -> list[str] | None:
        """Return the names of a column's classes in the files; None if they state none."""
        return class_names(stated_types(self._schema)).get(name)

    def is_text(self, name: str) -> bool:
        """Whether a column holds texts."""
        import pyarrow as pa

        kind = self._schema.field(name).type
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))

    def group_of(self, row: int) -> tuple[int, int]:
        """Return the row group that holds a row, counted over all files, and the row's place in it."""
        group = int(np.searchsorted(self._ends, row, side="right"))
        return group, row - self._start(group)

    def _start(self, group: int) -> int:
        return int(self._ends[group - 1]) if group else 0

    def bytes_of(self, group: int, columns: Sequence[str]) -> int:
        """Return the bytes that are fetched to read some columns of a row group."""
        return sum(chunk.total_compressed_size for chunk, _ in chunks(*self._place(group), columns))

    def memory_of(self, group: int, columns: Sequence[str]) -> int:
        """Return the bytes that some columns of a row group need in memory."""
        return bytes_in_memory(*self._place(group), columns)

    def _place(self, group: int) -> tuple[Any, int]:
        """Return the footer that describes a row group, and the group's number in it."""
        return self._footer(self.paths[self._file[group]]), int(self._number[group])

    def ahead(self, group: int, column: str) -> list[int]:
        """Return a row group and those after it that are short enough to be fetched with it."""
        groups, size = [group], self.memory_of(group, [column])
        while len(groups) < MOST_AHEAD and groups[-1] + 1 < len(self._ends) and self._start(groups[-1] + 1) < len(self):
            size += self.memory_of(groups[-1] + 1, [column])
            if size > AHEAD_BYTES:
                break
            groups.append(groups[-1] + 1)
        return groups

    def read(self, group: int, columns: Sequence[str]) -> Any:
        """Read some columns of one row group, as a pyarrow Table; texts and files are dictionaries.

        Raises:
            SplitError: if it can't be read, or is too large.
        """
        with self.files.errors():
            self.files.announce(self.paths[self._file[group]], self.bytes_of(group, columns))
            return self._read(group, columns)

    def _read(self, group: int, columns: Sequence[str]) -> Any:
        import pyarrow.parquet as pq

        path, (footer, number), size = self.paths[self._file[group]], self._place(group), self.memory_of(group, columns)
        if size > MOST_GROUP_BYTES:
            raise SplitError(
                f"{path} has a row group whose {', '.join(columns)} would need {size / 2**20:,.0f} MiB of memory; at most "
                f"{MOST_GROUP_BYTES / 2**20:,.0f} MiB are read at once. Write it again with fewer rows in a group (row_group_size=100)."
            )
        with self.files.open(path) as file:
            spans = FileSpans(file, (chunk_span(chunk) for chunk, _ in chunks(footer, number, columns)))
        opened = pq.ParquetFile(spans, metadata=footer, pre_buffer=False, read_dictionary=dictionary_columns(footer, columns))
        return opened.read_row_group(number, columns=list(columns))

    def read_all(self, groups: Sequence[int], columns: Sequence[str]) -> list[Any]:
        """Read several row groups at the same time."""
        if len(groups) == 1:
            return [self.read(groups[0], columns)]
        with ThreadPoolExecutor(WORKERS) as workers:
            return list(workers.map(lambda group: self.read(group, columns), groups))

    def _parts(self, name: str) -> Iterator[Any]:
        """Yield one column as arrays, one per row group, in order; `len(self)` values in total."""
        group = 0
        while group < len(self._ends) and self._start(group) < len(self):
            groups = self.ahead(group, name)
            for number, table in zip(groups, self.read_all(groups, [name])):
                yield table[name].slice(0, len(self) - self._start(number))
            group = groups[-1] + 1

    def column(self, name: str) -> list[Any]:
        """Return one column of all rows."""
        return [value for part in self._parts(name) for chunk in part.chunks for value in _values(chunk)]

    def numbers(self, name: str) -> npt.NDArray[np.int16]:
        """Return a column of class indices, or of true and false, as int16 ``[N]``; -1 for a missing value."""
        import pyarrow as pa

        kind = self._schema.field(name).type
        if not (pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)):
            raise SplitError(f"The column {name!r} of {self.paths[0]} holds {kind}; needed are class indices, or true and false.")
        with self.files.errors():
            parts = (part.cast(pa.int64()).fill_null(-1).to_numpy() for part in self._parts(name))
            return np.concatenate([np.zeros(0, np.int16), *(np.clip(part, -1, 2**15 - 1).astype(np.int16) for part in parts)])

    def lazy(self, name: str) -> ParquetColumn:
        """Return one column, read when it is indexed."""
        return ParquetColumn(self, name)

    def take(self, rows: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield some rows, increasing, with these columns."""
        numbers = np.asarray(rows)
        groups, starts = np.unique(np.searchsorted(self._ends, numbers, side="right"), return_index=True)
        with self.files.errors():
            for path in np.unique(self._file[groups]):
                needed = sum(self.bytes_of(int(group), columns) for group in groups[self._file[groups] == path])
                self.files.announce(self.paths[path], needed)
        for group, here in zip(map(int, groups), np.split(numbers, starts[1:])):
            with self.files.errors():
                table = self._read(group, columns)
            for row in map(int, here):
                yield row, {name: table[name][row - self._start(group)].as_py() for name in table.column_names}


def _values(array: Any) -> list[Any]:
    """Return a pyarrow Array as a list; equal values of a dictionary are one object."""
    import pyarrow as pa

    if not pa.types.is_dictionary(array.type):
        values: list[Any] = array.to_pylist()
        return values
    dictionary = [*array.dictionary.to_pylist(), None]
    return [dictionary[place] for place in array.indices.fill_null(-1).to_pylist()]


class ParquetColumn(LazySequence[Any]):
    """A column of Parquet files, one Python value at a time; only the row groups last used are in memory."""

    def __init__(self, rows: ParquetRows, name: str):
        self.rows, self.name = rows, name
        self._groups: OrderedDict[int, Any] = OrderedDict()
        self._bytes, self._last, self._lock = 0, -1, Lock()

    def __len__(self) -> int:
        return len(self.rows)

    def item(self, index: int) -> Any:
        group, place = self.rows.group_of(index)
        with self._lock:
            values = self._groups.get(group)
            if values is None:
                values = self._fetch(group)
            self._groups.move_to_end(group)
            self._last = group
        return values[place].as_py()

    def _fetch(self, group: int) -> Any:
        # Only a column read in order is read ahead: a draw of a few rows needs no more than their row groups.
        groups = self.rows.ahead(group, self.name) if group == self._last + 1 and self._last >= 0 else [group]
        groups = [number for number in groups if number not in self._groups]
        for number, table in zip(groups, self.rows.read_all(groups, [self.name])):
            self._groups[number] = table[self.name]
            self._bytes += table.nbytes
        values = self._groups[group]
        while self._bytes > CACHED_BYTES and len(self._groups) > 1:
            # Groups read ahead are newer than the one that is needed now.
            number = next(number for number in self._groups if number != group)
            self._bytes -= self._groups.pop(number).nbytes
        return values
