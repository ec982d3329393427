"""From what a person gives to a request in the queue: the one way in behind the page, the command line, the API and pull requests.

What can be refused cheaply is refused here, before anything waits: a model or a data set that isn't there for everyone, weights that are
too large or pickled, an attack that there isn't, scores that can't be read. What needs no network is checked again wherever a request is
read, by `leaderboard.requests.submission.validated`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from leaderboard.errors import AccessDenied, SubmissionError
from leaderboard.requests.limits import Limits
from leaderboard.requests.local import LocalFolder
from leaderboard.requests.naming import ON_TOP, check_model, check_name, is_local, parse_top, parts_of
from leaderboard.requests.queue import Queue, files_of
from leaderboard.requests.split_files import check_listing
from leaderboard.requests.status import Status, stamp, utc
from leaderboard.requests.submission import Request, check_size, read_scores
from leaderboard.stores.store import Store
from leaderboard.stores.submitter import Submitter
from mia_hub.errors import MiaHubError
from mia_hub.system.hub import closed_repository

NOT_HERE = (
    "{name!r:.120} is in a folder of whoever runs this board, who alone can submit it, with 'mia-hub submit --local FOLDER' and not on the "
    "page, by its API, or by a pull request. Give 'demo' or a Hub id of the form 'owner/name'."
)
PUBLIC = "Check the spelling; what is audited here must be public, so that everyone can repeat it."


@dataclass(frozen=True)
class Accepted:
    """What became of a submission.

    Attributes:
        id: of the request, derived from its content.
        status: its status now.
        new: False if the same was asked before, and is waiting, running or finished.
        request: as it was understood, with the commits that names stood for.
        pull_request: address of the pull request that brings it, where it came by one.
    """

    id: str
    status: Status
    new: bool
    request: Request
    pull_request: str | None = None

    def to_dict(self) -> dict[str, Any]:
        parts = {"status": self.status.to_dict(), "request": self.request.to_dict()}
        return {"id": self.id, "new": self.new, "pull_request": self.pull_request} | parts


def submit(queue: Queue, asked: dict[str, Any], *, submitter: Submitter | str, local: LocalFolder | None = None) -> Accepted:
    """Puts what a person asks for into the queue.

    Args:
        queue: of the board.
        asked: arguments of `prepare`.
        submitter: who it is, as the way in knows them; of a name alone it isn't known whether it is a login on the Hub.
        local: where local models and splits lie; None on all ways in that strangers have.

    Raises:
        SubmissionError: if it is refused, with the reason and the next step.
        StoreError: if the store can't be used.
    """
    who = submitter if isinstance(submitter, Submitter) else Submitter(submitter)
    request, scores = prepare(**asked, submitter=who.name, limits=queue.limits, check=queue.check, local=local)
    try:
        id, status, new = queue.submit(request, scores, namespaces=who.namespaces)
    except AccessDenied as error:
        raise AccessDenied(f"{error} {_how_to_write(queue)}") from error
    return Accepted(id, status, new, request)


def propose(queue: Queue, asked: dict[str, Any], *, submitter: Submitter | str) -> Accepted:
    """As `submit`, by a pull request on the data set of requests, for those who may not write to it.

    Raises:
        SubmissionError: if it is refused, or the requests are in a folder.
        StoreError: if the store can't be used.
    """
    if not hasattr(queue.store, "propose"):
        raise SubmissionError(f"A pull request is for requests in a data set on the Hub, and not for {queue.store}. Submit without one.")
    name = submitter.name if isinstance(submitter, Submitter) else submitter
    request, scores = prepare(**asked, submitter=name, limits=queue.limits)
    request = replace(request, submitted=stamp(utc()))
    known = queue.find(request.id)
    if known is None:
        what = f"{request.model} on {request.split}"
        address = queue.store.propose(files_of(request, scores), f"Request {request.id}", f"Asks the leaderboard for {what}.")
        return Accepted(request.id, Status(), True, request, address)
    if known.state == "FAILED":
        raise SubmissionError(
            f"The request {request.id} was made before, and failed: {known.error} A pull request can't bring it once more; ask somebody "
            "who may write to the requests to submit it again."
        )
    return Accepted(request.id, known, False, request)


def submitter_of(store: Store) -> Submitter:
    """Who submits from here: the Hub's name for the login, or on a folder the user of this machine.

    Raises:
        AccessDenied: if nobody is logged in to the Hub.
    """
    if hasattr(store, "user"):
        return store.user()
    import getpass

    try:
        return Submitter(getpass.getuser())
    except (OSError, KeyError):  # a container may have no names
        return Submitter("local")


def _how_to_write(queue: Queue) -> str:
    if os.environ.get("SPACE_ID"):
        return "The owner of this Space has to give it a secret HF_TOKEN that may write to that data set."
    return "Log in with 'hf auth login' as somebody who may write to it, or submit by a pull request: 'mia-hub submit --pull-request …'."


def prepare(
    *,
    model: str,
    split: str,
    attacks: str | Sequence[str] = (),
    revision: str | None = None,
    split_revision: str | None = None,
    captions: str = "split",
    seed: int = 0,
    note: str = "",
    push: bool = False,
    scores: bytes | str | os.PathLike[str] | None = None,
    attack_name: str = "",
    submitter: str = "",
    limits: Limits | None = None,
    check: Callable[[Request], None] | None = None,
    local: LocalFolder | None = None,
) -> tuple[Request, bytes | None]:
    """A request from what a person gives, with names resolved to commits.

    Args:
        model: "demo" or a Hub id; with something on top, "base + top", each top with or without an ``@revision``; or "local:NAME".
        split: "demo" or the Hub id of a data set, or "local:NAME".
        attacks: as the command line writes them; in one text, with white space between them.
        revision, split_revision: branch, tag or commit; the newest where nothing is said.
        captions, seed, note, push: as of `Request`.
        scores: a ScoreTable in Parquet form, or its path: then every figure is recomputed from it, and no attack is run.
        attack_name: with scores, what their attack shall be called.
        submitter: who it is.
        limits: of the queue; the usual ones by default.
        check: is given the request before its scores are read, to refuse it.
        local: where local models and splits lie; without it they are refused.

    Returns:
        ``(request, scores)``; scores are None for a model.

    Raises:
        SubmissionError: with the reason and the next step.
    """
    limits = limits or Limits()
    model, split = _text("model", model), _text("split", split)
    for name in (model, split):
        if local is None and is_local(name):
            raise SubmissionError(NOT_HERE.format(name=name))
    content = None if scores is None else _content(scores)
    named = _attacks(attacks, attack_name, of_scores=scores is not None)
    values = {"captions": captions, "seed": seed, "note": " ".join(_text("note", note).split()), "push": push, "submitter": submitter}
    values |= {"kind": "model" if content is None else "scores", "attacks": named}
    values["scores"] = None if content is None else hashlib.sha256(content).hexdigest()
    # Everything that needs no network comes first: with placeholders where commits will stand.
    _validated_before_looking(model, split, values)
    model, revision = resolve_model(model, _text("revision", revision) or None, limits, local)
    split, split_revision = resolve_split(split, _text("split_revision", split_revision) or None, limits, local)
    request = Request.from_dict(values | {"model": model, "revision": revision, "split": split, "split_revision": split_revision})
    limits.check_request(request, 0)
    if check is not None:
        check(request)
    if content is not None:
        read_scores(content)
    return request, content


def look_again(request: Request, limits: Limits, local: LocalFolder | None = None) -> None:
    """Looks up what a request names, which may have come by a pull request that nothing has looked at, or may be gone since.

    Raises:
        SubmissionError: with the reason.
    """
    model = resolve_model(request.model, request.revision, limits, local)
    found = model, resolve_split(request.split, request.split_revision, limits, local)
    if found != ((request.model, request.revision), (request.split, request.split_revision)):
        raise SubmissionError(f"The request names other revisions than the Hub: {found}. Submit it again.")


def resolve_model(name: str, revision: str | None, limits: Limits, local: LocalFolder | None = None) -> tuple[str, str | None]:
    """The model's name with what lies on top of it at its commits, and the commit of its base; of a local one the hashes of its weights.

    Raises:
        SubmissionError: if it isn't there for everyone, or can't be audited here.
    """
    base, *tops = parts_of(name)
    if is_local(name):
        name = ON_TOP.join([base, *tops])
        check_model(name)
        return name, _unchanged(name, revision, _given(local, name).revision(name))
    check_name("model", base)
    for top in tops:
        parse_top(top)
    if base == "demo":
        if tops or revision is not None:
            raise SubmissionError("'demo' is the embedded model: it has no revision, and nothing is put on top of it here. Leave that out.")
        return base, None
    from mia_hub.models.lookup import look_up_model

    try:
        found = look_up_model(ON_TOP.join([base, *tops]), revision, largest=int(limits.model_gib * 2**30))
    except MiaHubError as error:
        raise SubmissionError(_said(error, "model")) from error
    pinned = [f"{top}@{commit}" for top, commit in zip(found.overlays, found.overlay_revisions)]
    return ON_TOP.join([found.base, *pinned]), found.revision


def resolve_split(name: str, revision: str | None, limits: Limits, local: LocalFolder | None = None) -> tuple[str, str | None]:
    """The data set, and its commit; of a local one the hash of its files.

    Raises:
        SubmissionError: if it isn't there for everyone, is too large, or has no Parquet files.
    """
    check_name("split", name)
    if is_local(name):
        split = _given(local, name).load_split(name)
        limits.check_images(len(split.images))
        return name, _unchanged(name, revision, split.revision)
    if name == "demo":
        if revision is not None:
            raise SubmissionError("'demo' is the embedded split, and has no revision. Leave it out.")
        return name, None
    from mia_hub.splits.hub_rows import look_up_dataset

    try:
        commit, sizes = look_up_dataset(name, revision)
    except MiaHubError as error:
        raise SubmissionError(_said(error, "data set")) from error
    check_listing(name, sizes, limits)
    return name, commit


def _given(local: LocalFolder | None, name: str) -> LocalFolder:
    if local is None:
        raise SubmissionError(NOT_HERE.format(name=name))
    return local


def _unchanged(name: str, asked: str | None, found: str) -> str:
    """The hash of what lies there, unless another one was asked for."""
    if asked not in (None, found):
        raise SubmissionError(f"{name} is not what was asked for: it is now {found}, and not {asked}. Submit it again to have it as it is.")
    return found


def _said(error: MiaHubError, what: str) -> str:
    """The library's message; without its advice to log in, which is of no use here."""
    closed = closed_repository(error)
    if closed is None:
        return str(error)
    name = closed.repo_id
    if closed.gated:
        return f"The {what} {name!r} is gated, so that not everyone can repeat what is found. Name one that is open."
    return f"The Hub has no {what} {name!r} that everyone may see. {PUBLIC}"


