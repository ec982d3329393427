"""The queue of requests in a store: submitted, claimed with a lease, kept alive by a heartbeat, finished or failed with the reason.

requests/<id>/request.json     as submitted; never changed
requests/<id>/status.json      state, times, worker, lease, error, and what it was before
requests/<id>/scores.parquet   of kind "scores"
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from leaderboard.errors import StoreError, SubmissionError
from leaderboard.limits import Limits
from leaderboard.store import Changes, Store, as_json
from leaderboard.submission import LARGEST_SCORES, Request, validated

State = Literal["PENDING", "RUNNING", "FINISHED", "FAILED"]
LEASE = timedelta(minutes=5)
# A request that takes its worker down each time must not do so for ever.
MOST_ATTEMPTS = 3


@dataclass(frozen=True)
class Status:
    """Where a request stands. Times are ISO 8601 in UTC.

    Attributes:
        state: PENDING, RUNNING, FINISHED or FAILED.
        submitted, started, finished: times; None where it hasn't happened.
        worker: who has it, or had it last.
        lease: until when it is the worker's; afterwards anyone's.
        attempts: how often it was started.
        progress: what the worker is at.
        error: why it failed, for everyone to read.
        offered: the pull request by which the result was offered to the model, or why it was not; empty where nobody asked for it.
        history: earlier states, the oldest first: ``{"state", "at", "why"}``.
    """

    state: State = "PENDING"
    submitted: str | None = None
    started: str | None = None
    finished: str | None = None
    worker: str | None = None
    lease: str | None = None
    attempts: int = 0
    progress: str = ""
    error: str | None = None
    offered: str = ""
    history: tuple[dict[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"history": list(self.history)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Status:
        try:
            return cls(**values | {"history": tuple(values.get("history", ()))})
        except TypeError as error:
            raise StoreError(f"A status in the store has unknown fields ({error}).") from error

    def now(self, state: State, why: str, at: datetime, **changes: Any) -> Status:
        """The next status; this one goes into the history."""
        past = (*self.history, {"state": self.state, "until": stamp(at), "why": why})
        return replace(self, state=state, history=past, **changes)

    def expired(self, at: datetime) -> bool:
        """Whether its worker has let the lease run out."""
        return self.state == "RUNNING" and (self.lease is None or datetime.fromisoformat(self.lease) < at)


def utc() -> datetime:
    return datetime.now(UTC)


def stamp(at: datetime) -> str:
    return at.isoformat(timespec="seconds")


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

    def submit(self, request: Request, scores: bytes | None = None, *, at: datetime | None = None) -> tuple[str, Status, bool]:
        """Puts a request into the queue, unless it is there already. One that failed is tried again.

        Args:
            request: checked here once more, whichever way it came in.
            scores: the Parquet file, of kind "scores".
            at: the time; now by default.

        Returns:
            ``(id, status, new)``; ``new`` is False if it was there and is waiting, running or finished.

        Raises:
            SubmissionError: if it is refused, with the reason; nothing is written then.
        """
        at = at or utc()
        request = replace(validated(request), submitted=stamp(at))
        if (request.kind == "scores") != (scores is not None):
            raise SubmissionError("Scores come with a request of kind 'scores', and with no other.")
        if scores is not None:
            if len(scores) > LARGEST_SCORES:
                raise SubmissionError(f"The scores are {len(scores) / 2**20:.0f} MiB; at most {LARGEST_SCORES // 2**20} MiB are taken.")
            if hashlib.sha256(scores).hexdigest() != request.scores:
                raise SubmissionError("The scores are not those that the request names: their SHA-256 differs. Submit them again.")
        new = False

        def change(store: Store) -> Changes | None:
            nonlocal new
            known = self.find(request.id)
            new = known is None or known.state == "FAILED"
            if not new:
                return None
            limits = self.limits
            limits.check_request(request, self._today(request.submitter, at))
            if known is not None:
                again = known.now("PENDING", "submitted again", at, error=None, finished=None, attempts=0)
                return {self._path(request.id, "status"): as_json(again.to_dict())}
            files = {self._path(request.id, "request"): as_json(request.to_dict())}
            files[self._path(request.id, "status")] = as_json(Status(submitted=stamp(at)).to_dict())
            return files | ({f"requests/{request.id}/scores.parquet": scores} if scores is not None else {})

        self.store.update(change, f"Request {request.id}")
        return request.id, self.status(request.id), new

    def ids(self) -> list[str]:
        """Of all requests, in order."""
        paths = self.store.files("requests") if any(True for _ in self.store.files()) else []
        return sorted({path.split("/")[1] for path in paths if path.count("/") == 2})

    def find(self, id: str) -> Status | None:
        """The status of a request; None if there is no such request."""
        try:
            return Status.from_dict(self.store.read_json(self._path(id, "status")))
        except KeyError:
            return None

    def status(self, id: str) -> Status:
        """The status of a request.

        Raises:
            StoreError: if there is no such request.
        """
        found = self.find(id)
        if found is None:
            raise StoreError(f"There is no request {id} in {self.store}.")
        return found

    def request(self, id: str) -> Request:
        """A request as it was submitted.

        Raises:
            SubmissionError: if what lies there isn't it: somebody changed it, or put it there by hand and wrong.
        """
        request = Request.from_dict(self.store.read_json(self._path(id, "request")))
        if request.id != id:
            raise SubmissionError(f"The request {id} is not what was submitted: its content belongs to {request.id}. Submit it again.")
        return request

    def scores(self, id: str) -> bytes:
        """The scores that came with a request.

        Raises:
            SubmissionError: if there are none.
        """
        try:
            return self.store.read(f"requests/{id}/scores.parquet")
        except KeyError:
            raise SubmissionError(f"The request {id} came without its scores.") from None

    def all(self) -> Iterator[tuple[str, Status]]:
        """All requests with their statuses."""
        for id in self.ids():
            # A pull request may bring a request without a status: it waits.
            yield id, self.find(id) or Status()

    def claim(self, worker: str, *, at: datetime | None = None, lease=LEASE) -> str | None:
        """Takes the oldest request that waits, or whose worker went away; returns its id, or None if there is none."""
        claimed: str | None = None

        def change(store: Store) -> Changes | None:
            nonlocal claimed
            moment, claimed = at or utc(), None
            waiting = [(s.submitted or "", id, s) for id, s in self.all() if s.state == "PENDING" or s.expired(moment)]
            changes: dict[str, bytes | None] = {}
            for _, id, status in sorted(waiting, key=lambda each: each[:2]):
                if status.attempts >= MOST_ATTEMPTS:
                    why = f"It was started {status.attempts} times and its worker went away each time (out of memory, perhaps)."
                    given_up = status.now("FAILED", "given up", moment, error=why, finished=stamp(moment), lease=None)
                    changes[self._path(id, "status")] = as_json(given_up.to_dict())
                    continue
                taken = status.now(
                    "RUNNING", f"claimed by {worker}", moment, worker=worker, started=stamp(moment), attempts=status.attempts + 1,
                    lease=stamp(moment + lease), progress="",
                )  # fmt: skip
                changes[self._path(id, "status")] = as_json(taken.to_dict())
                claimed = id
                break
            return changes

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
        def apply(store: Store) -> Changes | None:
            status = self.status(id)
            if status.state != "RUNNING" or status.worker != worker:
                return None
            return {self._path(id, "status"): as_json(change(status, at or utc()).to_dict())}

        return self.store.update(apply, message)

    def _today(self, submitter: str, at: datetime) -> int:
        """How many requests somebody has made in the 24 hours before."""
        since = stamp(at - timedelta(days=1))
        recent = [id for id, status in self.all() if (status.submitted or "") > since]
        return sum(self._submitter(id) == submitter for id in recent)

    def _submitter(self, id: str) -> str:
        try:
            return str(self.store.read_json(self._path(id, "request")).get("submitter", ""))
        except (KeyError, StoreError):
            return ""

    @staticmethod
    def _path(id: str, what: str) -> str:
        return f"requests/{id}/{what}.json"
