"""The errors that a user can cause. Each message names what was given, what is accepted, and the next step."""

from __future__ import annotations

import operator
from typing import Any


class MiaHubError(Exception):
    """Base of all errors that mia_hub raises on purpose. The app and the command line show the message without a traceback.

    Attributes:
        elsewhere: whether the error occurred in another process of the same launch, which reports it itself.
    """

    elsewhere: bool = False


class ImageError(MiaHubError):
    """An image that can't be read or can't be scored."""


class ModelError(MiaHubError):
    """A model that can't be found, is refused, or fails while it is queried."""


class SplitError(MiaHubError):
    """Members and non-members that can't be found, or can't be compared."""


class AttackError(MiaHubError):
    """An unknown attack, or parameters that an attack can't take."""


class PromptError(MiaHubError):
    """Prompts that can't be scored or compared, an unknown detector, or parameters that a detector can't take."""


class MetricError(MiaHubError):
    """Figures that can't be computed from scores: one class only, NaN, or too few non-members for the requested FPR."""


def integer_at_least(what: str, value: Any, least: int, error: type[MiaHubError]) -> int:
    """Return ``value`` as an int.

    Args:
        what: the name of the parameter, for the message.
        value: anything that a user may have passed.
        least: the smallest integer that is accepted.
        error: the class of the error.

    Raises:
        error: if ``value`` is no integer, or is below ``least``.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < least:
        raise error(f"{what} must be an integer ≥ {least}; got {value!r}.")
    return number


def first_line(error: BaseException) -> str:
    """Return the message of another library's error as one line, or the name of its type where it has no message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return (" ".join(lines[:2]) if lines[0].endswith(":") else lines[0]).rstrip(".:")
