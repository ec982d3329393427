"""Errors of the leaderboard, for whoever submits or runs it."""

from mia_hub.errors import MiaHubError


class SubmissionError(MiaHubError):
    """A submission that is refused: the message says what was given, what is accepted, and the next step."""


class StoreError(MiaHubError):
    """Requests or results that can't be read or written."""


class Conflict(StoreError):
    """Something was written since what a change was based on."""


class BrokenFile(StoreError):
    """A file in a store that isn't what it should be: somebody wrote it by hand, or changed it."""


class AccessDenied(StoreError):
    """A store that the present login may not read, or not write to."""
