"""Which rows of a split are drawn: a seeded permutation, and what is taken out of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mia_hub.auditing.published_settings.source import Condition, Source
from mia_hub.errors import SplitError


def candidates(source: Source, n_rows: int, *, classes: Sequence[int] | None = None, fulfils: np.ndarray | None = None) -> np.ndarray:
    """The rows in the order in which they are drawn; the first ``source.count`` of them are, and the others can replace missing ones.

    Args:
        source: see there for the rule.
        n_rows: rows that there are to draw from.
        classes: class of each row, for ``per_class``.
        fulfils: bool ``[n_rows]``, whether a row fulfils the conditions.

    Raises:
        SplitError: if fewer rows are left than are asked for.
    """
    order = np.random.default_rng(source.seed).permutation(n_rows)
    if fulfils is not None:
        order = order[fulfils[order]]
    if source.per_class is not None:
        order = order[_place_in_class(np.asarray(classes)[order]) < source.per_class]
    found = order[source.first :]
    if len(found) < source.count:
        left_out = " that fulfil its conditions" if source.where or source.per_class is not None else ""
        raise SplitError(
            f"{source.dataset} has {len(order):,} rows{left_out} to draw from in its split {source.split!r}, and {source.count:,} from "
            f"{source.first:,} on are asked for. Ask for fewer, or see whether the data set has changed."
        )
    return found


def _place_in_class(classes: np.ndarray) -> np.ndarray:
    """For each entry, how many of its class come before it."""
    by_class = np.argsort(classes, kind="stable")
    ordered = classes[by_class]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else np.zeros(0, int)
    places = np.empty(len(classes), int)
    places[by_class] = np.arange(len(classes)) - np.repeat(starts, np.diff(np.r_[starts, len(ordered)]))
    return places


def fulfilled(condition: Condition, values: Sequence) -> np.ndarray:
    """bool ``[n]``: which values of a column fulfil a condition; one that isn't there fulfils none."""
    if condition.ascii:
        return np.array([isinstance(value, str) and bool(value) and value.isascii() for value in values], bool)
    numbers = np.array([np.nan if value is None else value for value in values], float)
    above = numbers > (-np.inf if condition.above is None else condition.above)
    return above & (numbers < (np.inf if condition.below is None else condition.below))
