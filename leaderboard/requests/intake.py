"""The ways to submit: every request enters the queue through a function of this module, whether from the page, its API, the command line or
a pull request. Another way to submit belongs here.

`prepare` refuses cheaply what can be refused before anything waits: a model or a data set that isn't public, weights that are too large or
pickled, an unknown attack, scores that can't be read. What needs no network is checked again wherever a request is read, by
`leaderboard.requests.request.Request`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from leaderboard.errors import AccessDenied, SubmissionError
from leaderboard.requests.limits import Limits
from leaderboard.requests.local_folder import LocalFolder
from leaderboard.requests.naming import ON_TOP, check_name, is_local, parse_top, parts_of
from leaderboard.requests.queue import Queue, files_of
from leaderboard.requests.request import Request
from leaderboard.requests.resolution import NOT_LOCAL, check_bans, resolve_model, resolve_split
from leaderboard.requests.scores import check_file_size, read_scores
from leaderboard.requests.status import Status, timestamp, utc_now
from leaderboard.stores.store import Store
from leaderboard.stores.submitter import Submitter
from mia_hub.system.validation import shortened


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A request as a person writes it: names are not resolved yet, and nothing is checked.

    Attributes:
        model: "demo" or a Hub id; with overlays, "base + top", each top with or without an ``@revision``; or "local:NAME".
        split: "demo" or the Hub id of a data set, or "local:NAME".
        attacks: as the command line writes them; in one text, with white space between them.
        revision, split_revision: branch, tag or commit; the newest by default.
        captions, seed, note, push: as of `Request`.
        scores: a ScoreTable in Parquet form, or its path: then every figure is recomputed from it, and no attack is run.
        attack_name: with scores, the name of their attack on the board.
    """

    model: str
    split: str
    attacks: str | Sequence[str] = ()
    revision: str | None = None
    split_revision: str | None = None
    captions: str = "split"
    seed: int = 0
    note: str = ""
    push: bool = False
    scores: bytes | str | os.PathLike[str] | None = None
    attack_name: str = ""


@dataclass(frozen=True)
class Accepted:
    """An accepted submission.

    Attributes:
        id: of the request, derived from its content.
        status: its status now.
        new: False if the same was submitted before, and is waiting, running or finished.
        request: with the commits that names were resolved to.
        pull_request: address of the pull request that brings it, if it came by one.
    """

    id: str
    status: Status
    new: bool
    request: Request
    pull_request: str | None = None

    def to_dict(self) -> dict[str, Any]:
        parts = {"status": self.status.to_dict(), "request": self.request.to_dict()}
        return {"id": self.id, "new": self.new, "pull_request": self.pull_request} | parts


def submit(queue: Queue, draft: Draft, *, submitter: Submitter | str, local: LocalFolder | None = None) -> Accepted:
    """Put a request into the queue.

    Args:
        queue: of the board.
        draft: the request.
        submitter: whoever submits, as the caller knows them; a name alone is not known to be a login on the Hub.
        local: folder of local models and splits; None for all ways that are open to strangers.

    Raises:
        SubmissionError: if it is refused, with the reason and the next step.
        StoreError: if the store can't be used.
    """
    who = submitter if isinstance(submitter, Submitter) else Submitter(submitter)
    request, scores = prepare(draft, submitter=who.name, limits=queue.limits, check=queue.check, local=local)
    try:
        id, status, new = queue.submit(request, scores, namespaces=who.namespaces)
    except AccessDenied as error:
        raise AccessDenied(f"{error} {_how_to_write()}") from error
    return Accepted(id, status, new, request)


def propose(queue: Queue, draft: Draft, *, submitter: Submitter | str) -> Accepted:
    """Submit by a pull request on the data set of requests, for those who may not write to it.

    Raises:
        SubmissionError: if it is refused, or the requests are in a folder.
        StoreError: if the store can't be used.
    """
    propose_changes = getattr(queue.store, "propose", None)
    if propose_changes is None:
        raise SubmissionError(
            f"Pull requests work only where requests are in a data set on the Hub, and not in {queue.store}. Submit without one."
        )
    name = submitter.name if isinstance(submitter, Submitter) else submitter
    request, scores = prepare(draft, submitter=name, limits=queue.limits)
    request = replace(request, submitted=timestamp(utc_now()))
    status = queue.find(request.id)
    if status is None:
        subject = f"{request.model} on {request.split}"
        address = propose_changes(files_of(request, scores), f"Request {request.id}", f"Asks the leaderboard for {subject}.")
        return Accepted(request.id, Status(), True, request, address)
    if status.state == "FAILED":
        raise SubmissionError(
            f"The request {request.id} was made before, and failed: {status.error} A pull request can't submit it again; ask somebody who "
            "may write to the requests to do so."
        )
    return Accepted(request.id, status, False, request)


