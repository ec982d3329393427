"""From the address of a store to the store."""

from __future__ import annotations

import os

from leaderboard.stores.folder_store import FolderStore
from leaderboard.stores.store import Store


def open_store(address: str | os.PathLike[str], *, token: str | None = None, make: bool = True) -> Store:
    """Open a folder, or with ``hub:owner/name`` a data set repository on the Hub.

    Args:
        address: as above.
        token: of the Hub; the login's own by default.
        make: whether a repository that isn't there is created. A folder always is.

    Raises:
        StoreError: if it can't be reached, or isn't there and ``make`` is False.
    """
    text = str(address)
    if not text.startswith("hub:"):
        return FolderStore(text)
    from leaderboard.stores.hub_store import HubStore

    return HubStore(text.removeprefix("hub:"), token=token, make=make)
