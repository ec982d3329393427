"""How long work takes, with all of it that an accelerator does behind the program's back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch


def measured_seconds(work: Callable[[], Any], device: torch.device | None = None, clock: Callable[[], float] = time.perf_counter) -> float:
    """Time of one call.

    Args:
        work: is called.
        device: what the work may have started on; None for the CPU.
        clock: `time.process_time`, for processor time.
    """
    _wait(device)
    started = clock()
    work()
    _wait(device)
    return clock() - started


def _wait(device: torch.device | None) -> None:
    if device is not None and device.type != "cpu":
        torch.accelerator.synchronize(device)
