"""Rows of a condition, as `DiffusionModel.condition` returns it: None, a tensor, or a dict of tensors, with one row per image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def rows_of(cond: Any, rows: slice | torch.Tensor) -> Any:
    """Some rows of a condition, by a slice or by their indices."""
    if cond is None:
        return None
    return {name: value[rows] for name, value in cond.items()} if isinstance(cond, dict) else cond[rows]


def joined(conditions: Sequence[Any]) -> Any:
    """Conditions of one kind, one below the other."""
    first = conditions[0]
    if first is None or len(conditions) == 1:
        return first
    return {name: torch.cat([one[name] for one in conditions]) for name in first} if isinstance(first, dict) else torch.cat(conditions)
