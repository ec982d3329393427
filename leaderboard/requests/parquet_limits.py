"""Limits on the content of a submitted Parquet file, checked before it is unpacked: a small file can fill the memory of its reader."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from leaderboard.errors import SubmissionError
from mia_hub.errors import MetricError

if TYPE_CHECKING:
    from pyarrow import ChunkedArray, Schema
    from pyarrow.parquet import FileMetaData

LARGEST_UNPACKED, MOST_ROWS, MOST_TIMESTEPS = 2**28, 1_000_000, 1000
# A content id has 71 characters.
LONGEST_ID = 100


def check_unpacked(content: bytes, name: str) -> None:
    """Refuse a table of scores that is too large once unpacked, or has columns that no such table has.

    Args:
        content: the Parquet file.
        name: of the table, for messages.

    Raises:
        SubmissionError: if it is too large.
        MetricError: if it is no table of scores.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(io.BytesIO(content))
        _check_size(file.metadata, name)
        _check_columns(file.schema_arrow)
        # As a dictionary, equal values are in memory once.
        ids = pq.read_table(io.BytesIO(content), columns=["id"], read_dictionary=["id"], use_threads=False)["id"]
    except (OSError, ValueError, KeyError, OverflowError, pa.ArrowException) as error:
        raise MetricError(f"not a Parquet file of scores: {error}") from error
    longest = _longest(ids)
    if longest > LONGEST_ID:
        raise SubmissionError(
            f"{name} have an id of {longest:,} bytes; ids are content ids, 'sha256:' and 64 digits, as ScoreTable has them."
        )


def _check_size(metadata: FileMetaData, name: str) -> None:
    encoded = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    # The size in the metadata is that of encoded columns, in which equal values are stored once.
    size = max(encoded, metadata.num_rows * metadata.num_columns * 8)
    if metadata.num_rows > MOST_ROWS or metadata.num_columns > MOST_TIMESTEPS + 2 or size > LARGEST_UNPACKED:
        raise SubmissionError(
            f"{name} have {metadata.num_rows:,} rows and {metadata.num_columns:,} columns, {size / 2**20:,.0f} MiB unpacked; at most "
            f"{MOST_ROWS:,} rows, {MOST_TIMESTEPS + 2:,} columns and {LARGEST_UNPACKED // 2**20:,} MiB are accepted."
        )


def _check_columns(schema: Schema) -> None:
    """Refuse nested columns: only flat ones have the size that follows from their number of rows."""
    from pyarrow import types

    for field in schema:
        value = field.type.value_type if types.is_dictionary(field.type) else field.type
        if field.name == "id" and not (types.is_string(value) or types.is_large_string(value)):
            raise MetricError(f"the column id holds {field.type!s:.80}, and should hold text")
        if field.name != "id" and not (types.is_integer(field.type) or types.is_floating(field.type)):
            raise MetricError(f"the column {field.name!r:.80} holds {field.type!s:.80}, and should hold numbers")


def _longest(ids: ChunkedArray) -> int:
    """Return the length of the longest value of a dictionary-encoded column, in bytes; 0 for an empty one."""
    import pyarrow.compute as pc

    lengths = (pc.max(pc.binary_length(chunk.dictionary)).as_py() for chunk in ids.chunks)
    return max((length or 0 for length in lengths), default=0)
