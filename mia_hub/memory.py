"""Peak memory of a computation, on whatever device it runs."""

from __future__ import annotations

import re
from pathlib import Path

import torch


def reset_peak_memory(device: torch.device) -> None:
    """Starts a new peak on an accelerator; on the CPU the peak is the process's own and can't be reset."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_mb(device: torch.device) -> float | None:
    """MiB: the accelerator's allocator since `reset_peak_memory`, or the process since its start; None where unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if device.type != "cpu":
        return None
    try:
        # Linux: ru_maxrss would be inherited from the process that started this one.
        status = Path("/proc/self/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 2**10
    except (OSError, TypeError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts in bytes
