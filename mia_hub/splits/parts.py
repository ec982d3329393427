"""From a folder, Parquet files or a data set on the Hub to its members and non-members; nothing is read before it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from mia_hub.images.sequences import SelectedSequence
from mia_hub.splits.hub_rows import Rows


class ColumnNames(NamedTuple):
    """The columns of a data set that were asked for by name; the usual ones where None."""

    image_column: str | None = None
    caption_column: str | None = None
    class_column: str | None = None


@dataclass(frozen=True)
class SplitPart:
    """Some rows of a table: the members, or the non-members.

    Attributes:
        rows: the table.
        chosen: int ``[n]``, which of its rows; all where None.
        name: of the split, for messages.
    """

    rows: Rows
    chosen: np.ndarray | None
    name: str

    def __len__(self) -> int:
        return len(self.rows) if self.chosen is None else len(self.chosen)

    def lazy(self, column: str) -> Sequence:
        values = self.rows.lazy(column)
        return values if self.chosen is None else SelectedSequence(values, self.chosen)

    def only(self, places: np.ndarray) -> SplitPart:
        return replace(self, chosen=places if self.chosen is None else self.chosen[places])


class FetchOptions(NamedTuple):
    """How addresses are dealt with.

    Attributes:
        allowed: whether images may be fetched from the addresses in a data set.
        limit, seed: of the draw; only what is drawn is fetched.
        progress: shows a progress bar.
    """

    allowed: bool = False
    limit: int | None = None
    seed: int = 0
    progress: bool = True
