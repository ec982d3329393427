"""Peak memory of a computation on any device, and the recognition of errors for lack of memory."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import torch


def reset_peak_memory(device: torch.device) -> None:
    """Start a new peak: of an accelerator's allocator, or, on Linux, of the process, beginning with its present memory.

    Of several computations in one process, none inherits the peak of an earlier one, but all count what stays in memory throughout: the
    interpreter, the libraries and the model. On other systems the process's peak can't be reset, and counts from its start.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif device.type == "cpu":
        with suppress(OSError):  # another system, or a container that forbids it
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mb(device: torch.device) -> float | None:
    """Return MiB of the accelerator's allocator, or of the process, since `reset_peak_memory` if that is possible; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if device.type != "cpu":
        return None
    with suppress(OSError):
        # Linux: ru_maxrss would be inherited from the process that started this one.
        peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        if peak:
            return int(peak[1]) / 2**10
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts in bytes


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error was raised for lack of memory."""
    # On the CPU torch raises a plain RuntimeError for a failed allocation.
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(
        text in str(error).lower() for text in ("out of memory", "can't allocate memory", "not enough memory")
    )
