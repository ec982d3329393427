"""The queue of requests in a store: submitted, claimed with a lease, kept alive by a heartbeat, finished or failed with the reason.

requests/<id>/request.json     as submitted; never changed
requests/<id>/status.json      state, times, worker, lease, error, and what it was before
requests/<id>/scores.parquet   of kind "scores"
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from leaderboard.errors import BrokenFile, StoreError, SubmissionError
from leaderboard.requests.limits import Limits
from leaderboard.requests.naming import LONGEST_NAME, is_local, owner_of
from leaderboard.requests.status import Status, stamp, utc
from leaderboard.requests.submission import LARGEST_SCORES, Request, check_size, validated
from leaderboard.stores.store import Changes, Store, View, as_json

LEASE = timedelta(minutes=5)
# A request that takes its worker down each time must not do so for ever.
MOST_ATTEMPTS = 3
BY_PULL_REQUEST = " (pull request)"


@dataclass(frozen=True)
class Submission:
    """A request and where it stands.

    Attributes:
        id: its id.
        status: its status.
        request: as submitted; None where what lies there is none.
        place: in the queue, from 1; None where it doesn't wait.
    """

    id: str
    status: Status
    request: Request | None
    place: int | None

    def to_dict(self) -> dict[str, Any]:
        asked = None if self.request is None else self.request.to_dict()
        return {"id": self.id, "place": self.place, "status": self.status.to_dict(), "request": asked}


class Queue:
    """The requests of a store.

    Args:
        store: where they are.
        limits: what is taken; read from the store's ``limits.json`` by default.
    """

    def __init__(self, store: Store, limits: Limits | None = None):
        self.store, self._limits = store, limits

    @property
    def limits(self) -> Limits:
        return self._limits or Limits.of(self.store)

    def submit(
        self, request: Request, scores: bytes | None = None, *, at: datetime | None = None, namespaces: Container[str] = ()
    ) -> tuple[str, Status, bool]:
        """Puts a request into the queue, unless it is there already. One that failed is tried again.

        Args:
            request: checked here once more, whichever way it came in.
            scores: the Parquet file, of kind "scores".
            at: the time; now by default.
            namespaces: on the Hub that the submitter is known to own, or to write for.

        Returns:
            ``(id, status, new)``; ``new`` is False if it was there and is waiting, running or finished.

        Raises:
            SubmissionError: if it is refused, with the reason; nothing is written then.
        """
        at = at or utc()
        request = replace(validated(request), submitted=stamp(at))
        _check_scores(request, scores)
        result: tuple[Status, bool] | None = None

        def change(view: View) -> Changes | None:
            nonlocal result
            known = self._status(view, request.id)
            if known is not None and known.state != "FAILED":
                result = known, False
                return None
            self._check_day(view, request, at)
            if known is None:
                owner = owner_of(request.model)
                status = Status(
                    submitted=stamp(at), submitter=request.submitter, owns=owner if request.push and owner in namespaces else ""
                )
            else:
                # A status that couldn't be understood has forgotten who was first.
                first = {"submitted": known.submitted or stamp(at), "submitter": known.submitter or request.submitter}
                again = {"error": None, "finished": None, "attempts": 0}
                status = known.now("PENDING", "submitted again", at, by=request.submitter, **first, **again)
            result = status, True
            files = files_of(request, scores)
            if self._request_or_none(view, request.id) is not None:
                del files[_path(request.id, "request")]
            return files | {_path(request.id, "status"): as_json(status.to_dict())}

        self.store.update(change, f"Request {request.id}")
        return request.id, *result

    def check(self, request: Request, *, at: datetime | None = None) -> None:
        """Refuses what `submit` would refuse for who asks and how often, before anything of it is read.

        Raises:
            SubmissionError: with the reason.
        """
        view = self.store.at()
        known = self._status(view, request.id)
        if known is None or known.state == "FAILED":
            self._check_day(view, request, at or utc())

    def _check_day(self, view: View, request: Request, at: datetime) -> None:
        self._limits_at(view).check_request(request, _count(self._statuses(view), request.submitter, at))

    def ids(self) -> list[str]:
        """Of all requests, in order."""
        return _ids(self.store.at().files("requests"))

    def find(self, id: str) -> Status | None:
        """The status of a request; None if there is no such request."""
        view = self.store.at()
        found = self._status(view, id)
        if found is not None:
            return found
        try:
            view.read(_path(id, "request"))
        except (KeyError, BrokenFile):
            return None
        # A pull request may bring a request without a status: it waits.
        return Status()

    def status(self, id: str) -> Status:
        """The status of a request.

        Raises:
            StoreError: if there is no such request.
        """
        found = self.find(id)
        if found is None:
            raise StoreError(f"There is no request {id!r:.80} in {self.store}.")
        return found

    def request(self, id: str) -> Request:
        """A request as it was submitted.

        Raises:
            SubmissionError: if what lies there isn't it: somebody changed it, or put it there by hand and wrong.
        """
        return self._request(self.store.at(), id)

    def scores(self, id: str) -> bytes:
        """The scores that came with a request.

        Raises:
            SubmissionError: if there are none, or others than the request names.
        """
        view = self.store.at()
        try:
            content = view.read(f"requests/{id}/scores.parquet", largest=LARGEST_SCORES)
        except KeyError:
            raise SubmissionError(f"The request {id} came without its scores.") from None
        except BrokenFile as error:
            raise SubmissionError(str(error)) from error
        _check_scores(self._request(view, id), content)
        return content

    def all(self) -> list[tuple[str, Status]]:
        """All requests with their statuses."""
        return list(self._statuses(self.store.at()).items())

    def listing(self) -> list[Submission]:
        """All requests with what they ask and where they stand, the newest first."""
        view = self.store.at()
        ids = _ids(view.files("requests"))
        view.prefetch(_path(id, "request") for id in ids)
        statuses = self._statuses(view)
        waiting = [id for id in _waiting(statuses, utc()) if statuses[id].state == "PENDING"]
        places = {id: number for number, id in enumerate(waiting, 1)}
        found = [Submission(id, status, self._request_or_none(view, id, past=True), places.get(id)) for id, status in statuses.items()]
        # Those that a pull request just brought are the newest of all.
        return sorted(found, key=lambda each: (each.status.submitted or "~", each.id), reverse=True)

    def submission(self, id: str) -> Submission:
        """One request with what it asks and where it stands.

        Raises:
            StoreError: if there is no such request.
        """
        found = next((each for each in self.listing() if each.id == id), None)
        if found is None:
            raise StoreError(f"There is no request {id!r:.80} in {self.store}. 'mia-hub submissions' lists all.")
        return found

    def claim(self, worker: str, *, at: datetime | None = None, lease=LEASE, skip: Container[str] = ()) -> str | None:
        """Takes the oldest request that waits, or whose worker went away; returns its id, or None if there is none.

        What pull requests brought is let in before, or refused with the reason.

        Args:
            worker: who takes it.
            at: the time; now by default.
            lease: how long it stays with the worker.
            skip: ids of requests that are left to others, or for later.
        """
        claimed: str | None = None

        def change(view: View) -> Changes:
            nonlocal claimed
            moment, claimed = at or utc(), None
            statuses = self._statuses(view)
            changed = self._let_in(view, statuses, moment)
            for id in _waiting(statuses | changed, moment):
                if id in skip:
                    continue
                status = (statuses | changed)[id]
                if status.attempts >= MOST_ATTEMPTS:
                    why = f"It was started {status.attempts} times and its worker went away each time (out of memory, perhaps)."
                    changed[id] = status.now("FAILED", "given up", moment, error=why, finished=stamp(moment), lease=None)
                    continue
                changed[id] = status.now(
                    "RUNNING", f"claimed by {worker}", moment, worker=worker, started=stamp(moment), attempts=status.attempts + 1,
                    lease=stamp(moment + lease), progress="",
                )  # fmt: skip
                claimed = id
                break
            return {_path(id, "status"): as_json(status.to_dict()) for id, status in changed.items()}

        self.store.update(change, f"{worker} takes a request")
        return claimed

    def keep(self, id: str, worker: str, *, progress: str | None = None, at: datetime | None = None, lease=LEASE) -> bool:
        """The heartbeat: prolongs the lease; False if the request is not this worker's any more."""

        def change(status: Status, moment: datetime) -> Status:
            said = status.progress if progress is None else progress
            return replace(status, lease=stamp(moment + lease), progress=said)

        return self._as_owner(id, worker, change, f"{worker} is at {id}", at)

    def finish(self, id: str, worker: str, *, offered: str = "", at: datetime | None = None) -> bool:
        """Marks a request as done; False if it is not this worker's any more, whose results then don't count twice: they are the same."""

        def change(status: Status, moment: datetime) -> Status:
            done = {"finished": stamp(moment), "lease": None, "error": None, "progress": "", "offered": offered[:500]}
            return status.now("FINISHED", "done", moment, **done)

        return self._as_owner(id, worker, change, f"{id} is finished", at)

    def fail(self, id: str, worker: str, error: str, *, at: datetime | None = None) -> bool:
        """Marks a request as failed, with what the submitter should know."""

        def change(status: Status, moment: datetime) -> Status:
            return status.now("FAILED", "failed", moment, finished=stamp(moment), lease=None, error=error[:2000], progress="")

        return self._as_owner(id, worker, change, f"{id} failed", at)

    def give_back(self, id: str, worker: str, why: str, *, at: datetime | None = None) -> bool:
        """Lets a request wait again that this worker can't work on, through no fault of the request; it counts as no attempt."""

        def change(status: Status, moment: datetime) -> Status:
            back = {"worker": None, "lease": None, "progress": "", "attempts": max(0, status.attempts - 1)}
            return status.now("PENDING", f"given back: {why[:200]}", moment, **back)

        return self._as_owner(id, worker, change, f"{worker} gives {id} back", at)

    def _as_owner(self, id: str, worker: str, change, message: str, at: datetime | None) -> bool:
        def apply(view: View) -> Changes | None:
            status = self._status(view, id)
            if status is None or status.state != "RUNNING" or status.worker != worker:
                return None
            return {_path(id, "status"): as_json(change(status, at or utc()).to_dict())}

        return self.store.update(apply, message)

    def _let_in(self, view: View, statuses: Mapping[str, Status], at: datetime) -> dict[str, Status]:
        """Statuses for the requests that came without one: they wait from now on, or have failed with the reason.

        Nobody has checked the name that such a request gives as its submitter. It has a count of its own, so that it takes nothing away
        from whoever is really called that.
        """
        brought, limits = [id for id, status in statuses.items() if status.submitted is None and status.state == "PENDING"], None
        found: dict[str, Status] = {}
        for id in brought:
            limits = limits or self._limits_at(view)
            try:
                request = self._request(view, id)
                submitter = (request.submitter or "unknown")[: LONGEST_NAME - len(BY_PULL_REQUEST)] + BY_PULL_REQUEST
                limits.check_request(request, _count(statuses | found, submitter, at))
                if is_local(request.model) or is_local(request.split):
                    raise SubmissionError("A local model or split is never taken from a pull request; who runs this board can submit it.")
                found[id] = Status(submitted=stamp(at), submitter=submitter)
            except (SubmissionError, BrokenFile) as error:
                found[id] = Status(state="FAILED", submitted=stamp(at), finished=stamp(at), error=str(error)[:2000])
        return found

    def _limits_at(self, view: View) -> Limits:
        return self._limits or Limits.of(view)

    def _status(self, view: View, id: str) -> Status | None:
        """None where there is none; one that can't be understood is a failure that everyone can see."""
        try:
            return Status.from_dict(view.read_json(_path(id, "status")))
        except KeyError:
            return None
        except BrokenFile as error:
            return Status(state="FAILED", error=f"{error} Somebody changed it by hand. Submit the request again.")

    def _statuses(self, view: View) -> dict[str, Status]:
        ids = _ids(view.files("requests"))
        view.prefetch(_path(id, "status") for id in ids)
        return {id: self._status(view, id) or Status() for id in ids}

    def _request(self, view: View, id: str, *, past: bool = False) -> Request:
        try:
            request = Request.from_dict(view.read_json(_path(id, "request")), past=past)
        except KeyError:
            raise SubmissionError(f"The request {id} has no request.json. Submit it again.") from None
        except BrokenFile as error:
            raise SubmissionError(f"{error} Submit it again.") from error
        if request.id != id:
            raise SubmissionError(f"The request {id} is not what was submitted: its content belongs to {request.id}. Submit it again.")
        return request

    def _request_or_none(self, view: View, id: str, *, past: bool = False) -> Request | None:
        try:
            return self._request(view, id, past=past)
        except SubmissionError:
            return None


