"""Where a request stands, and where it stood before."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from leaderboard.errors import BrokenFile

State = Literal["PENDING", "RUNNING", "FINISHED", "FAILED"]
LONGEST_TEXT = 4000
TIMES = ("submitted", "started", "finished", "lease")


@dataclass(frozen=True)
class Status:
    """Where a request stands. Times are ISO 8601 in UTC.

    Attributes:
        state: PENDING, RUNNING, FINISHED or FAILED.
        submitted, started, finished: times; None where it hasn't happened.
        submitter: who submitted it, as the way in knows them: logged in, or at this machine; "name (pull request)" for a name that only
            stands in a pull request.
        owns: the model's owner on the Hub (of "base + top", the top's), if the submitter is logged in as it, or may write for it.
        worker: who has it, or had it last.
        lease: until when it is the worker's; afterwards anyone's.
        attempts: how often it was started.
        progress: what the worker is at.
        error: why it failed, for everyone to read.
        offered: the pull request by which the result was offered to the model, or why it was not; empty where nobody asked for it.
        history: earlier states, the oldest first: ``{"state", "until", "why"}``, and ``"by"`` where it was submitted again.
    """

    state: State = "PENDING"
    submitted: str | None = None
    started: str | None = None
    finished: str | None = None
    submitter: str = ""
    owns: str = ""
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
        """A status as stored; whatever wrote it, what is returned can be relied upon.

        Raises:
            BrokenFile: if it is none.
        """
        try:
            status = cls(**values | {"history": tuple(values.get("history", ()))})
            status._check()
        except (TypeError, ValueError, AttributeError) as error:
            raise BrokenFile(f"A status in the store can't be understood ({str(error)[:200]}).") from error
        return status

    def _check(self) -> None:
        if self.state not in get_args(State):
            raise ValueError(f"its state is {self.state!r:.40}")
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int) or self.attempts < 0:
            raise ValueError(f"its attempts are {self.attempts!r:.40}")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("attempts", "history") or (value is None and field.default is None):
                continue
            if not isinstance(value, str) or len(value) > LONGEST_TEXT:
                raise ValueError(f"its {field.name} is {value!r:.40}")
            if field.name in TIMES and datetime.fromisoformat(value).tzinfo is None:
                raise ValueError(f"its {field.name} has no time zone")
        for past in self.history:
            if not all(isinstance(part, str) and len(part) <= LONGEST_TEXT for part in (*past, *past.values())):
                raise ValueError("its history is no list of texts")

    def now(self, state: State, why: str, at: datetime, *, by: str | None = None, **changes: Any) -> Status:
        """The next status; this one goes into the history."""
        past = {"state": self.state, "until": stamp(at), "why": why} | ({} if by is None else {"by": by})
        return replace(self, state=state, history=(*self.history, past), **changes)

    def expired(self, at: datetime) -> bool:
        """Whether its worker has let the lease run out."""
        return self.state == "RUNNING" and (self.lease is None or datetime.fromisoformat(self.lease) < at)

    @property
    def waits_since(self) -> str:
        """Since when it is its turn: when it was submitted, or submitted again."""
        again = [past["until"] for past in self.history if "by" in past and "until" in past]
        return again[-1] if again else self.submitted or ""

    def submissions(self, who: str, since: str) -> int:
        """How often somebody has submitted it since a time: at first, and again after it had failed."""
        again = sum(past.get("by") == who and past.get("until", "") > since for past in self.history)
        return again + (self.submitter == who and (self.submitted or "") > since)


def utc() -> datetime:
    return datetime.now(UTC)


def stamp(at: datetime) -> str:
    return at.isoformat(timespec="seconds")
