"""A model that answers each query once, for benchmarks and studies that score the same images in several ways."""

from __future__ import annotations

from typing import Any

import torch


class CachedModel:
    """A model that answers each query once; an answer doesn't depend on the batch."""

    def __init__(self, model: Any):
        self._model, self._answers = model, {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def predict_noise(self, x: torch.Tensor, t: torch.Tensor, cond: Any = None) -> torch.Tensor:
        keys = [(int(step), row.numpy().tobytes()) for row, step in zip(x, t)]
        new = {key: place for place, key in enumerate(keys) if key not in self._answers}
        if new:
            rows = list(new.values())
            self._answers |= zip(new, self._model.predict_noise(x[rows], t[rows], cond))
        return torch.stack([self._answers[key] for key in keys])