def files_of(request: Request, scores: bytes | None) -> dict[str, bytes]:
    """The files that a request consists of, by their paths in the store."""
    files = {_path(request.id, "request"): as_json(request.to_dict())}
    return files | ({} if scores is None else {f"requests/{request.id}/scores.parquet": scores})


def _check_scores(request: Request, scores: bytes | None) -> None:
    """Refuses scores that aren't those that the request names."""
    if (request.kind == "scores") != (scores is not None):
        raise SubmissionError("Scores come with a request of kind 'scores', and with no other.")
    if scores is None:
        return
    check_size(len(scores))
    if hashlib.sha256(scores).hexdigest() != request.scores:
        raise SubmissionError("The scores are not those that the request names: their SHA-256 differs. Submit them again.")


def _ids(paths: list[str]) -> list[str]:
    return sorted({path.split("/")[1] for path in paths if path.count("/") == 2})


def _waiting(statuses: Mapping[str, Status], at: datetime) -> list[str]:
    """Ids of the requests that a worker may take, the one whose turn it is first."""
    found = [(status.waits_since or "~", id) for id, status in statuses.items() if status.state == "PENDING" or status.expired(at)]
    return [id for _, id in sorted(found)]


def _count(statuses: Mapping[str, Status], submitter: str, at: datetime) -> int:
    """How many requests somebody has made in the 24 hours before."""
    since = stamp(at - timedelta(days=1))
    return sum(status.submissions(submitter, since) for status in statuses.values())


def _path(id: str, what: str) -> str:
    return f"requests/{id}/{what}.json"