def submitter_of(store: Store) -> Submitter:
    """Return who submits from here: the Hub's name for the login, or on a folder the user of this machine.

    Raises:
        AccessDenied: if nobody is logged in to the Hub.
    """
    user = getattr(store, "user", None)
    if user is not None:
        logged_in: Submitter = user()
        return logged_in
    import getpass

    try:
        return Submitter(getpass.getuser())
    except (OSError, KeyError):  # a container may have no names
        return Submitter("local")


def _how_to_write() -> str:
    if os.environ.get("SPACE_ID"):
        return "The owner of this Space has to give it a secret HF_TOKEN that may write to that data set."
    return "Log in with 'hf auth login' as somebody who may write to it, or submit by a pull request: 'mia-hub submit --pull-request …'."


def prepare(
    draft: Draft,
    *,
    submitter: str = "",
    limits: Limits | None = None,
    check: Callable[[Request], None] | None = None,
    local: LocalFolder | None = None,
) -> tuple[Request, bytes | None]:
    """Make a request from a draft, with names resolved to commits.

    Args:
        draft: as a person wrote it.
        submitter: whoever submits it.
        limits: of the queue; the defaults if None.
        check: is called with the request before its scores are read, to refuse it.
        local: folder of local models and splits; without it they are refused.

    Returns:
        ``(request, scores)``; scores are None for a model.

    Raises:
        SubmissionError: with the reason and the next step.
    """
    limits = limits or Limits()
    model, split = _stripped("model", draft.model), _stripped("split", draft.split)
    for name in (model, split):
        if local is None and is_local(name):
            raise SubmissionError(NOT_LOCAL.format(name=name))
    content = None if draft.scores is None else _content(draft.scores)
    values = {"captions": draft.captions, "seed": draft.seed, "push": draft.push, "submitter": submitter}
    values |= {"note": " ".join(_stripped("note", draft.note).split()), "attacks": _attacks(draft)}
    values |= {"kind": "model", "scores": None} if content is None else {"kind": "scores", "scores": hashlib.sha256(content).hexdigest()}
    # Everything that needs no network comes first: with placeholders where commits will stand.
    _check_without_look_up(model, split, values)
    given = model, split
    model, revision = resolve_model(model, _stripped("revision", draft.revision) or None, limits, local)
    split, split_revision = resolve_split(split, _stripped("split_revision", draft.split_revision) or None, limits, local)
    request = Request.from_dict(values | {"model": model, "revision": revision, "split": split, "split_revision": split_revision})
    limits.check_request(request, 0)
    check_bans(given, (model, split), limits)
    if check is not None:
        check(request)
    if content is not None:
        read_scores(content)
    return request, content


_NO_COMMIT = "0" * 40
_NO_HASH = "sha256:" + "0" * 64


def _check_without_look_up(model: str, split: str, values: dict[str, Any]) -> None:
    """Refuse what stays wrong whatever its names are resolved to."""
    base, *tops = parts_of(model)
    check_name("split", split)
    revision: str | None
    if is_local(model):
        pinned, revision = tops, ON_TOP.join([_NO_HASH] * (1 + len(tops)))
    else:
        check_name("model", base)
        for top in tops:
            parse_top(top)
        pinned = [f"{top.partition('@')[0]}@{_NO_COMMIT}" for top in tops]
        revision = None if base == "demo" else _NO_COMMIT
    split_revision = None if split == "demo" else _NO_HASH if is_local(split) else _NO_COMMIT
    names = {"model": ON_TOP.join([base, *pinned]), "split": split, "revision": revision, "split_revision": split_revision}
    Request.from_dict(values | names)


def _attacks(draft: Draft) -> list[str]:
    if draft.scores is None:
        if draft.attack_name:
            raise SubmissionError("attack_name is for scores of your own; for a model, name the attacks to run, such as 'sima'.")
        return draft.attacks.split() if isinstance(draft.attacks, str) else list(draft.attacks)
    if draft.attacks:
        raise SubmissionError("Submitted scores belong to one attack that has already run; give its name, and leave attacks empty.")
    name = _stripped("attack_name", draft.attack_name)
    if not name:
        raise SubmissionError("Scores need the name under which their attack appears on the board, such as 'my-attack (arXiv 2601.00000)'.")
    return [" ".join(name.split())]


def _stripped(field: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise SubmissionError(f"{field} must be text; got {shortened(value)}.")
    return value.strip()


def _content(scores: bytes | str | os.PathLike[str]) -> bytes:
    """Return the content of a file of scores; one that is too large is refused before it is read."""
    if isinstance(scores, bytes):
        check_file_size(len(scores))
        return scores
    try:
        check_file_size(os.stat(scores).st_size)
        with open(scores, "rb") as file:
            return file.read()
    except OSError as error:
        raise SubmissionError(f"The scores {os.fspath(scores)!r:.200} can't be read ({error.strerror}).") from error
