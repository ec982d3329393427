"""A clock that tests put forward, so that leases run out and workers wait without anybody's waiting."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from leaderboard.requests.status import utc_now


class Clock:
    """The time of the queue and of workers in this process.

    Attributes:
        passed: seconds that it is ahead of the real one.
        slept: for how long workers slept, one after another.
    """

    def __init__(self, patch: pytest.MonkeyPatch):
        self.passed, self.slept = 0.0, []
        patch.setattr("leaderboard.requests.queue.utc_now", lambda: utc_now() + timedelta(seconds=self.passed))
        patch.setattr("leaderboard.worker.worker.monotonic", lambda: time.monotonic() + self.passed)
        patch.setattr("leaderboard.worker.worker.sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.passed += seconds
