"""Every error that a user can cause: each message names what was given, what is accepted, and the next step."""

from __future__ import annotations

import operator


class MiaHubError(Exception):
    """Base of all errors raised on purpose by mia_hub. The app and the command line show its message, without a traceback.

    Attributes:
        elsewhere: whether it went wrong in another process of the same launch, which says so itself.
    """

    elsewhere: bool = False


class ImageError(MiaHubError):
    """An image that can't be read, or is not fit to be scored."""


class ModelError(MiaHubError):
    """A model that can't be found, is refused, or fails while it is queried."""


class SplitError(MiaHubError):
    """Members and non-members that can't be found, or can't be compared."""


class AttackError(MiaHubError):
    """An unknown attack, or parameters that an attack can't take."""


class MetricError(MiaHubError):
    """Figures that can't be computed from the given scores: one class only, NaN, or too few non-members for the asked FPR."""


def whole_number(what: str, value, least: int, error: type[MiaHubError]) -> int:
    """``value`` as an int of at least ``least``.

    Raises:
        error: if it is none.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < least:
        raise error(f"{what} must be a whole number from {least} up; got {value!r}.")
    return number


def first_line(error: BaseException) -> str:
    """What another library's error says, in one line; its type where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return (" ".join(lines[:2]) if lines[0].endswith(":") else lines[0]).rstrip(".:")
