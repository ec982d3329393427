"""One model queried by several threads at once: queries that wait share a forward pass."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import Any

import torch

from mia_hub.models.condition_rows import concatenated_conditions
from mia_hub.models.protocol import DiffusionModel


class SharedModel:
    """A model whose forward passes are shared by the threads that query it at the same time.

    It has no thread of its own, so that it can be forked, and no query waits for others to join it: the thread that finds the model free
    runs one pass for as many queries as fit, in the order of their arrival. The passes of a large batch stand in the same queue as all
    others, and so do those of its base (under a LoRA both are one network, which is switched between them) and of its reference models.

    Args:
        model: any; it is queried by one thread at a time.
        rows: most rows of a shared pass; a larger query has a pass of its own.
        line: where queries wait; that of another model, to take turns with it.
    """

    def __init__(self, model: DiffusionModel, rows: int, line: _Line | None = None):
        self._model, self._rows, self._line = model, rows, line or _Line()
        self.base = getattr(model, "base", None)
        self.reference_models = getattr(model, "reference_models", ())

    def __getattr__(self, name: str) -> Any:
        # A copy looks for special names before it has its own values.
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._model, name)

    @property
    def base(self) -> Any:
        """The base of the model, queried in turn with it; None if none is loaded."""
        return self._base

    @base.setter
    def base(self, base: Any) -> None:
        self._base = None if base is None else self._in_line(base)

    @property
    def reference_models(self) -> tuple[SharedModel, ...]:
        """The reference models, queried in turn with the model; none by default."""
        return self._reference_models

    @reference_models.setter
    def reference_models(self, reference_models: Iterable[DiffusionModel]) -> None:
        self._reference_models = tuple(self._in_line(each) for each in reference_models)

    def _in_line(self, other: DiffusionModel) -> SharedModel:
        """Another model, queried in turn with this one."""
        return other if isinstance(other, SharedModel) else SharedModel(other, self._rows, self._line)

    def predict_noise(self, x: torch.Tensor, t: torch.Tensor, cond: Any = None) -> torch.Tensor:
        """The predicted noise, as the model returns it."""
        if torch.is_grad_enabled():
            return self._model.predict_noise(x, t, cond)
        own = _Query(self._model, x, t, cond)
        with self._line.changed:
            self._line.queue.append(own)
        while queries := self._next_pass(own):
            try:
                self._run(queries)
            finally:
                self._finish(queries)
        return own.result()

    def _next_pass(self, own: _Query) -> list[_Query]:
        """The queries of the pass that the calling thread is to run now: the first in the queue, and those behind it that fit.

        Args:
            own: the thread's query. Once it is done, there is nothing to run.
        """
        line = self._line
        with line.changed:
            line.changed.wait_for(lambda: own.done or not line.busy)
            if own.done:
                return []
            line.busy = True
            first = line.queue.popleft()
            queries, rows, rest = [first], len(first.x), deque[_Query]()
            while line.queue:
                query = line.queue.popleft()
                if query.kind == first.kind and rows + len(query.x) <= self._rows:
                    queries.append(query)
                    rows += len(query.x)
                else:
                    rest.append(query)
            line.queue = rest
        return queries

    def _finish(self, queries: list[_Query]) -> None:
        """Wake the threads whose queries are done, and the one that finds the model free next."""
        with self._line.changed:
            for query in queries:
                if not query.done:
                    query.error, query.done = RuntimeError("The forward pass was interrupted."), True
            self._line.busy = False
            self._line.changed.notify_all()

    def _run(self, queries: list[_Query]) -> None:
        """Run one pass for queries of one kind, and so of one model, which may be another than this one."""
        model = queries[0].model
        try:
            if len(queries) == 1:
                epsilon = [model.predict_noise(queries[0].x, queries[0].t, queries[0].cond)]
            else:
                x, t = torch.cat([query.x for query in queries]), torch.cat([query.t for query in queries])
                cond = concatenated_conditions([query.cond for query in queries])
                epsilon = list(torch.split(model.predict_noise(x, t, cond), [len(query.x) for query in queries]))
        except Exception as error:
            if len(queries) > 1:  # each is run alone, so that only the query at fault fails, as with too little memory
                for query in queries:
                    self._run([query])
            else:
                queries[0].error, queries[0].done = error, True
            return
        for query, rows in zip(queries, epsilon):
            query.epsilon, query.done = rows, True


class _Line:
    """Where queries wait for their pass.

    Attributes:
        queue: those that wait, in the order of their arrival.
        changed: held for every change.
        busy: whether a pass is running.
    """

    def __init__(self) -> None:
        self.queue: deque[_Query] = deque()
        self.changed, self.busy = threading.Condition(), False


class _Query:
    """A forward pass that a thread waits for."""

    def __init__(self, model: DiffusionModel, x: torch.Tensor, t: torch.Tensor, cond: Any):
        self.model, self.x, self.t, self.cond = model, x, t, cond
        self.epsilon: torch.Tensor | None = None
        self.error: Exception | None = None
        self.done = False
        values = {"": cond} if isinstance(cond, torch.Tensor) else cond or {}
        shapes = tuple((name, tuple(value.shape[1:]), value.dtype, value.device) for name, value in {"x": x, **values}.items())
        # Queries of one kind can share a pass.
        self.kind = (id(model), shapes)

    def result(self) -> torch.Tensor:
        """The predicted noise; raises the error of its pass if that failed."""
        if self.error is not None:
            raise self.error
        assert self.epsilon is not None
        return self.epsilon
