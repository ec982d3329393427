"""Drawn pictures on disk, so that each is fetched once and an interrupted draw goes on where it was."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from mia_hub.atomic import replacing
from mia_hub.errors import ImageError, SplitError
from mia_hub.fetching import Fetched
from mia_hub.images import Picture, open_picture

ROWS_PER_GROUP = 32
# Rows that are fetched, checked and written at once; so much work is lost at most when fetching is interrupted.
ROWS_AT_ONCE = 128
NO_PICTURE = "no picture that can be read"
COPY = "the same picture as another row"


@dataclass(frozen=True)
class Row:
    """A drawn row.

    Attributes:
        row: its number in the split.
        id: `mia_hub.images.content_id` of the picture as it is scored; None where there is no picture.
        content: the picture's file, or None.
        caption: "" for none.
        label: class index, or None.
        missing: why there is no picture; "" where there is one.
        lasting: whether another try would find the same; otherwise it isn't kept.
    """

    row: int
    id: str | None = None
    content: bytes | None = None
    caption: str = ""
    label: int | None = None
    missing: str = ""
    lasting: bool = True


def row_of(number: int, file: Fetched, *, prepare: Callable[[Picture], Picture] | None = None, min_bytes: int = 0, **told) -> Row:
    """A row, from what came of fetching its picture.

    Args:
        number: of the row.
        file: what came.
        prepare: what is done to a picture before it is scored.
        min_bytes: a file below this counts as missing.
        told: caption and label.
    """
    if file.content is None:
        return Row(number, missing=file.reason, lasting=file.lasting, **told)
    if len(file.content) < min_bytes:
        return Row(number, missing="too small", **told)
    try:
        picture = open_picture(file.content)
        return Row(number, (prepare(picture) if prepare else picture).id, file.content, **told)
    except ImageError:
        return Row(number, missing=NO_PICTURE, **told)


class RowStore:
    """Rows of one data set in one folder, as Parquet files that are added to and never changed.

    Args:
        folder: made if it isn't there.
    """

    def __init__(self, folder: Path):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SplitError(f"The folder {folder} can't be made ({error.strerror}); give another one to keep pictures in.") from error
        self.folder = folder
        self._where: dict[int, tuple[Path, int]] = {}
        self._known: dict[int, Row] = {}
        self._read = lru_cache(maxsize=4)(self._read_group)
        for path in sorted(folder.glob("*.parquet")):
            self._index(path)

    def __contains__(self, row: int) -> bool:
        return row in self._known

    def __getitem__(self, row: int) -> Row:
        """A row without its picture's file."""
        return self._known[row]

    def content(self, row: int) -> bytes:
        """The picture's file; of each Parquet file only the row groups last used are in memory."""
        path, place = self._where[row]
        return self._read(path, place // ROWS_PER_GROUP)[place % ROWS_PER_GROUP].as_py()

    def add(self, rows: Sequence[Row]) -> None:
        """Keeps rows; those whose lack of a picture may pass are known for now, and not written."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._known |= {row.row: _without_content(row) for row in rows if not row.lasting}
        kept = [row for row in rows if row.lasting]
        if not kept:
            return
        schema = pa.schema(
            [("row", pa.int64()), ("id", pa.string()), ("content", pa.binary()), ("caption", pa.string()), ("label", pa.int64()),
             ("missing", pa.string())]
        )  # fmt: skip
        numbers = hashlib.sha256(str([row.row for row in kept]).encode()).hexdigest()[:12]
        path = self.folder / f"rows-{kept[0].row:010}-{numbers}.parquet"
        try:
            # Pictures are compressed already.
            table = pa.Table.from_pylist([asdict(row) for row in kept], schema=schema)
            with replacing(path) as temporary:
                pq.write_table(table, temporary, row_group_size=ROWS_PER_GROUP, compression="none")
        except OSError as error:
            raise SplitError(f"{self.folder} can't be written to ({error.strerror}); give another folder to keep pictures in.") from error
        self._index(path)

    def _index(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            found = pq.read_table(path, columns=["row", "id", "caption", "label", "missing"]).to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise SplitError(f"{path} is broken ({error}); delete it, and its pictures are fetched again.") from error
        for place, values in enumerate(found):
            self._known[values["row"]] = Row(**values)
            self._where[values["row"]] = (path, place)

    def _read_group(self, path: Path, group: int):
        import pyarrow.parquet as pq

        return pq.ParquetFile(path).read_row_group(group, columns=["content"])["content"]


def _without_content(row: Row) -> Row:
    return Row(row.row, row.id, None, row.caption, row.label, row.missing, row.lasting)


class StoredPictures(Sequence):
    """Some rows of a store as pictures, for `mia_hub.images.as_pictures`; each is read when it is asked for."""

    def __init__(self, store: RowStore, rows: Iterable[int], name: str):
        self.store, self.rows, self.name = store, list(rows), name

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict:
        return {"bytes": self.store.content(self.rows[index]), "path": f"{self.name} row {self.rows[index]}"}
