"""Jobs on the stand-in for the Hub: one is received as the Hub would receive it, and its command runs on this machine, if a test says how.

hub.jobs.run_with = run_here     # what `uv run … python …` would run, with this Python
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

KNOWN = {"command", "arguments", "environment", "secrets", "flavor", "timeoutSeconds", "labels", "dockerImage", "spaceId", "attempts"}
FLAVORS = {"cpu-basic", "cpu-upgrade", "t4-small", "t4-medium", "l4x1", "a10g-small", "a10g-large", "a100-large", "h200"}


@dataclass
class Job:
    """A job as it was posted, and what became of it."""

    id: str
    owner: str
    spec: dict[str, Any]
    created: str
    stage: str = "SCHEDULING"
    message: str | None = None
    lines: list[str] = field(default_factory=list)
    process: subprocess.Popen | None = None

    def shown(self) -> dict[str, Any]:
        """As the API shows it: secrets by their names alone."""
        spec = self.spec | {"secrets": dict.fromkeys(self.spec.get("secrets", {}), "")}
        return spec | {
            "id": self.id,
            "createdAt": self.created,
            "status": {"stage": self.stage, "message": self.message},
            "owner": {"id": self.owner, "name": self.owner, "type": "user"},
        }


class Jobs:
    """All jobs.

    Attributes:
        sent: every job, oldest first.
        run_with: starts a job's command and returns the process; None leaves jobs waiting for a machine.
        refuse: a status code and a message with which the next ones are refused, such as ``(402, "Payment required")``.
    """

    def __init__(self):
        self.sent: list[Job] = []
        self.run_with: Callable[[Job], subprocess.Popen] | None = None
        self.refuse: tuple[int, str] | None = None

    def clear(self) -> None:
        """Forgets all jobs, and stops those that run."""
        for job in self.sent:
            if job.process is not None:
                job.process.kill()
        self.sent, self.run_with, self.refuse = [], None, None

    def start(self, job: Job) -> None:
        """Gives a waiting job its machine."""
        job.process = self.run_with(job)
        job.stage = "RUNNING"
        threading.Thread(target=self._follow, args=(job,), daemon=True).start()

    def _follow(self, job: Job) -> None:
        for line in job.process.stdout:
            job.lines.append(line.rstrip("\n"))
        status = job.process.wait()
        if job.stage == "RUNNING":
            job.message = None if status == 0 else f"Job failed with exit code: {status}"
            job.stage = "COMPLETED" if status == 0 else "ERROR"

    async def answer(self, request: Request, parts: list[str], user: str) -> Response:
        """Everything below /api/jobs."""
        owner, *rest = parts
        if owner != user:
            return JSONResponse({"error": f"You can't run jobs for {owner}"}, 403)
        if not rest:
            if request.method == "POST":
                return self._posted(await request.json(), owner)
            wanted = dict(label.split("=", 1) for label in request.query_params.getlist("label"))
            found = [job for job in reversed(self.sent) if job.owner == owner and wanted.items() <= job.spec.get("labels", {}).items()]
            return JSONResponse([job.shown() for job in found])
        job = next((job for job in self.sent if job.id == rest[0]), None)
        if job is None:
            return JSONResponse({"error": "Job not found"}, 404)
        if rest[1:] == ["logs"]:
            return self._logs(job, request.query_params.get("tail"))
        if rest[1:] == ["cancel"]:
            job.stage = "CANCELED"
            if job.process is not None:
                job.process.kill()
        return JSONResponse(job.shown())

    def _posted(self, spec: dict[str, Any], owner: str) -> Response:
        if self.refuse:
            return JSONResponse({"error": self.refuse[1]}, self.refuse[0])
        wrong = _wrong_with(spec)
        if wrong:
            return JSONResponse({"error": wrong}, 400)
        job = Job(uuid.uuid4().hex[:24], owner, spec, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z"))
        self.sent.append(job)
        if self.run_with is not None:
            self.start(job)
        return JSONResponse(job.shown())

    def _logs(self, job: Job, tail: str | None) -> Response:
        lines = job.lines[-int(tail) :] if tail else job.lines
        events = [json.dumps({"data": line, "timestamp": job.created}) for line in lines]
        return Response("".join(f"data: {event}\n\n" for event in events), media_type="text/event-stream")


def _wrong_with(spec: dict[str, Any]) -> str | None:
    if set(spec) - KNOWN:
        return f"unknown fields {sorted(set(spec) - KNOWN)}"
    if ("dockerImage" in spec) == ("spaceId" in spec):
        return "either dockerImage or spaceId is needed"
    if not spec.get("command") or not all(isinstance(word, str) for word in spec["command"]):
        return "command must be a list of strings"
    if spec["flavor"] not in FLAVORS:
        return f"flavor must be one of {sorted(FLAVORS)}"
    for what in ("environment", "secrets", "labels"):
        if not all(isinstance(value, str) for value in spec.get(what, {}).values()):
            return f"{what} must be strings"
    return None


@dataclass
class Finished:
    """A job's process that prints some lines and ends, without a process.

    Attributes:
        stdout: the lines.
        status: the exit status.
        action: what the job does before it ends.
    """

    stdout: list[str]
    status: int = 0
    action: Callable[[], object] = lambda: None

    def wait(self) -> int:
        self.action()
        return self.status

    def kill(self) -> None:
        """Nothing runs."""


def prints(*lines: str, status: int = 0) -> Callable[[Job], Finished]:
    """A machine on which every job prints these lines and ends."""
    return lambda job: Finished(list(lines), status)


def run_here(job: Job) -> subprocess.Popen:
    """The command that the job's ``uv run … python …`` would run, with this Python instead of one that uv installs."""
    command = job.spec["command"]
    assert command[:2] == ["uv", "run"], command
    own = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "MIA_HUB_"))}
    told = own | job.spec["environment"] | job.spec.get("secrets", {})
    # A machine of its own has caches of its own; this one has no network to fill them again, but the loopback Hub.
    home = {"HF_HOME": os.environ["HF_HOME"], "HF_HUB_DISABLE_XET": "1"}
    words = [sys.executable, *command[command.index("python", 2 + command[2:].index("--with")) + 1 :]]
    return subprocess.Popen(words, env=told | home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
