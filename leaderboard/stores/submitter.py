"""People who submit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Submitter:
    """Whoever submits, as far as they are known.

    Attributes:
        name: their name.
        namespaces: on the Hub that they may write to: their login, and organisations; none for a name that isn't known to be a login.
    """

    name: str
    namespaces: tuple[str, ...] = ()
