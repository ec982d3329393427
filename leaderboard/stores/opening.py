"""Where requests and results are kept: a folder, or data set repositories on the Hub. One layout, one interface,
every write guarded.

A change names the version that it was based on and is refused if anything was written since (`Conflict`); `update` tries again on the newer
version. A change of several files happens whole or not at all, also when the process is killed in between.
"""

from __future__ import annotations

import os

from leaderboard.stores.folder_store import FolderStore
from leaderboard.stores.store import Store


def open_store(address: str | os.PathLike[str], *, token: str | None = None, make: bool = True) -> Store:
    """A folder, or with ``hub:owner/name`` a data set repository on the Hub.

    Args:
        address: as above.
        token: of the Hub; the login's own by default.
        make: whether a repository that isn't there is made. A folder always is.

    Raises:
        StoreError: if it can't be reached, or isn't there and shall not be made.
    """
    text = str(address)
    if not text.startswith("hub:"):
        return FolderStore(text)
    from leaderboard.stores.hub_store import HubStore

    return HubStore(text.removeprefix("hub:"), token=token, make=make)
