"""Drawn images on disk, so that each is fetched once and an interrupted draw goes on where it was."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mia_hub.errors import ImageError, SplitError
from mia_hub.images.image import InputImage
from mia_hub.images.sources import open_image
from mia_hub.system.files import replacing
from mia_hub.system.web import FetchResult

# Rows that are read at once, where their images together are no larger than this.
ROWS_PER_GROUP, GROUP_BYTES = 32, 16 * 2**20
# Rows that are fetched, checked and written at once; so much is in memory, and lost at most when fetching is interrupted.
ROWS_AT_ONCE, BYTES_AT_ONCE = 128, 256 * 2**20
NO_IMAGE = "no image that can be read"
COPY = "the same image as another row"


@dataclass(frozen=True)
class StoredRow:
    """A drawn row.

    Attributes:
        row: its number in the split.
        id: `mia_hub.images.image.content_id` of the image as it is scored; None where there is no image.
        content: the image's file, or None.
        caption: "" for none.
        label: class index, or None.
        missing: why there is no image; "" where there is one.
        lasting: whether another try would find the same; otherwise it isn't kept.
    """

    row: int
    id: str | None = None
    content: bytes | None = None
    caption: str = ""
    label: int | None = None
    missing: str = ""
    lasting: bool = True


def stored_row(
    number: int, file: FetchResult, *, prepare: Callable[[InputImage], InputImage] | None = None, min_bytes: int = 0, **told
) -> StoredRow:
    """A row, from what came of fetching its image.

    Args:
        number: of the row.
        file: what came.
        prepare: what is done to an image before it is scored.
        min_bytes: a file below this counts as missing.
        told: caption and label.
    """
    if file.content is None:
        return StoredRow(number, missing=file.reason, lasting=file.lasting, **told)
    if len(file.content) < min_bytes:
        return StoredRow(number, missing="too small", **told)
    try:
        image = open_image(file.content)
        return StoredRow(number, (prepare(image) if prepare else image).id, file.content, **told)
    except ImageError:
        return StoredRow(number, missing=NO_IMAGE, **told)


def in_batches(rows: Iterable[StoredRow], count: int | None = None, size: int | None = None) -> Iterator[list[StoredRow]]:
    """Rows in batches of so many, or of about so many bytes, whichever comes first; `ROWS_AT_ONCE` and `BYTES_AT_ONCE` where None."""
    count, size, batch, held = count or ROWS_AT_ONCE, size or BYTES_AT_ONCE, [], 0
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
            raise SplitError(f"The folder {folder} can't be made ({error.strerror}); give another one to keep images in.") from error
        self.folder = folder
        self._where: dict[int, tuple[Path, int, int]] = {}
        self._known: dict[int, StoredRow] = {}
        self._read = lru_cache(maxsize=4)(self._read_group)
        for path in sorted(folder.glob("*.parquet")):
            self._index(path)

    def __contains__(self, row: int) -> bool:
        return row in self._known

    def __getitem__(self, row: int) -> StoredRow:
        """A row without its image's file."""
        return self._known[row]

    def content(self, row: int) -> bytes:
        """The image's file; of each Parquet file only the row groups last used are in memory."""
        path, group, place = self._where[row]
        return self._read(path, group)[place].as_py()

    def add_all(self, rows: Iterable[StoredRow], done: Callable[[int], Any] = lambda count: None) -> None:
        """Keeps rows as they come, so that no more of them are in memory than are written at once.

        Args:
            rows: in any order.
            done: told after each batch how many rows it had.
        """
        for batch in in_batches(rows):
            self.add(batch)
            done(len(batch))

    def add(self, rows: Sequence[StoredRow]) -> None:
        """Keeps rows; those whose lack of an image may pass are known for now, and not written."""
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
            # Images are compressed already.
            with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, compression="none") as writer:
                for group in in_batches(kept, ROWS_PER_GROUP, GROUP_BYTES):
                    writer.write_table(pa.Table.from_pylist([asdict(row) for row in group], schema=schema))
        except OSError as error:
            raise SplitError(f"{self.folder} can't be written to ({error.strerror}); give another folder to keep images in.") from error
        self._index(path)

    def _index(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(path) as file:
                found = file.read(columns=["row", "id", "caption", "label", "missing"]).to_pylist()
                groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        except (OSError, pa.ArrowException) as error:
            raise SplitError(f"{path} is broken ({error}); delete it, and its images are fetched again.") from error
        places = ((group, place) for group, count in enumerate(groups) for place in range(count))
        for values, where in zip(found, places):
            self._known[values["row"]] = StoredRow(**values)
            self._where[values["row"]] = (path, *where)

    def _read_group(self, path: Path, group: int):
        import pyarrow.parquet as pq

        return pq.ParquetFile(path).read_row_group(group, columns=["content"])["content"]


def _without_content(row: StoredRow) -> StoredRow:
    return StoredRow(row.row, row.id, None, row.caption, row.label, row.missing, row.lasting)


class StoredImages(Sequence):
    """Some rows of a store as images, for `mia_hub.images.sources.as_images`; each is read when it is asked for."""

    def __init__(self, store: StoredRows, rows: Iterable[int], name: str):
        self.store, self.rows, self.name = store, list(rows), name

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict:
        return {"bytes": self.store.content(self.rows[index]), "path": f"{self.name} row {self.rows[index]}"}
