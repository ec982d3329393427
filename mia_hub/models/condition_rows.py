"""Rows of a condition, as `DiffusionModel.condition` returns it: None, a tensor, or a dict of tensors, with one row per image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def condition_rows(cond: Any, rows: slice | torch.Tensor) -> Any:
    """Some rows of a condition, by a slice or by their indices."""
    if cond is None:
        return None
    return {name: value[rows] for name, value in cond.items()} if isinstance(cond, dict) else cond[rows]


def concatenated_conditions(conditions: Sequence[Any]) -> Any:
    """The rows of several conditions of one kind, in order, as one condition."""
    first = conditions[0]
    if first is None or len(conditions) == 1:
        return first
    if isinstance(first, dict):
        return {name: torch.cat([cond[name] for cond in conditions]) for name in first}
    return torch.cat(list(conditions))
