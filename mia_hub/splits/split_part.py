"""One side of a split in a table, and the options for reading it; nothing is read before it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mia_hub.images.sequences import SelectedSequence
from mia_hub.splits.hub_rows import Rows


class ColumnNames(NamedTuple):
    """Names of a data set's columns; None for the usual names."""

    image_column: str | None = None
    caption_column: str | None = None
    class_column: str | None = None


class FetchOptions(NamedTuple):
    """Options for images behind addresses.

    Attributes:
        allowed: whether images may be fetched.
        limit, seed: of the draw; only drawn images are fetched.
        progress: shows a progress bar.
    """

    allowed: bool = False
    limit: int | None = None
    seed: int = 0
    progress: bool = True


@dataclass(frozen=True)
class SplitPart:
    """Rows of a table: the members, or the non-members.

    Attributes:
        rows: the table.
        selection: int ``[n]``, the numbers of its rows; None for all rows.
        name: of the split, for messages.
    """

    rows: Rows
    selection: npt.NDArray[np.int64] | None
    name: str

    def __len__(self) -> int:
        return len(self.rows) if self.selection is None else len(self.selection)

    @property
    def row_numbers(self) -> npt.NDArray[np.int64]:
        """int64 ``[n]``: the numbers of the part's rows in the table."""
        return np.arange(len(self.rows)) if self.selection is None else self.selection

    def lazy(self, column: str) -> Sequence[Any]:
        """Return a column of the part, read when it is indexed."""
        values = self.rows.lazy(column)
        return values if self.selection is None else SelectedSequence(values, self.selection)

    def only(self, places: npt.NDArray[np.int64]) -> SplitPart:
        """Return the part with only the rows at these places of it."""
        return replace(self, selection=places if self.selection is None else self.selection[places])
