"""The Hub: its time limit, the advice to log in, and the errors of its clients, translated into ours.

The clients (`huggingface_hub`, `datasets`, the HTTP library beneath them) raise dozens of classes. Only this module knows them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from mia_hub.errors import MiaHubError, first_line

# Seconds until the Hub's first answer; a request without a limit could hang forever.
HUB_TIMEOUT = 10
LOG_IN = "log in with 'hf auth login' (or set HF_TOKEN)"
LOG_IN_TO_WRITE = f"{LOG_IN}, with a token that may write"
LONGEST_REASON = 200
NO_TOKEN_OR_RIGHT = (401, 403)
# Too slow, or too many requests. Every status from 500 on is temporary, too.
TEMPORARY = (408, 429)

Kind = Literal["model", "dataset", "space"]
_NOUNS = {"model": "model", "dataset": "data set", "space": "Space"}
_FOLDERS = {"model": "", "dataset": "datasets/", "space": "spaces/"}


@dataclass(frozen=True)
class HubTask:
    """An operation on the Hub, as the messages about its failure name it.

    Attributes:
        kind: of the repository.
        repo_id: its name, ``owner/name``; "" for a task that concerns none.
        revision: the branch, tag or commit that was named.
        writing: whether something is written.
        advise_login: whether a message about missing rights says how to log in; not where the reader can't.
        failure: the message's first clause, without a full stop; "The model owner/name could not be read" by default.
        retry: the next step after an error that may pass.
    """

    kind: Kind
    repo_id: str
    revision: str | None = None
    writing: bool = False
    advise_login: bool = True
    failure: str = ""
    retry: str = "Try again later"

    @property
    def noun(self) -> str:
        return _NOUNS[self.kind]

    @property
    def page(self) -> str:
        return f"https://huggingface.co/{_FOLDERS[self.kind]}{self.repo_id}"

    def log_in(self, joint: str) -> str:
        """Return the advice to log in, after the words that join it to a sentence; "" where it is of no use."""
        if not self.advise_login:
            return ""
        return joint + (LOG_IN_TO_WRITE if self.writing else LOG_IN)

    def failed(self) -> str:
        """Return the first clause of a message."""
        at = f" at revision {self.revision!r}" if self.revision else ""
        return self.failure or f"The {self.noun} {self.repo_id}{at} could not be {'written' if self.writing else 'read'}"

    def because(self, reason: str) -> str:
        """Return a message that names only the reason, unless the task has a first clause of its own."""
        return f"{self.failure}: {reason}" if self.failure else reason[0].upper() + reason[1:]


@contextmanager
def hub_errors(
    task: HubTask, raises: type[MiaHubError], *, denied: type[MiaHubError] | None = None, any_error: bool = False
) -> Iterator[None]:
    """Translate every error of the Hub's clients inside the ``with`` block; ours pass unchanged.

    Args:
        task: what is done, for the message.
        raises: the class of the error that is raised. Its ``__cause__`` is the client's error.
        denied: the class where the login is missing or has no right; ``raises`` by default.
        any_error: translates every exception, for clients that raise arbitrary classes for a broken data set.

    Raises:
        MiaHubError: of the class ``raises`` or ``denied``.
    """
    from huggingface_hub.errors import LocalTokenNotFoundError

    translated = (Exception,) if any_error else (_http_error(), OSError, ValueError)
    try:
        yield
    except MiaHubError:
        raise
    except translated as error:
        no_access = isinstance(error, LocalTokenNotFoundError) or status_of(error) in NO_TOKEN_OR_RIGHT
        error_class = denied if denied is not None and no_access else raises
        raise error_class(f"{_message(error, task, any_error)}.") from error


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status with which the Hub refused a request; None for an error without an answer."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def is_unreachable(error: BaseException) -> bool:
    """Whether no answer of the Hub came at all, as without a network."""
    from huggingface_hub.errors import HfHubHTTPError

    return isinstance(error, (OSError, _http_error())) and not isinstance(error, HfHubHTTPError)


def why_unreachable(error: BaseException) -> str:
    """Return why no answer of the Hub came, in a few words."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    return f"{type(error).__name__}: {first_line(error)[:LONGEST_REASON]}"


