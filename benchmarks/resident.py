"""Resident memory of a process (Linux)."""

from __future__ import annotations

import re
from pathlib import Path


def resident_mb(pid: int | str = "self") -> float:
    """Return the resident memory of a process in MiB; of this process by default."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 2**10
