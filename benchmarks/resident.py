"""How much memory a process holds at the moment (Linux)."""

from __future__ import annotations

import re
from pathlib import Path


def resident_mb(pid: int | str = "self") -> float:
    """MiB of a running process; of this one by default."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 2**10
