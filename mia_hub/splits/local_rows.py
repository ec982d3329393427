"""Rows of Parquet files in a folder, which may have a card as data sets on the Hub have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mia_hub.errors import SplitError, first_line
from mia_hub.splits.parquet_rows import ParquetRows


def open_local(folder: Path, paths: Sequence[Path]) -> ParquetRows:
    """Opens some Parquet files in a folder; what the folder's card states of the columns goes before what the files do.

    Raises:
        SplitError: if a file can't be read, or the files differ; later, if types are asked for and the card can't be read.
    """
    return ParquetRows(paths, stated=lambda: _stated(folder))


def _stated(folder: Path):
    """The columns' types by the card in a folder, as a `datasets.Features`; None where it states none, or several configurations'."""
    from datasets.info import DatasetInfosDict

    try:
        infos = DatasetInfosDict.from_directory(str(folder))
    except Exception as error:  # of YAML, of the card, of the types: what stands there may be anything
        raise SplitError(f"The card {folder / 'README.md'} can't be read ({first_line(error)[:200]}). Mend it, or take it away.") from error
    info = infos.get("default") or (next(iter(infos.values())) if len(infos) == 1 else None)
    return info.features if info else None
