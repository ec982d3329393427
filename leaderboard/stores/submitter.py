"""Where a request stands, and where it stood before."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Submitter:
    """Who submits, as the way in knows them.

    Attributes:
        name: their name.
        namespaces: on the Hub that they may write to: their login, and organisations; none for a name that isn't a login there.
    """

    name: str
    namespaces: tuple[str, ...] = ()
