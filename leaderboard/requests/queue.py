"""The queue of requests in a store: submitted, claimed with a lease that heartbeats renew, finished or failed with the reason.

requests/<id>/request.json     as submitted; never changed
requests/<id>/status.json      state, times, worker, lease, error, and earlier states
requests/<id>/scores.parquet   of kind "scores"
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from leaderboard.errors import BrokenFile, StoreError, SubmissionError
from leaderboard.requests.limits import Limits
from leaderboard.requests.naming import LONGEST_NAME, is_local, owner_of
from leaderboard.requests.request import Request, with_canonical_attacks
from leaderboard.requests.scores import LARGEST_SCORES, check_file_size
from leaderboard.requests.status import Status, timestamp, utc_now
from leaderboard.stores.store import Changes, Store, View, as_json

LEASE = timedelta(minutes=5)
# A request that crashes its worker each time must not do so for ever.
MOST_ATTEMPTS = 3
BY_PULL_REQUEST = " (pull request)"


@dataclass(frozen=True)
class Submission:
    """A request and where it stands.

    Attributes:
        id: its id.
        status: its status.
        request: as submitted; None if the stored file is no request.
        place: in the queue, from 1; None if it doesn't wait.
    """

    id: str
    status: Status
    request: Request | None
    place: int | None

    def to_dict(self) -> dict[str, Any]:
        request = None if self.request is None else self.request.to_dict()
        return {"id": self.id, "place": self.place, "status": self.status.to_dict(), "request": request}


class Queue:
    """The requests of a store.

    Args:
        store: where they are.
        limits: read from the store's ``limits.json`` by default.
    """

    def __init__(self, store: Store, limits: Limits | None = None):
        self.store, self._limits = store, limits

    @property
    def limits(self) -> Limits:
        return self._limits or Limits.of(self.store)

    def submit(
        self, request: Request, scores: bytes | None = None, *, at: datetime | None = None, namespaces: Container[str] = ()
    ) -> tuple[str, Status, bool]:
        """Put a request into the queue, unless it is there already. One that failed is tried again.

        Args:
            request: from any way to submit; its attacks are checked here once more.
            scores: the Parquet file, of kind "scores".
            at: the time; now by default.
            namespaces: on the Hub that the submitter is known to own, or to have write access to.

        Returns:
            ``(id, status, new)``; ``new`` is False if it was there and is waiting, running or finished.

        Raises:
            SubmissionError: if it is refused, with the reason; nothing is written then.
        """
        at = at or utc_now()
        request = replace(with_canonical_attacks(request), submitted=timestamp(at))
        _check_scores(request, scores)
        result: tuple[Status, bool] | None = None

        def change(view: View) -> Changes | None:
            nonlocal result
            present = self._status(view, request.id)
            if present is not None and present.state != "FAILED":
                result = present, False
                return None
            self._check_day(view, request, at)
            status = _first_status(request, at, namespaces) if present is None else _again(present, request, at)
            result = status, True
            files = files_of(request, scores)
            if self._request_or_none(view, request.id) is not None:
                del files[_path(request.id, "request")]
            return files | {_path(request.id, "status"): as_json(status.to_dict())}

        self.store.update(change, f"Request {request.id}")
        assert result is not None
        return request.id, *result

    def check(self, request: Request, *, at: datetime | None = None) -> None:
        """Refuse what `submit` would refuse because of the submitter and their number of requests, before its scores are read.

        Raises:
            SubmissionError: with the reason.
        """
        view = self.store.at()
        present = self._status(view, request.id)
        if present is None or present.state == "FAILED":
            self._check_day(view, request, at or utc_now())

    def _check_day(self, view: View, request: Request, at: datetime) -> None:
        self._limits_at(view).check_request(request, _count(self._statuses(view), request.submitter, at))

    def find(self, id: str) -> Status | None:
        """Return the status of a request; None if there is no such request."""
        view = self.store.at()
        status = self._status(view, id)
        if status is not None:
            return status
        try:
            view.read(_path(id, "request"))
        except (KeyError, BrokenFile):
            return None
        # A pull request may bring a request without a status: it waits.
        return Status()

    def status(self, id: str) -> Status:
        """Return the status of a request.

        Raises:
            StoreError: if there is no such request.
        """
        status = self.find(id)
        if status is None:
            raise StoreError(f"There is no request {id!r:.80} in {self.store}.")
        return status

    def request(self, id: str) -> Request:
        """Return a request as it was submitted.

        Raises:
            SubmissionError: if the stored file is another one: somebody changed it, or wrote it by hand and wrong.
        """
        return self._request(self.store.at(), id)

    def scores(self, id: str) -> bytes:
        """Return the scores that came with a request.

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

    def listing(self) -> list[Submission]:
        """Return all requests with their statuses, the newest first."""
        view = self.store.at()
        ids = _ids(view.files("requests"))
        view.prefetch(_path(id, "request") for id in ids)
        statuses = self._statuses(view)
        pending = [id for id in _claimable(statuses, utc_now()) if statuses[id].state == "PENDING"]
        places = {id: number for number, id in enumerate(pending, 1)}
        submissions = [
            Submission(id, status, self._request_or_none(view, id, past=True), places.get(id)) for id, status in statuses.items()
        ]
        # Those that a pull request just brought are the newest of all.
        return sorted(submissions, key=lambda each: (each.status.submitted or "~", each.id), reverse=True)

    def submission(self, id: str) -> Submission:
        """Return one request with its status and its place.

        Raises:
            StoreError: if there is no such request.
        """
        submission = next((each for each in self.listing() if each.id == id), None)
        if submission is None:
            raise StoreError(f"There is no request {id!r:.80} in {self.store}. 'mia-hub submissions' lists all.")
        return submission

    def claim(self, worker: str, *, at: datetime | None = None, lease: timedelta = LEASE, skip: Container[str] = ()) -> str | None:
        """Claim the oldest request that waits, or whose worker went away; return its id, or None if there is none.

        Requests from pull requests are admitted first, or refused with the reason.

        Args:
            worker: name of the worker that claims it.
            at: the time; now by default.
            lease: how long it stays with the worker.
            skip: ids of requests to leave to other workers, or for later.
        """
        claimed: str | None = None

        def change(view: View) -> Changes:
            nonlocal claimed
            moment, claimed = at or utc_now(), None
            statuses = self._statuses(view)
            changed = self._admitted(view, statuses, moment)
            for id in _claimable(statuses | changed, moment):
                if id in skip:
                    continue
                status = (statuses | changed)[id]
                if status.attempts >= MOST_ATTEMPTS:
                    reason = f"It was started {status.attempts} times and its worker went away each time (out of memory, perhaps)."
                    changed[id] = status.next("FAILED", "given up", moment, error=reason, finished=timestamp(moment), lease=None)
                    continue
                changed[id] = status.next(
                    "RUNNING", f"claimed by {worker}", moment, worker=worker, started=timestamp(moment), attempts=status.attempts + 1,
                    lease=timestamp(moment + lease), progress="",
                )  # fmt: skip
                claimed = id
                break
            return {_path(id, "status"): as_json(status.to_dict()) for id, status in changed.items()}

        self.store.update(change, f"{worker} claims a request")
        return claimed

    def renew(self, id: str, worker: str, *, progress: str | None = None, at: datetime | None = None, lease: timedelta = LEASE) -> bool:
        """Renew the lease (the heartbeat); return False if the request is not this worker's any more."""

        def change(status: Status, moment: datetime) -> Status:
            now_at = status.progress if progress is None else progress
            return replace(status, lease=timestamp(moment + lease), progress=now_at)

        return self._as_owner(id, worker, change, f"{worker} is at {id}", at)

    def finish(self, id: str, worker: str, *, offered: str = "", at: datetime | None = None) -> bool:
        """Mark a request as done; return False if it is not this worker's any more. Results that are written twice are the same."""

        def change(status: Status, moment: datetime) -> Status:
            done: dict[str, Any] = {"finished": timestamp(moment), "lease": None, "error": None, "progress": "", "offered": offered[:500]}
            return status.next("FINISHED", "done", moment, **done)

        return self._as_owner(id, worker, change, f"{id} is finished", at)

    def fail(self, id: str, worker: str, error: str, *, at: datetime | None = None) -> bool:
        """Mark a request as failed, with a reason for its submitter."""

        def change(status: Status, moment: datetime) -> Status:
            return status.next("FAILED", "failed", moment, finished=timestamp(moment), lease=None, error=error[:2000], progress="")

        return self._as_owner(id, worker, change, f"{id} failed", at)

    def release(self, id: str, worker: str, why: str, *, at: datetime | None = None) -> bool:
        """Return a request to the queue that this worker can't evaluate, through no fault of the request; it counts as no attempt."""

        def change(status: Status, moment: datetime) -> Status:
            back: dict[str, Any] = {"worker": None, "lease": None, "progress": "", "attempts": max(0, status.attempts - 1)}
            return status.next("PENDING", f"given back: {why[:200]}", moment, **back)

        return self._as_owner(id, worker, change, f"{worker} gives {id} back", at)

    def _as_owner(self, id: str, worker: str, change: Callable[[Status, datetime], Status], message: str, at: datetime | None) -> bool:
        """Change the status of a request that a worker has; return False if it is not this worker's any more."""

        def apply(view: View) -> Changes | None:
            status = self._status(view, id)
            if status is None or status.state != "RUNNING" or status.worker != worker:
                return None
            return {_path(id, "status"): as_json(change(status, at or utc_now()).to_dict())}

        return self.store.update(apply, message)

    def _admitted(self, view: View, statuses: Mapping[str, Status], at: datetime) -> dict[str, Status]:
        """Return statuses for the requests that came without one: they wait from now on, or have failed with the reason.

        Nobody has checked the name that such a request gives as its submitter. It has a count of its own, so that it uses up nothing of
        the real user's.
        """
        proposed = [id for id, status in statuses.items() if status.submitted is None and status.state == "PENDING"]
        admitted: dict[str, Status] = {}
        limits = self._limits_at(view) if proposed else Limits()
        for id in proposed:
            try:
                request = self._request(view, id)
                submitter = (request.submitter or "unknown")[: LONGEST_NAME - len(BY_PULL_REQUEST)] + BY_PULL_REQUEST
                limits.check_request(request, _count(dict(statuses) | admitted, submitter, at))
                if is_local(request.model) or is_local(request.split):
                    raise SubmissionError(
                        "A local model or split is never accepted from a pull request; whoever runs this board can submit it."
                    )
                admitted[id] = Status(submitted=timestamp(at), submitter=submitter)
            except (SubmissionError, BrokenFile) as error:
                admitted[id] = Status(state="FAILED", submitted=timestamp(at), finished=timestamp(at), error=str(error)[:2000])
        return admitted

    def _limits_at(self, view: View) -> Limits:
        return self._limits or Limits.of(view)

    def _status(self, view: View, id: str) -> Status | None:
        """Return the status; None if there is none. One that can't be understood becomes a failure that everyone can see."""
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
    """Return the files of a request by their paths in the store."""
    files = {_path(request.id, "request"): as_json(request.to_dict())}
    return files | ({} if scores is None else {f"requests/{request.id}/scores.parquet": scores})


