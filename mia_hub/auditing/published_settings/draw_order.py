"""The order in which rows of a split are drawn: a seeded permutation, and what is taken out of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mia_hub.auditing.published_settings.image_source import ImageSource, RowCondition
from mia_hub.errors import SplitError


def draw_order(
    source: ImageSource, n_rows: int, *, classes: Sequence[int] | None = None, eligible: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.int64]:
    """Return rows in the order in which they are drawn: the first ``source.count``, and then those that can replace missing ones.

    Args:
        source: see there for the rule.
        n_rows: number of rows to draw from.
        classes: class of each row, for ``per_class``.
        eligible: bool ``[n_rows]``, whether a row fulfils the conditions.

    Raises:
        SplitError: if fewer than ``source.count`` rows are left.
    """
    order = np.random.default_rng(source.seed).permutation(n_rows)
    if eligible is not None:
        order = order[eligible[order]]
    if source.per_class is not None:
        order = order[_place_in_class(np.asarray(classes)[order]) < source.per_class]
    drawn = order[source.first :]
    if len(drawn) < source.count:
        condition = " that fulfil its conditions" if source.where or source.per_class is not None else ""
        raise SplitError(
            f"{source.dataset} has {len(order):,} rows{condition} to draw from in its split {source.split!r}, and {source.count:,} from "
            f"{source.first:,} on are needed. Draw fewer, or see whether the data set has changed."
        )
    return drawn


def _place_in_class(classes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return, for each entry, how many of its class come before it."""
    by_class = np.argsort(classes, kind="stable")
    ordered = classes[by_class]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else np.zeros(0, int)
    places = np.empty(len(classes), int)
    places[by_class] = np.arange(len(classes)) - np.repeat(starts, np.diff(np.r_[starts, len(ordered)]))
    return places


def eligible_rows(condition: RowCondition, values: Sequence[Any]) -> npt.NDArray[np.bool_]:
    """Return bool ``[n]``: which values of a column fulfil a condition; a missing one fulfils none."""
    if condition.ascii:
        return np.array([isinstance(value, str) and bool(value) and value.isascii() for value in values], bool)
    numbers = np.array([np.nan if value is None else value for value in values], float)
    above: npt.NDArray[np.bool_] = numbers > (-np.inf if condition.above is None else condition.above)
    return above & (numbers < (np.inf if condition.below is None else condition.below))
