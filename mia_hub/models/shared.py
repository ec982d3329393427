"""One model asked by several threads at once: what waits for a forward pass goes through it together."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import torch

from mia_hub.models.condition_rows import joined
from mia_hub.models.protocol import DiffusionModel


class SharedModel:
    """A model whose forward passes are shared by the threads that ask it at the same time.

    No thread of its own runs them, so that it can be forked, and nobody waits for company: whoever finds the model free asks it for all
    that waits at that moment. Passes of a long question stand in the same line as all others.

    Args:
        model: any; it is asked by one thread at a time.
        rows: most rows of a shared pass; what a single thread asks for goes through whole.
    """

    def __init__(self, model: DiffusionModel, rows: int):
        self._model, self._rows = model, rows
        self._line: deque[_Asked] = deque()
        self._turn, self._asking = threading.Condition(), False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def predict_noise(self, x: torch.Tensor, t: torch.Tensor, cond: Any = None) -> torch.Tensor:
        """As the model's own."""
        if torch.is_grad_enabled():
            return self._model.predict_noise(x, t, cond)
        own = _Asked(x, t, cond)
        with self._turn:
            self._line.append(own)
        while asked := self._next(own):
            try:
                self._ask(asked)
            finally:
                self._end(asked)
        if own.error is not None:
            raise own.error
        return own.found

    def _next(self, own: _Asked) -> list[_Asked]:
        """The pass that the thread which waits for ``own`` is to run now: the first in line, and those behind it that fit. None once its
        own is done."""
        with self._turn:
            self._turn.wait_for(lambda: own.done or not self._asking)
            if own.done:
                return []
            self._asking = True
            first = self._line.popleft()
            found, rows, left = [first], len(first.x), deque()
            while self._line:
                other = self._line.popleft()
                if other.kind == first.kind and rows + len(other.x) <= self._rows:
                    found.append(other)
                    rows += len(other.x)
                else:
                    left.append(other)
            self._line = left
        return found

    def _end(self, asked: list[_Asked]) -> None:
        """Lets the others go on: those with an answer, and the next that finds the model free."""
        with self._turn:
            for one in asked:
                if not one.done:
                    one.error, one.done = RuntimeError("The forward pass was interrupted."), True
            self._asking = False
            self._turn.notify_all()

    def _ask(self, asked: list[_Asked]) -> None:
        try:
            if len(asked) == 1:
                found = [self._model.predict_noise(asked[0].x, asked[0].t, asked[0].cond)]
            else:
                x, t = (torch.cat([getattr(one, name) for one in asked]) for name in ("x", "t"))
                found = self._model.predict_noise(x, t, joined([one.cond for one in asked])).split([len(one.x) for one in asked])
        except Exception as error:
            if len(asked) > 1:  # each learns of its own trouble only, such as too little memory
                for one in asked:
                    self._ask([one])
                return
            found = [None]
            asked[0].error = error
        for one, its in zip(asked, found):
            one.found, one.done = its, True


class _Asked:
    """A forward pass that a thread waits for."""

    def __init__(self, x: torch.Tensor, t: torch.Tensor, cond: Any):
        self.x, self.t, self.cond = x, t, cond
        self.found: torch.Tensor | None = None
        self.error: Exception | None = None
        self.done = False
        told = {"": cond} if isinstance(cond, torch.Tensor) else cond or {}
        # What must be the same to go through a pass together.
        self.kind = tuple((name, tuple(value.shape[1:]), value.dtype, value.device) for name, value in {"x": x, **told}.items())
