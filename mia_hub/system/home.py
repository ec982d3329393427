"""Where mia_hub keeps what is to outlive a run."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The folder that MIA_HUB_HOME names; ``~/.local/share/mia_hub`` by default."""
    return Path(os.environ.get("MIA_HUB_HOME") or "~/.local/share/mia_hub").expanduser()
