"""Column types, class names and the memory of row groups, from the footers of Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mia_hub.errors import SplitError, first_line

# Bytes of a value in memory, by its type in the file; each text or file is in memory once, and its cells are numbers.
WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 8, "BYTE_ARRAY": 4}


def rows_in_groups(footer: Any) -> npt.NDArray[np.int64]:
    """Return the rows of each row group, int64 ``[G]``.

    Raises:
        SplitError: if a number is negative.
    """
    counts = np.array([footer.row_group(i).num_rows for i in range(footer.num_row_groups)], dtype=np.int64)
    if (counts < 0).any():
        raise SplitError("A Parquet file states a negative number of rows; write it again.")
    return counts


def chunks(footer: Any, group: int, columns: Sequence[str]) -> Iterator[tuple[Any, Any]]:
    """Yield the chunks of a row group that belong to some columns, each with its entry in the schema."""
    row_group = footer.row_group(group)
    for i in range(footer.num_columns):
        chunk = row_group.column(i)
        if any(chunk.path_in_schema == name or chunk.path_in_schema.startswith(f"{name}.") for name in columns):
            yield chunk, footer.schema.column(i)


def bytes_in_memory(footer: Any, group: int, columns: Sequence[str]) -> int:
    """Return the bytes that some columns of a row group need in memory, where equal texts and files are stored once.

    They may be many for a small file, whose values are compressed or all equal.
    """
    return sum(
        max(chunk.total_uncompressed_size, chunk.num_values * WIDTHS.get(chunk.physical_type, leaf.length))
        for chunk, leaf in chunks(footer, group, columns)
    )


def dictionary_columns(footer: Any, columns: Sequence[str]) -> list[str]:
    """Return the parts of some columns that hold texts or files, which are read as dictionaries."""
    if not footer.num_row_groups:
        return []
    return [chunk.path_in_schema for chunk, _ in chunks(footer, 0, columns) if chunk.physical_type == "BYTE_ARRAY"]


def stated_types(schema: Any) -> Any:
    """Return the columns' types that `datasets` wrote into a file, as its `Features`.

    Raises:
        SplitError: if they can't be read.
    """
    import datasets

    try:
        return datasets.Features.from_arrow_schema(schema)
    except Exception as error:  # a stranger may have written anything there
        raise SplitError(
            f"The column types that the Parquet files state can't be read ({first_line(error)[:200]}). Write them again with "
            "datasets.Dataset.to_parquet."
        ) from error


def class_names(features: Any) -> dict[str, list[str]]:
    """Return the names of the classes of each column of classes."""
    return {column: list(feature.names) for column, feature in features.items() if getattr(feature, "names", None)}


def difference(first: Any, other: Any) -> str:
    """Return how the schema of another file of the same split differs; "" if rows of both are read alike."""
    for names, others, says in ((first.names, other.names, "has no column"), (other.names, first.names, "has a further column")):
        if odd := sorted(set(names) - set(others)):
            return f"{says} {odd[0]!r}"
    for name in first.names:
        if not _read_alike(first.field(name).type, other.field(name).type):
            return f"has another type in the column {name!r}, {other.field(name).type} in place of {first.field(name).type}"
    marks = [(schema.metadata or {}).get(b"huggingface") for schema in (first, other)]
    if marks[0] != marks[1]:
        expected, actual = (class_names(stated_types(schema)) for schema in (first, other))
        for name in sorted(expected.keys() | actual.keys()):
            if expected.get(name) != actual.get(name):
                return f"has other class names in the column {name!r}, {actual.get(name)} in place of {expected.get(name)}"
    return ""


def _read_alike(first: Any, other: Any) -> bool:
    """Whether two types hold values that are read alike; a part that is empty throughout has no type of its own."""
    from pyarrow import types

    if types.is_null(other):
        return True
    if types.is_struct(first) and types.is_struct(other):
        fields = [{field.name: field.type for field in each} for each in (first, other)]
        return fields[0].keys() == fields[1].keys() and all(
            types.is_null(kind) or _read_alike(kind, fields[1][name]) for name, kind in fields[0].items()
        )
    # pandas writes integers as floats in a file in which some are missing.
    kinds = (
        (types.is_string, types.is_large_string),
        (types.is_binary, types.is_large_binary),
        (types.is_integer, types.is_floating),
        (types.is_list, types.is_large_list),
    )
    return bool(first == other) or any(any(of(first) for of in kind) and any(of(other) for of in kind) for kind in kinds)
