"""Metadata of image files: ``metadata.jsonl``, ``metadata.csv`` or ``metadata.parquet``, the convention of `datasets`."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mia_hub.errors import SplitError, first_line
from mia_hub.images.file_names import ByFileName, uniform_name, whole_path
from mia_hub.images.messages import printable
from mia_hub.images.text_files import read_text

# The first of these in a folder is read.
METADATA_FILES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
FILE_COLUMN = "file_name"
_ELSEWHERE = re.compile(r"[/\\]|[A-Za-z]:[/\\]|[A-Za-z][A-Za-z0-9+.-]+://")


class NoFileNamesError(SplitError):
    """Metadata without a column of file names."""


class Columns(NamedTuple):
    """Names of the columns that are read, the preferred ones first."""

    captions: tuple[str, ...]
    classes: tuple[str, ...]


class MetadataRow(NamedTuple):
    """The row of one image: its line in the file (Parquet: its number, from 1), and its values, None for an empty one."""

    line: int
    file_name: str
    caption: str | None
    class_index: str | None


class _Table(NamedTuple):
    """Cells of a file: the names of its columns, and for each row the line and the cells by column."""

    columns: tuple[str, ...]
    rows: list[tuple[int, dict[str, Any]]]


@dataclass(frozen=True, eq=False)
class Metadata:
    """A metadata file.

    Attributes:
        path: of the file.
        columns: all that it has.
        rows: one for each file name.
        by_name: the same, by the path of the image relative to the file's folder.
    """

    path: Path
    columns: tuple[str, ...]
    rows: list[MetadataRow]
    by_name: ByFileName[MetadataRow]


def read_metadata(path: Path, columns: Columns) -> Metadata:
    """Read a metadata file.

    Raises:
        NoFileNamesError: if it has no column of file names.
        SplitError: if it can't be read, names a file outside its folder, or has two different rows for one file.
    """
    table = {".jsonl": _json_lines, ".csv": _csv, ".parquet": _parquet}[path.suffix.lower()](path, columns)
    rows: list[MetadataRow] = []
    by_name = ByFileName[MetadataRow]()
    names = _file_column(path, table.columns) if table.rows else FILE_COLUMN
    for line, cells in table.rows:
        name = _relative_path(path, line, cells.get(names))
        row = MetadataRow(line, name, *(_text_in(path, line, cells, wanted) for wanted in columns))
        earlier = by_name.get(name)
        if earlier is None:
            by_name.add(name, row)
            rows.append(row)
        elif earlier[2:] != row[2:]:
            problem = f"{printable(name)} has another caption or class in {_place(path, earlier.line)}"
            raise _unreadable(path, line, problem, "Keep one of the two rows, or make the captions a list in one row of metadata.jsonl")
    return Metadata(path, table.columns, rows, by_name)


def _place(path: Path, line: int) -> str:
    return f"{'row' if path.suffix.lower() == '.parquet' else 'line'} {line}"


def _unreadable(path: Path, line: int | None, problem: str, advice: str, kind: type[SplitError] = SplitError) -> SplitError:
    place = "" if line is None else f", {_place(path, line)}"
    return kind(f"The metadata of {whole_path(path.parent)} can't be read ({path.name}{place}: {problem}). {advice}.")


def _json_lines(path: Path, columns: Columns) -> _Table:
    names: dict[str, None] = {}
    rows: list[tuple[int, dict[str, Any]]] = []
    # Not splitlines(): a text in JSON may hold any of the other characters that Python takes for the end of a line.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, strict=False)
        except (ValueError, RecursionError) as error:
            advice = f'Each line must be a JSON object such as {{"{FILE_COLUMN}": "0.png", "caption": "a cat"}}'
            raise _unreadable(path, number, f"it is no JSON: {first_line(error)}", advice) from error
        if not isinstance(row, dict):
            problem = f"it is a JSON {type(row).__name__}, not an object"
            raise _unreadable(path, number, problem, f"Give each image a line with a JSON object that has a {FILE_COLUMN}")
        names |= dict.fromkeys(row)
        rows.append((number, row))
    return _Table(tuple(names), rows)


def _csv(path: Path, columns: Columns) -> _Table:
    lines = _csv_lines(path, read_text(path))
    if not lines:
        return _Table((), [])
    header = [name.strip() for name in lines[0][1]]
    twice = sorted({name for name in (FILE_COLUMN, *columns.captions, *columns.classes) if header.count(name) > 1})
    if twice:
        raise _unreadable(path, 1, f"it has several columns {twice[0]!r}", "Keep one of them")
    if len(lines) > 1:
        _file_column(path, tuple(header))  # before the rows: cells separated by something else than commas look like too many or too few
    rows = []
    for number, cells in lines[1:]:
        if not any(cells):
            continue
        if any(cells[len(header) :]):
            problem = f"it has {len(cells)} cells for {len(header)} columns"
            raise _unreadable(path, number, problem, 'Put a text that holds a comma in double quotes: "a cat, sitting"')
        rows.append((number, dict(zip(header, cells))))
    return _Table(tuple(header), rows)


def _csv_lines(path: Path, text: str) -> list[tuple[int, list[str]]]:
    """Return the cells of each row, with the number of its last line."""

    def parsed(strict: bool) -> list[tuple[int, list[str]]]:
        reader = csv.reader(io.StringIO(text, newline=""), strict=strict)
        return [(reader.line_num, cells) for cells in reader]

    try:
        try:
            return parsed(strict=True)
        except csv.Error as error:
            if "unexpected end" in str(error):
                raise _unreadable(path, None, "a double quote is never closed", "Close it, or write it twice within a text") from error
            return parsed(strict=False)
    except csv.Error as error:
        raise _unreadable(path, None, str(error), "Save it as CSV with commas between the cells") from error


def _parquet(path: Path, columns: Columns) -> _Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = tuple(file.schema_arrow.names)
            needed = [*_file_columns(names), *(name for wanted in columns for name in wanted)]
            rows = file.read(columns=[name for name in dict.fromkeys(needed) if name in names]).to_pylist()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise _unreadable(path, None, first_line(error), "Write the file again, or give metadata.jsonl instead") from error
    return _Table(names, list(enumerate(rows, start=1)))


def _file_columns(names: Sequence[str]) -> list[str]:
    """Return the column of file names, or several that may be it."""
    return [FILE_COLUMN] if FILE_COLUMN in names else [name for name in names if str(name).endswith(f"_{FILE_COLUMN}")]


def _file_column(path: Path, columns: Sequence[str]) -> str:
    """Return the column of file names.

    Raises:
        SplitError: if there is none, or several.
    """
    named = _file_columns(columns)
    if not named:
        raise _no_file_names(path, columns)
    if len(named) > 1:
        problem = f"it has the columns {', '.join(map(printable, named))}, and which of them names the image is not guessed"
        raise _unreadable(path, None, problem, f"Call that column {FILE_COLUMN}")
    return named[0]


def _no_file_names(path: Path, columns: Sequence[str]) -> SplitError:
    """Return the error about metadata that names no files."""
    several = next((name for name in columns if name.endswith("file_names")), None)
    separator = next((mark for mark in (";", "\t", "|") if FILE_COLUMN in columns[0].split(mark)), None) if columns else None
    if several:
        problem, advice = f"its column {several!r} names several images in a row", f"Give each image a row of its own with a {FILE_COLUMN}"
    elif separator:
        problem, advice = f"its cells are separated by {separator!r}", "Save it with commas, as CSV (UTF-8), or write metadata.jsonl"
    else:
        shown = ", ".join(map(printable, columns)) or "none"
        problem = f"it has no {FILE_COLUMN}; its columns are {shown}"
        advice = f"Give each row a {FILE_COLUMN}, the path of its image relative to the folder"
    return _unreadable(path, None, problem, advice, NoFileNamesError)


def _relative_path(path: Path, line: int, value: Any) -> str:
    """Return the file name of a row.

    Raises:
        SplitError: if it has none, or one outside the folder.
    """
    if not isinstance(value, str) or not value:
        problem = f"its {FILE_COLUMN} is {'empty' if value in (None, '') else printable(repr(value))}"
        raise _unreadable(path, line, problem, "Give each row the name of its image, as text")
    if _ELSEWHERE.match(value) or ".." in value.replace("\\", "/").split("/"):
        problem = f"its {FILE_COLUMN} {printable(value)} is not within the folder"
        raise _unreadable(path, line, problem, f"Write paths relative to the folder of {path.name}, without '..'")
    return value


def _text_in(path: Path, line: int, cells: dict[str, Any], columns: Sequence[str]) -> str | None:
    """Return the value of the first of these columns that has one, as text."""
    for column in columns:
        value = first_value(cells.get(column))
        if isinstance(value, bytes):
            value = value.decode("utf-8", "surrogateescape")
        text = None if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)
        if text is None or not text.strip():
            continue
        try:
            text.encode()
        except UnicodeEncodeError as error:
            problem = f"its {column!r} is no valid text ({error.reason} at character {error.start})"
            raise _unreadable(path, line, problem, "Write that text again") from error
        return text
    return None


def first_value(value: Any) -> Any:
    """Return the first caption of an image that has several; None for an empty list, and any other value unchanged."""
    if not isinstance(value, (list, tuple)):
        return value
    return value[0] if value else None


def is_metadata(name: str) -> bool:
    """Whether a file of this name is metadata of the images beside it."""
    return uniform_name(name).lower() in METADATA_FILES
