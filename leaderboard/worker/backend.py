"""The interface between the worker and whatever evaluates a request."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from leaderboard.requests.local_folder import LocalFolder
from leaderboard.requests.status import Status
from mia_hub.errors import MiaHubError


class EvaluationCrashed(Exception):
    """An evaluation ended without an answer; its request may be tried again once its lease has run out."""


class Unavailable(MiaHubError):
    """Evaluations can't run at the moment, through no fault of the request."""


class RequestUnavailable(Unavailable):
    """One request can't be evaluated at the moment, since the models or data it names can't be reached; others may be."""


class Evaluation(Protocol):
    """One evaluation under way, whose output lies in its work folder's ``out/`` once `collect` has returned.

    Attributes:
        patience: how many times the queue's limit of hours it may take from its start: more than once where it may have to wait.
    """

    patience: float

    def wait(self, seconds: float) -> bool:
        """Wait for at most ``seconds``; return whether it has ended."""
        ...

    def progress(self) -> str:
        """Return what it is doing, for people."""
        ...

    def collect(self) -> None:
        """Put its output into the work folder.

        Raises:
            SubmissionError: if the request is refused, or can't be evaluated; with the reason.
            RequestUnavailable: if the models or data it names can't be reached at the moment.
            EvaluationCrashed: if it may be tried again.
        """
        ...

    def cancel(self) -> None:
        """End it."""
        ...

    def abandon(self) -> None:
        """Leave it to another worker, or to the same one later."""
        ...


class Backend(Protocol):
    """Runs evaluations somewhere.

    Attributes:
        local: folder of local models and splits that evaluations can read; None if there is none.
    """

    local: LocalFolder | None

    def start(self, id: str, status: Status, folder: Path) -> Evaluation:
        """Start an evaluation, or find the one that runs already.

        Args:
            id: of the request.
            status: the request's.
            folder: work folder, filled by `leaderboard.worker.work_folder.fill_work_folder`.

        Raises:
            Unavailable: if none can be started at the moment.
        """
        ...
