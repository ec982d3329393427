"""All entries of a store of results in one file, so that a board of a thousand of them is read with a few requests.

The index is written in the same commit as an entry's own files. It is a copy: where it lacks an entry, or is not readable, the files count.
"""

from __future__ import annotations

import io
from collections.abc import Mapping

from leaderboard.errors import StoreError
from leaderboard.stores.store import Changes, View

FILE = "entries.parquet"


def read_index(store: View) -> dict[str, bytes]:
    """Return the contents of ``entry.json`` by the entries' ids; none if there is no index.

    Raises:
        StoreError: if there is one that can't be read.
    """
    try:
        content = store.read(FILE)
    except KeyError:
        return {}
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(content))
        rows = zip(table["id"].to_pylist(), table["entry"].to_pylist())
        return {str(id): str(entry).encode() for id, entry in rows}
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise StoreError(f"The index {FILE} in {store} can't be read ({type(error).__name__}).") from error


def index_with(store: View, id: str, content: bytes) -> Changes:
    """Return the changes after which the index has an entry; none if it has it already."""
    try:
        present = read_index(store)
    except StoreError:
        # A new index is begun; entries that it lacks are read from their own files.
        present = {}
    if present.get(id) == content:
        return {}
    return {FILE: index_of(present | {id: content})}


def index_of(entries: Mapping[str, bytes]) -> bytes:
    """Return the index file of some entries."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    ids = sorted(entries)
    table = pa.table({"id": ids, "entry": [entries[id].decode() for id in ids]})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
