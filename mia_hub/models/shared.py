"""One model queried by several threads at once: queries that wait share a forward pass."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from weakref import WeakSet

import torch

from mia_hub.models.condition_rows import concatenated_conditions
from mia_hub.models.protocol import DiffusionModel


class SharedModel:
    """A model whose forward passes are shared by the threads that query it at the same time.

    All passes run in one thread: each thread that ever ran one would keep working memory of its own, and helpers of its own. No query waits
    for others to join it: when the model is free, one pass is run for as many queries as fit, in the order of their arrival. The passes of
    a large batch stand in the same queue as all others, and so do those of its base (under a LoRA both are one network, which is switched
    between them) and of its reference models. After a fork, the child has a queue and a thread of its own.

    Args:
        model: any; it is queried by one thread at a time.
        rows: most rows of a shared pass; a larger query has a pass of its own.
        line: where queries wait; that of another model, to take turns with it.
    """

    def __init__(self, model: DiffusionModel, rows: int, line: _Line | None = None):
        self._model, self._line = model, line or _Line(rows)
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
        return other if isinstance(other, SharedModel) else SharedModel(other, self._line.rows, self._line)

    def predict_noise(self, x: torch.Tensor, t: torch.Tensor, cond: Any = None) -> torch.Tensor:
        """The predicted noise, as the model returns it."""
        if torch.is_grad_enabled():
            return self._model.predict_noise(x, t, cond)
        query = _Query(self._model, x, t, cond)
        self._line.add(query)
        return query.epsilon.result()


class _Line:
    """Where queries wait for their pass, and the thread that runs it.

    Args:
        rows: most rows of a shared pass.

    Attributes:
        queue: the queries that wait, in the order of their arrival.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.begin()
        _lines.add(self)

    def begin(self) -> None:
        """Begin with an empty queue, and with no thread until it is needed."""
        self.queue, self._lock = deque[_Query](), threading.Lock()
        # Its thread ends when the line is deleted.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="passes")

    def add(self, query: _Query) -> None:
        """Let a query wait for its pass, of which there is at most one for each query."""
        with self._lock:
            self.queue.append(query)
        self._thread.submit(self._run_next)

    def _run_next(self) -> None:
        if queries := self._next_queries():
            with torch.inference_mode(queries[0].inference), torch.no_grad():
                _run(queries)

    def _next_queries(self) -> list[_Query]:
        """The first query of the queue, and those behind it that fit; none if earlier passes had room for all."""
        with self._lock:
            queries, rows, rest = list[_Query](), 0, deque[_Query]()
            for query in self.queue:
                if not queries or (query.kind == queries[0].kind and rows + len(query.x) <= self.rows):
                    queries.append(query)
                    rows += len(query.x)
                else:
                    rest.append(query)
            self.queue = rest
        return queries


# A child process has none of its parent's threads, and waits for none of its queries.
_lines = WeakSet[_Line]()


def _begin_again() -> None:
    for line in _lines:
        line.begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_again)


class _Query:
    """A forward pass that a thread waits for.

    Attributes:
        epsilon: the predicted noise, once there is one.
        inference: whether the thread that waits is in inference mode.
        kind: queries of one kind can share a pass.
    """

    def __init__(self, model: DiffusionModel, x: torch.Tensor, t: torch.Tensor, cond: Any):
        self.model, self.x, self.t, self.cond = model, x, t, cond
        self.epsilon, self.inference = Future[torch.Tensor](), torch.is_inference_mode_enabled()
        values = {"": cond} if isinstance(cond, torch.Tensor) else cond or {}
        shapes = tuple((name, tuple(value.shape[1:]), value.dtype, value.device) for name, value in {"x": x, **values}.items())
        self.kind = (id(model), self.inference, shapes)


def _run(queries: list[_Query]) -> None:
    """Run one pass for queries of one kind, and so of one model."""
    first = queries[0]
    try:
        if len(queries) == 1:
            epsilon = [first.model.predict_noise(first.x, first.t, first.cond)]
        else:
            x, t = torch.cat([query.x for query in queries]), torch.cat([query.t for query in queries])
            cond = concatenated_conditions([query.cond for query in queries])
            epsilon = list(torch.split(first.model.predict_noise(x, t, cond), [len(query.x) for query in queries]))
    except BaseException as error:  # whatever it is, no thread may be left waiting
        if len(queries) == 1:
            first.epsilon.set_exception(error)
        else:  # each is run alone, so that only the query at fault fails, as with too little memory
            for query in queries:
                _run([query])
        return
    for query, rows in zip(queries, epsilon):
        query.epsilon.set_result(rows)
