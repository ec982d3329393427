"""One model queried by several threads at once: queries that wait share a forward pass."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any
from weakref import WeakSet, finalize, ref

import torch

from mia_hub.models.condition_rows import concatenated_conditions
from mia_hub.models.protocol import DiffusionModel


class SharedModel:
    """A model whose forward passes are shared by the threads that query it at the same time.

    All passes run in one thread, since each thread that ever ran one would keep working memory and OpenMP threads of its own. It takes over
    inference mode from the thread that waits, and nothing else that is set per thread. No query waits for others to join it: when the model
    is free, one pass is run for as many queries as fit, in the order of their arrival. The passes of a large batch stand in the same queue
    as all others, and so do those of its base (under a LoRA both are one network, which is switched between them) and of its reference
    models. After a fork, the child has a queue and a thread of its own.

    Args:
        model: any; it is queried by one thread at a time.
        rows: most rows of a shared pass; a larger query has a pass of its own.
        line: where queries wait; that of another model, to take turns with it, and with its ``rows``.
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
        try:
            return query.epsilon.result()
        finally:
            # An error that is raised refers to this frame, and would be kept by what it is kept by.
            del query


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
        self._calls: SimpleQueue[bool] | None = None

    def add(self, query: _Query) -> None:
        """Queue a query, and call the thread."""
        with self._lock:
            self.queue.append(query)
            if self._calls is None:
                self._calls = self._thread()
            self._calls.put(True)

    def _thread(self) -> SimpleQueue[bool]:
        """Start the thread; return where it is called: to run what waits, or, once the line is garbage-collected, to end."""
        calls = SimpleQueue[bool]()
        # A daemon, which nobody waits for at the interpreter's end.
        threading.Thread(target=_run_when_called, args=(calls, ref(self)), name="passes", daemon=True).start()
        finalize(self, calls.put, False).atexit = False
        return calls

    def run_all(self) -> None:
        """Run passes until no query waits."""
        while queries := self._next_queries():
            try:
                with torch.inference_mode(queries[0].inference), torch.no_grad():
                    _run(queries)
            finally:
                # A thread that is called next may be long in coming, and would keep them until then.
                queries.clear()

    def _next_queries(self) -> list[_Query]:
        """The first query of the queue, and those behind it that fit; none if none waits."""
        with self._lock:
            queries, rows, rest = list[_Query](), 0, deque[_Query]()
            for query in self.queue:
                if not queries or (query.kind == queries[0].kind and rows + query.rows <= self.rows):
                    queries.append(query)
                    rows += query.rows
                else:
                    rest.append(query)
            self.queue = rest
        return queries


def _run_when_called(calls: SimpleQueue[bool], line: ref[_Line]) -> None:
    while calls.get():
        if (own := line()) is not None:
            own.run_all()
        # Whoever waits must not keep the line.
        del own


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
        rows: how many.
        inference: whether the thread that waits is in inference mode.
        kind: queries of one kind can share a pass.
    """

    def __init__(self, model: DiffusionModel, x: torch.Tensor, t: torch.Tensor, cond: Any):
        self.model, self.x, self.t, self.cond = model, x, t, cond
        self.epsilon, self.rows, self.inference = Future[torch.Tensor](), len(x), torch.is_inference_mode_enabled()
        values = {"": cond} if isinstance(cond, torch.Tensor) else cond or {}
        shapes = tuple((name, tuple(value.shape[1:]), value.dtype, value.device) for name, value in {"x": x, **values}.items())
        self.kind = (id(model), self.inference, shapes)


def _run(queries: list[_Query]) -> None:
    """Run one pass for queries of one kind, and so of one model."""
    try:
        results = _pass(queries)
    except BaseException as error:  # whatever it is, no thread may be left waiting
        results = None
        if len(queries) == 1:
            queries.pop().epsilon.set_exception(error)
    if results is None:
        # Each is run alone, so that only the query at fault fails, as with too little memory; what the failed pass held is free by now.
        for query in queries:
            _run([query])
    else:
        for query, rows in zip(queries, results):
            query.epsilon.set_result(rows)


def _pass(queries: list[_Query]) -> list[torch.Tensor]:
    """Return what is predicted for each query."""
    first = queries[0]
    if len(queries) == 1:
        return [first.model.predict_noise(first.x, first.t, first.cond)]
    x, t = torch.cat([query.x for query in queries]), torch.cat([query.t for query in queries])
    cond = concatenated_conditions([query.cond for query in queries])
    return list(torch.split(first.model.predict_noise(x, t, cond), [query.rows for query in queries]))
