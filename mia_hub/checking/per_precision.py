"""A value that must be in the precision that its model computes in."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from mia_hub.models.precision import precision_of
from mia_hub.models.protocol import DiffusionModel

Value = TypeVar("Value")
Result = TypeVar("Result")


class PerPrecision(Generic[Value]):
    """A value computed with a model, once in each precision that the model computes in.

    A part of a model that overflows in half precision runs in a wider one from then on. What was computed before can't be compared with
    what is computed afterwards, so the value is then computed again; when that fails, the next user of the value tries again.

    Args:
        model: whose precision counts.
        compute: returns the value; called in one thread at a time.
    """

    def __init__(self, model: DiffusionModel, compute: Callable[[], Value]):
        self._model, self._compute, self._computing = model, compute, threading.Lock()
        # The value and its precision together, so that no thread sees one without the other.
        self._latest: tuple[Value, str] | None = None
        self._current()

    @property
    def latest(self) -> Value:
        """The value as it was last computed."""
        assert self._latest is not None
        return self._latest[0]

    def use(self, work: Callable[[Value], Result]) -> Result:
        """Return the result of work that queries the model and uses the value, both in one precision."""
        while True:
            current = self._current()
            result = work(current[0])
            if self._latest is current and current[1] == precision_of(self._model):
                return result

    def _current(self) -> tuple[Value, str]:
        with self._computing:
            while self._latest is None or self._latest[1] != precision_of(self._model):
                precision = precision_of(self._model)
                value = self._compute()
                if precision_of(self._model) == precision:  # else a part overflowed meanwhile, and it is computed once more
                    self._latest = value, precision
            return self._latest