def is_temporary(error: BaseException) -> bool:
    """Whether an error comes from the network or the Hub's present state, so that the same task may succeed later.

    Args:
        error: any error; the errors that led to it count, too.
    """
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    for cause in _causes(error):
        if isinstance(cause, HfHubHTTPError):
            return _is_temporary_status(status_of(cause))
        if isinstance(cause, (_http_error(), ConnectionError, TimeoutError, LocalEntryNotFoundError)):
            return True
    return False


@dataclass(frozen=True)
class ClosedRepository:
    """A repository that not everyone may read, or that does not exist; the Hub does not tell a private one from a missing one."""

    repo_id: str
    gated: bool


def closed_repository(error: MiaHubError) -> ClosedRepository | None:
    """Return the closed or missing repository that `hub_errors` raised an error about; None for any other error."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    cause = error.__cause__
    if not isinstance(cause, RepositoryNotFoundError):
        return None
    return ClosedRepository(cause.repo_id or "", isinstance(cause, GatedRepoError))


def _http_error() -> type[Exception]:
    """Return the base of the errors of the client's HTTP library, which differs between its versions."""
    from huggingface_hub import errors

    error_class: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]  # imported there, and not listed
    return error_class


def _is_temporary_status(status: int | None) -> bool:
    return status is not None and (status in TEMPORARY or status >= 500)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and what led to it, the nearest first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _message(error: Exception, task: HubTask, any_error: bool) -> str:
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalTokenNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    noun, repo_id = task.noun, task.repo_id
    if isinstance(error, LocalTokenNotFoundError):
        return f"{task.failed()}: nobody is logged in to the Hub here{task.log_in('; ')}"
    # `datasets` has no error class for a gated data set.
    if isinstance(error, GatedRepoError) or "is a gated dataset" in str(error):
        return task.because(f"the {noun} {repo_id} is gated: accept its terms on {task.page}{task.log_in(', then ')}")
    if isinstance(error, RevisionNotFoundError):
        return task.because(f"the {noun} {repo_id} has no revision {task.revision!r}; leave it out for the newest")
    if isinstance(error, RepositoryNotFoundError):
        private = task.log_in("; for a private one ")
        return task.because(f"the Hub has no {noun} {repo_id!r} that you may see. Check the spelling{private}")
    if isinstance(error, HFValidationError):
        return task.because(f"{repo_id!r} is not a valid Hub id; it should look like 'owner/name'")
    if isinstance(error, HfHubHTTPError):
        return _refusal(error, task)
    reason = first_line(error)[:LONGEST_REASON]
    if isinstance(error, json.JSONDecodeError) and not any_error:
        return (
            f"{task.failed()}: what answered is not the Hub ({reason}). Check that no log-in page of your network stands in between, and "
            "HF_ENDPOINT if you set it"
        )
    return f"{task.failed()} ({type(error).__name__}: {reason}). {task.retry}"


def _refusal(error: Exception, task: HubTask) -> str:
    """Return the message about a request that the Hub answered with an error status."""
    status = status_of(error)
    reason = (getattr(error, "server_message", None) or first_line(error))[:LONGEST_REASON].rstrip(".")
    right = f"{'write to' if task.writing else 'read'} {task.repo_id}" if task.repo_id else "do this"
    changed = "It was changed meanwhile by somebody else: try again"
    advice = {
        401: f"The token is invalid or has expired{task.log_in(': ')}",
        402: "This needs paid credits: add credits, or name another namespace",
        403: f"This login may not {right}{task.log_in(': ')}{', or give another owner' if task.writing and task.repo_id else ''}",
        409: changed,
        412: changed,
    }
    default = task.retry if _is_temporary_status(status) or not task.repo_id else f"See {task.page}"
    return f"{task.failed()}: the Hub answered {status} ({reason}). {advice.get(status or 0, default)}"
