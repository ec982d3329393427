"""Checks in progress, and how they are cancelled: by a later check of the same visitor, by a change of its fields, or by leaving."""

from __future__ import annotations

import threading
from typing import Any

import gradio as gr

from mia_hub.errors import MiaHubError


class RunningCheck:
    """A check in progress: reports its progress to the visitor, and ends the work once nobody waits for its answer.

    Args:
        progress: shown to the visitor, where there is one.
        session: the visitor's, as Gradio names it.
        number: of the check among the visitor's own. A check without a number, such as a program's, is superseded by no other.

    Attributes:
        superseded: whether the visitor has started another check or changed the question meanwhile, so that nothing may be shown.
    """

    def __init__(self, progress: gr.Progress | None, session: str | None, number: int | None = None):
        self._progress, self.session, self.number = progress, session, number
        self.superseded = self.disconnected = False

    def __enter__(self) -> RunningCheck:
        with _lock:
            _running.add(self)
            _supersede(self.session, self.number)
        return self

    def __exit__(self, *_: object) -> None:
        with _lock:
            _running.discard(self)

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Report progress.

        Raises:
            MiaHubError: if the check is cancelled.
        """
        if self.superseded or self.disconnected:
            # A page that a sleeping laptop or a proxy has disconnected is still open.
            raise MiaHubError("The connection to this page broke off, and the check was cancelled. Press Check to run it again.")
        if self._progress is not None:
            self._progress(*args, **kwargs)


_lock = threading.Lock()
_running: set[RunningCheck] = set()
# The highest number of each visitor. Requests may arrive in another order than they were sent.
_latest: dict[str, int] = {}


def _supersede(session: str | None, number: int | None) -> None:
    if session is None or number is None:
        return
    _latest[session] = max(number, _latest.get(session, number))
    for check in _running:
        if check.session == session and check.number is not None and check.number < _latest[session]:
            check.superseded = True


def session_of(request: gr.Request | None) -> str | None:
    """Return the name of the visitor's session."""
    return None if request is None else request.session_hash


def supersede(number: int, request: gr.Request) -> None:
    """Cancel the visitor's checks with a lower number; nothing is shown of them."""
    with _lock:
        _supersede(session_of(request), number)


def disconnect(request: gr.Request) -> None:
    """Cancel the checks of a visitor who has closed the page, after the batch at hand."""
    with _lock:
        session = session_of(request)
        _latest.pop(session or "", None)
        for check in _running:
            if check.session == session:
                check.disconnected = True