_NO_HASH = "sha256:" + "0" * 64


def _validated_before_looking(model: str, split: str, values: dict[str, Any]) -> None:
    """Refuses what no look-up can mend."""
    base, *tops = parts_of(model)
    check_name("split", split)
    if is_local(model):
        pinned, revision = tops, ON_TOP.join([_NO_HASH] * (1 + len(tops)))
    else:
        check_name("model", base)
        pinned = [parse_top(top) and f"{top.partition('@')[0]}@{'0' * 40}" for top in tops]
        revision = None if base == "demo" else "0" * 40
    split_revision = None if split == "demo" else _NO_HASH if is_local(split) else "0" * 40
    named = {"model": ON_TOP.join([base, *pinned]), "split": split, "revision": revision, "split_revision": split_revision}
    Request.from_dict(values | named)


def _attacks(attacks: str | Sequence[str], name: str, *, of_scores: bool) -> list[str]:
    if not of_scores:
        if name:
            raise SubmissionError("An attack is named for scores of your own; for a model, say which attacks to run, such as 'sima'.")
        return attacks.split() if isinstance(attacks, str) else list(attacks)
    if attacks:
        raise SubmissionError("Scores are of one attack, which has run: give its name, and no attacks to run.")
    if not _text("attack_name", name):
        raise SubmissionError("Scores need the name that their attack shall have on the board, such as 'my-attack (arXiv 2601.00000)'.")
    return [" ".join(name.split())]


def _text(what: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise SubmissionError(f"{what} must be text; got {value!r:.60}.")
    return value.strip()


def _content(scores: bytes | str | os.PathLike[str]) -> bytes:
    """Of the file; one that is too large is refused before it is read."""
    if isinstance(scores, bytes):
        check_size(len(scores))
        return scores
    try:
        check_size(os.stat(scores).st_size)
        with open(scores, "rb") as file:
            return file.read()
    except OSError as error:
        raise SubmissionError(f"The scores {os.fspath(scores)!r:.200} can't be read ({error.strerror}).") from error
