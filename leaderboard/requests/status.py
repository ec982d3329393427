"""The status of a request: where it stands, and where it stood before."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from leaderboard.errors import BrokenFile
from leaderboard.validation import text_up_to
from mia_hub.system.validation import CLOSED, FROM_LIST, InvalidData, must_be, parsed

State = Literal["PENDING", "RUNNING", "FINISHED", "FAILED"]
LONGEST_TEXT = 4000


def _with_time_zone(value: str) -> str:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise must_be("an ISO 8601 time") from None
    if moment.tzinfo is None:
        raise must_be("a time with its time zone")
    return value


Text = Annotated[str, text_up_to(LONGEST_TEXT)]
Time = Annotated[Text, AfterValidator(_with_time_zone)]


@dataclass(frozen=True, config=CLOSED)
class Status:
    """The status of a request. Times are ISO 8601 in UTC.

    Attributes:
        state: PENDING, RUNNING, FINISHED or FAILED.
        submitted, started, finished: times; None where it hasn't happened.
        submitter: who submitted it, as far as that is known: logged in, or at this machine; "name (pull request)" for a name that only
            appears in a pull request.
        owns: the model's owner on the Hub (of "base + top", the top's), if the submitter is logged in as it, or may write for it.
        worker: the worker that has it, or had it last.
        lease: end of the time for which it is reserved for the worker; afterwards any worker may claim it.
        attempts: how often it was started.
        progress: what the worker is doing.
        error: why it failed, for everyone to read.
        offered: the pull request by which the result was offered to the model, or why it was not; empty if that was not requested.
        history: earlier states, the oldest first: ``{"state", "until", "why"}``, and ``"by"`` where it was submitted again.
    """

    state: State = "PENDING"
    submitted: Time | None = None
    started: Time | None = None
    finished: Time | None = None
    submitter: Text = ""
    owns: Text = ""
    worker: Text | None = None
    lease: Time | None = None
    attempts: Annotated[int, Field(ge=0)] = 0
    progress: Text = ""
    error: Text | None = None
    offered: Text = ""
    history: Annotated[tuple[dict[Text, Text], ...], FROM_LIST] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"history": list(self.history)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Status:
        """Return a status as stored, whoever wrote it, with all fields checked.

        Raises:
            BrokenFile: if it is none.
        """
        try:
            return parsed(cls, values, "The status")
        except InvalidData as error:
            raise BrokenFile(f"A status in the store can't be understood ({str(error)[:200]}).") from error

    def next(self, state: State, why: str, at: datetime, *, by: str | None = None, **changes: Any) -> Status:
        """Return the status that follows; this one goes into the history."""
        past = {"state": self.state, "until": timestamp(at), "why": why} | ({} if by is None else {"by": by})
        return replace(self, state=state, history=(*self.history, past), **changes)

    def expired(self, at: datetime) -> bool:
        """Whether the lease of its worker has run out."""
        return self.state == "RUNNING" and (self.lease is None or datetime.fromisoformat(self.lease) < at)

    @property
    def waiting_since(self) -> str:
        """When it was submitted, or submitted again: its place in the queue follows from it."""
        again = [past["until"] for past in self.history if "by" in past and "until" in past]
        return again[-1] if again else self.submitted or ""

    def submissions(self, submitter: str, since: str) -> int:
        """Return how often somebody has submitted it since a time: at first, and again after it had failed."""
        again = sum(past.get("by") == submitter and past.get("until", "") > since for past in self.history)
        return again + (self.submitter == submitter and (self.submitted or "") > since)


def utc_now() -> datetime:
    """Return the time now, in UTC."""
    return datetime.now(UTC)


def timestamp(at: datetime) -> str:
    """Return a time as a status stores it: ISO 8601, to the second."""
    return at.isoformat(timespec="seconds")
