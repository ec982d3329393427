"""The stores that are used by default: those named by the environment, or two folders in the user's home.

MIA_HUB_REQUESTS, MIA_HUB_RESULTS     a folder, or hub:owner/name
MIA_HUB_LOCAL                         folder of the models and splits named local:NAME, for the worker and 'mia-hub submit' (default: none)
MIA_HUB_HOME                          the home of the default folders (default: ~/.local/share/mia_hub)
"""

from __future__ import annotations

import os
from pathlib import Path

from mia_hub.system.files import home_folder

# Results that come with the software, in the layout of a store of results.
ENTRIES_FOLDER = Path(__file__).parent / "entries"


def requests_address() -> str:
    """Return the address of the store of requests, as `leaderboard.stores.opening.open_store` takes it."""
    return os.environ.get("MIA_HUB_REQUESTS") or str(home_folder() / "requests")


def results_address() -> str:
    """Return the address of the store of results, as `leaderboard.stores.opening.open_store` takes it."""
    return os.environ.get("MIA_HUB_RESULTS") or str(home_folder() / "results")


def local_folder() -> str | None:
    """Return the folder of local models and splits; None if there is none."""
    return os.environ.get("MIA_HUB_LOCAL") or None
