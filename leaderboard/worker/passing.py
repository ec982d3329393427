"""Tells an error that will pass (no network, a Hub that is overloaded or down) from one that will last."""

from __future__ import annotations

from collections.abc import Iterator

# Too slow, too many requests; and everything from 500 on.
PASSING = (408, 429)


def is_passing(error: BaseException) -> bool:
    """Whether an error comes of the network or the Hub's present state, so that the same may succeed later.

    Args:
        error: any; what it was raised from is looked at, too.
    """
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalEntryNotFoundError

    for each in _causes(error):
        if isinstance(each, HfHubHTTPError):
            status = getattr(each.response, "status_code", 0)
            return status in PASSING or status >= 500
        if isinstance(each, (HTTPError, ConnectionError, TimeoutError, LocalEntryNotFoundError)):
            return True
    return False


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and what led to it, the nearest first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
