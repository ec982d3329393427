"""Rows of Parquet files in a folder, which may have a card like a data set on the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mia_hub.errors import SplitError, first_line
from mia_hub.splits.parquet_rows import ParquetRows


def open_local(folder: Path, paths: Sequence[Path]) -> ParquetRows:
    """Open Parquet files in a folder; column types in the folder's card take precedence over those in the files.

    Raises:
        SplitError: if a file can't be read, or the files differ; later, if types are needed and the card can't be read.
    """
    return ParquetRows(paths, stated=lambda: _types_in_card(folder))


def _types_in_card(folder: Path) -> Any:
    """Return the column types in a folder's card, as a `datasets.Features`; None for no types, or those of several configurations."""
    from datasets.info import DatasetInfosDict

    try:
        infos = DatasetInfosDict.from_directory(str(folder))
    except Exception as error:  # of YAML, of the card, of the types: anything may stand there
        raise SplitError(f"The card {folder / 'README.md'} can't be read ({first_line(error)[:200]}). Repair or remove it.") from error
    info = infos.get("default") or (next(iter(infos.values())) if len(infos) == 1 else None)
    return info.features if info else None
