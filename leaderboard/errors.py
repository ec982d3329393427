"""Errors of the leaderboard, for whoever submits or runs it."""

from mia_hub.errors import MiaHubError


class SubmissionError(MiaHubError):
    """A submission that is refused: the message names what was given, what is accepted, and the next step."""


class StoreError(MiaHubError):
    """Requests or results that can't be read or written."""


class Conflict(StoreError):
    """The store was written to after the version that a change is based on."""


class BrokenFile(StoreError):
    """A file in a store that can't be understood: somebody wrote it by hand, or changed it."""


class AccessDenied(StoreError):
    """A store that the current login may not read, or not write to."""
