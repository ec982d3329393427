"""Forward passes of a command: run twice, so that the work around them can be compared with them within the same second; or recorded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from mia_hub.system.timing import measured_seconds


class TwicePasses:
    """Runs each forward pass twice and times the extra one, which is alternately the first and the second.

    The speed of a shared machine drifts by a tenth within minutes, but not within the second that two passes take.

    Attributes:
        seconds: processor time of the extra passes, in the thread that runs them.
        rows: their rows.
    """

    def __init__(self) -> None:
        self.seconds, self.rows, self._swap = 0.0, 0, False

    def run(self, predict: Callable[..., torch.Tensor], x: torch.Tensor, t: torch.Tensor, cond: Any = None) -> torch.Tensor:
        """Return ``predict(x, t, cond)``."""
        self._swap = not self._swap
        prediction = predict(x, t, cond) if self._swap else None
        # This thread's time alone: the work around is charged for what other threads do meanwhile.
        self.seconds += measured_seconds(lambda: predict(x, t.contiguous(), cond), clock=time.thread_time)
        self.rows += len(x)
        return predict(x, t, cond) if prediction is None else prediction


@contextmanager
def passes_twice(kind: type) -> Iterator[TwicePasses]:
    """Run the forward passes of all models of a class twice; for commands, which load the model themselves."""
    twice, alone = TwicePasses(), kind.predict_noise
    kind.predict_noise = lambda self, *query: twice.run(lambda *same: alone(self, *same), *query)
    try:
        yield twice
    finally:
        kind.predict_noise = alone


@contextmanager
def recorded_passes(kind: type) -> Iterator[list[tuple[torch.Tensor, torch.Tensor, Any]]]:
    """Record the inputs of the forward passes of all models of a class, in order."""
    passes: list[tuple[torch.Tensor, torch.Tensor, Any]] = []
    predict = kind.predict_noise

    def recording(self: Any, x: torch.Tensor, t: torch.Tensor, cond: Any = None) -> torch.Tensor:
        passes.append((x, t.contiguous(), cond))
        return predict(self, x, t, cond)

    kind.predict_noise = recording
    try:
        yield passes
    finally:
        kind.predict_noise = predict
