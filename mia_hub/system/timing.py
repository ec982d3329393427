"""Time of a piece of work, including what an accelerator does asynchronously."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch


def measured_seconds(work: Callable[[], Any], device: torch.device | None = None, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the seconds that one call takes.

    Args:
        work: called once.
        device: where the work may run; None for the CPU.
        clock: `time.process_time` for processor time.
    """
    _synchronize(device)
    started = clock()
    work()
    _synchronize(device)
    return clock() - started


def _synchronize(device: torch.device | None) -> None:
    if device is not None and device.type != "cpu":
        torch.accelerator.synchronize(device)
