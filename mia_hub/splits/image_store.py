"""Drawn images on disk, so that each is fetched once and an interrupted draw resumes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from mia_hub.errors import ImageError, SplitError
from mia_hub.images.image import InputImage
from mia_hub.images.sources import open_image
from mia_hub.system.files import replacing
from mia_hub.system.web import FetchResult

# Rows and bytes of a row group, which is read at once.
ROWS_PER_GROUP, GROUP_BYTES = 32, 16 * 2**20
# Rows and bytes that are fetched, checked and written at once; they are in memory, and lost if fetching is interrupted.
ROWS_AT_ONCE, BYTES_AT_ONCE = 128, 256 * 2**20
NO_IMAGE = "no image that can be read"
COPY = "the same image as another row"


@dataclass(frozen=True)
class StoredRow:
    """A drawn row, as it is stored.

    Attributes:
        row: its number in the split.
        id: `mia_hub.images.image.content_id` of the image as it is scored; None without an image.
        content: the image's file, or None.
        caption: "" for none.
        label: class index, or None.
        missing: why there is no image; "" if there is one.
        lasting: whether another attempt would give the same result; otherwise the row isn't stored.
    """

    row: int
    id: str | None = None
    content: bytes | None = None
    caption: str = ""
    label: int | None = None
    missing: str = ""
    lasting: bool = True


def stored_row(
    number: int,
    file: FetchResult,
    *,
    prepare: Callable[[InputImage], InputImage] | None = None,
    min_bytes: int = 0,
    caption: str = "",
    label: int | None = None,
) -> StoredRow:
    """Make a row of the result of fetching its image.

    Args:
        number: of the row.
        file: the result.
        prepare: applied to the image before it is scored.
        min_bytes: a smaller file counts as missing.
        caption: "" for none.
        label: class index, or None.
    """
    row = StoredRow(number, caption=caption, label=label)
    if file.content is None:
        return replace(row, missing=file.reason, lasting=file.lasting)
    if len(file.content) < min_bytes:
        return replace(row, missing="too small")
    try:
        image = open_image(file.content)
        return replace(row, id=(prepare(image) if prepare else image).id, content=file.content)
    except ImageError:
        return replace(row, missing=NO_IMAGE)


def in_batches(rows: Iterable[StoredRow], count: int | None = None, size: int | None = None) -> Iterator[list[StoredRow]]:
    """Yield rows in batches of at most ``count`` rows and about ``size`` bytes; `ROWS_AT_ONCE` and `BYTES_AT_ONCE` by default."""
    count, size, held = count or ROWS_AT_ONCE, size or BYTES_AT_ONCE, 0
    batch: list[StoredRow] = []
    for row in rows:
        own = len(row.content or b"") + len(row.caption)
        if batch and (len(batch) == count or held + own > size):
            yield batch
            batch, held = [], 0
        batch.append(row)
        held += own
    if batch:
        yield batch


class StoredRows:
    """Rows of one data set in one folder, as Parquet files that are added to and never changed.

    Args:
        folder: made if it isn't there.
    """

    def __init__(self, folder: Path):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SplitError(f"The folder {folder} can't be made ({error.strerror}); give another one to store images in.") from error
        self.folder = folder
        # By row: its file, row group, and place there; and the row without its image's file.
        self._places: dict[int, tuple[Path, int, int]] = {}
        self._rows: dict[int, StoredRow] = {}
        self._read = lru_cache(maxsize=4)(self._read_group)
        for path in sorted(folder.glob("*.parquet")):
            self._index(path)

    def __contains__(self, row: int) -> bool:
        return row in self._rows

    def __getitem__(self, row: int) -> StoredRow:
        """Return a row without its image's file."""
        return self._rows[row]

    def content(self, row: int) -> bytes:
        """Return the image's file; only the row groups last used are in memory."""
        path, group, place = self._places[row]
        content: bytes = self._read(path, group)[place].as_py()
        return content

    def add_all(self, rows: Iterable[StoredRow], done: Callable[[int], Any] = lambda count: None) -> None:
        """Store rows as they arrive, so that no more of them are in memory than are written at once.

        Args:
            rows: in any order.
            done: called after each batch with its number of rows.
        """
        for batch in in_batches(rows):
            self.add(batch)
            done(len(batch))

    def add(self, rows: Sequence[StoredRow]) -> None:
        """Store rows; those that lack an image only temporarily stay in memory, and are not written."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._rows |= {row.row: replace(row, content=None) for row in rows if not row.lasting}
        lasting = [row for row in rows if row.lasting]
        if not lasting:
            return
        schema = pa.schema(
            [("row", pa.int64()), ("id", pa.string()), ("content", pa.binary()), ("caption", pa.string()), ("label", pa.int64()),
             ("missing", pa.string())]
        )  # fmt: skip
        numbers = hashlib.sha256(str([row.row for row in lasting]).encode()).hexdigest()[:12]
        path = self.folder / f"rows-{lasting[0].row:010}-{numbers}.parquet"
        try:
            # Images are compressed already.
            with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, compression="none") as writer:
                for group in in_batches(lasting, ROWS_PER_GROUP, GROUP_BYTES):
                    writer.write_table(pa.Table.from_pylist([asdict(row) for row in group], schema=schema))
        except OSError as error:
            raise SplitError(f"{self.folder} can't be written to ({error.strerror}); give another folder to store images in.") from error
        self._index(path)

    def _index(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(path) as file:
                rows = file.read(columns=["row", "id", "caption", "label", "missing"]).to_pylist()
                groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        except (OSError, pa.ArrowException) as error:
            raise SplitError(f"{path} is broken ({error}); delete it, and its images will be fetched again.") from error
        places = ((group, place) for group, count in enumerate(groups) for place in range(count))
        for values, where in zip(rows, places):
            self._rows[values["row"]] = StoredRow(**values)
            self._places[values["row"]] = (path, *where)

    def _read_group(self, path: Path, group: int) -> Any:
        import pyarrow.parquet as pq

        return pq.ParquetFile(path).read_row_group(group, columns=["content"])["content"]


class StoredImages:
    """Rows of a store as images, for `mia_hub.images.sources.as_images`; each is read when it is indexed."""

    def __init__(self, store: StoredRows, rows: Iterable[int], name: str):
        self.store, self.rows, self.name = store, list(rows), name

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, bytes | str]:
        return {"bytes": self.store.content(self.rows[index]), "path": f"{self.name} row {self.rows[index]}"}