def _first_status(request: Request, at: datetime, namespaces: Container[str]) -> Status:
    owner = owner_of(request.model)
    return Status(submitted=timestamp(at), submitter=request.submitter, owns=owner if request.push and owner in namespaces else "")


def _again(failed: Status, request: Request, at: datetime) -> Status:
    """Return the status of a failed request that is submitted again."""
    # A status that couldn't be understood doesn't name its first submitter.
    first = {"submitted": failed.submitted or timestamp(at), "submitter": failed.submitter or request.submitter}
    reset: dict[str, Any] = {"error": None, "finished": None, "attempts": 0}
    return failed.next("PENDING", "submitted again", at, by=request.submitter, **first, **reset)


def _check_scores(request: Request, scores: bytes | None) -> None:
    """Refuse scores that the request doesn't name."""
    if (request.kind == "scores") != (scores is not None):
        raise SubmissionError("Scores come with a request of kind 'scores', and with no other.")
    if scores is None:
        return
    check_file_size(len(scores))
    if hashlib.sha256(scores).hexdigest() != request.scores:
        raise SubmissionError("The scores are not those that the request names: their SHA-256 differs. Submit them again.")


def _ids(paths: list[str]) -> list[str]:
    return sorted({path.split("/")[1] for path in paths if path.count("/") == 2})


def _claimable(statuses: Mapping[str, Status], at: datetime) -> list[str]:
    """Return the ids of the requests that a worker may claim, in the order of their turns."""
    turns = [(status.waiting_since or "~", id) for id, status in statuses.items() if status.state == "PENDING" or status.expired(at)]
    return [id for _, id in sorted(turns)]


def _count(statuses: Mapping[str, Status], submitter: str, at: datetime) -> int:
    """Return how many requests somebody has made in the 24 hours before."""
    since = timestamp(at - timedelta(days=1))
    return sum(status.submissions(submitter, since) for status in statuses.values())


def _path(id: str, kind: str) -> str:
    return f"requests/{id}/{kind}.json"
