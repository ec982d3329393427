"""What the footers of Parquet files state of their columns: types, class names, and what a row group needs in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from mia_hub.errors import SplitError, first_line

# Bytes of a value in memory, by its type in the file; texts and files are held once each, and numbered.
WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 8, "BYTE_ARRAY": 4}


def rows_in_groups(footer) -> np.ndarray:
    """int64 ``[G]``: the rows of each row group.

    Raises:
        SplitError: if it states less than none.
    """
    found = np.array([footer.row_group(i).num_rows for i in range(footer.num_row_groups)], dtype=np.int64)
    if (found < 0).any():
        raise SplitError("A Parquet file states that it has fewer than 0 rows; make it again.")
    return found


def chunks(footer, group: int, columns: Sequence[str]) -> Iterator[tuple]:
    """Those parts of a row group that belong to some columns, each with what the schema says of it."""
    row_group = footer.row_group(group)
    for i in range(footer.num_columns):
        chunk = row_group.column(i)
        if any(chunk.path_in_schema == name or chunk.path_in_schema.startswith(f"{name}.") for name in columns):
            yield chunk, footer.schema.column(i)


def bytes_in_memory(footer, group: int, columns: Sequence[str]) -> int:
    """What some columns of a row group need in memory, where equal texts and files are held once: what is small in a file, compressed, or
    the same value many times over, may be large.
    """
    return sum(
        max(chunk.total_uncompressed_size, chunk.num_values * WIDTHS.get(chunk.physical_type, leaf.length))
        for chunk, leaf in chunks(footer, group, columns)
    )


def held_once(footer, columns: Sequence[str]) -> list[str]:
    """The parts of some columns that hold texts or files."""
    if not footer.num_row_groups:
        return []
    return [chunk.path_in_schema for chunk, _ in chunks(footer, 0, columns) if chunk.physical_type == "BYTE_ARRAY"]


def stated_types(schema):
    """The columns' types as `datasets` states them in a file, as its `Features`.

    Raises:
        SplitError: if what is stated can't be understood.
    """
    import datasets

    try:
        return datasets.Features.from_arrow_schema(schema)
    except Exception as error:  # what a stranger wrote there may be anything
        raise SplitError(
            f"What the Parquet files state of their columns' types can't be read ({first_line(error)[:200]}). Write them again with "
            "datasets.Dataset.to_parquet."
        ) from error


def class_names(features) -> dict[str, list[str]]:
    """The names of the classes, of each column of classes."""
    return {column: list(feature.names) for column, feature in features.items() if getattr(feature, "names", None)}


def difference(first, other) -> str:
    """How the schema of another file of the same split differs; "" where rows of both can be read alike."""
    for names, others, says in ((first.names, other.names, "has no column"), (other.names, first.names, "has a further column")):
        if odd := sorted(set(names) - set(others)):
            return f"{says} {odd[0]!r}"
    for name in first.names:
        if not _alike(first.field(name).type, other.field(name).type):
            return f"has another type in the column {name!r}, {other.field(name).type} in place of {first.field(name).type}"
    marks = [(schema.metadata or {}).get(b"huggingface") for schema in (first, other)]
    if marks[0] != marks[1]:
        known, found = (class_names(stated_types(schema)) for schema in (first, other))
        for name in sorted(known.keys() | found.keys()):
            if known.get(name) != found.get(name):
                return f"has other class names in the column {name!r}, {found.get(name)} in place of {known.get(name)}"
    return ""


def _alike(first, other) -> bool:
    """Whether two types hold values that are read alike; a part that is empty throughout has no type of its own."""
    from pyarrow import types

    if types.is_null(other):
        return True
    if types.is_struct(first) and types.is_struct(other):
        fields = [{field.name: field.type for field in each} for each in (first, other)]
        return fields[0].keys() == fields[1].keys() and all(
            types.is_null(kind) or _alike(kind, fields[1][name]) for name, kind in fields[0].items()
        )
    # Whole numbers become floats in a file in which some are missing, where pandas wrote it.
    kinds = (
        (types.is_string, types.is_large_string),
        (types.is_binary, types.is_large_binary),
        (types.is_integer, types.is_floating),
        (types.is_list, types.is_large_list),
    )
    return first == other or any(any(of(first) for of in kind) and any(of(other) for of in kind) for kind in kinds)
