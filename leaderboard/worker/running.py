"""Running one evaluation somewhere: what the worker needs of it, and how it runs on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Protocol

from leaderboard.errors import SubmissionError
from leaderboard.requests.intake import look_again
from leaderboard.requests.local import LocalFolder
from leaderboard.requests.naming import is_local
from leaderboard.requests.queue import Queue
from leaderboard.requests.status import Status
from leaderboard.stores.store import as_json
from leaderboard.worker.evaluate import LATER, REFUSED
from mia_hub.errors import MiaHubError

# Folder in the store of results of what jobs on the Hub came to, until a worker has published it; see `leaderboard.worker.jobs`.
JOBS = "jobs"
# What a job leaves there that couldn't reach what it needs.
LEFT_FOR_LATER = "later.txt"


class Crashed(Exception):
    """A request was not brought to an end; it is left to run out, and is then tried again."""


class Unavailable(MiaHubError):
    """Evaluations can't be run at the moment, through no fault of the request."""


class NotNow(Unavailable):
    """One request can't be evaluated at the moment, since what it names can't be reached; others may be."""


class Evaluation(Protocol):
    """One evaluation under way, whose output lies in its work folder's ``out/`` once `collect` has returned.

    Attributes:
        patience: how many times the queue's limit of hours it may take from its start: more than once where it may have to wait.
    """

    patience: float

    def ended(self, seconds: float) -> bool:
        """Whether it has ended, after waiting for at most so long."""
        ...

    def progress(self) -> str:
        """What it is at, for people."""
        ...

    def collect(self) -> None:
        """Brings in what it came to.

        Raises:
            SubmissionError: if the request is refused, or can't be evaluated; with the reason.
            NotNow: if what it names can't be reached at the moment.
            Crashed: if it may be tried again.
        """
        ...

    def cancel(self) -> None:
        """Ends it."""
        ...

    def leave(self) -> None:
        """This worker has nothing to do with it any more: somebody else goes on, or the same worker later."""
        ...


class Backend(Protocol):
    """Where evaluations run."""

    def start(self, id: str, status: Status, work: Path) -> Evaluation:
        """Starts an evaluation, or finds the one that runs already.

        Args:
            id: of the request.
            status: the request's.
            work: the folder, prepared.

        Raises:
            Unavailable: if none can be started at the moment.
        """
        ...


def prepare(queue: Queue, id: str, work: Path, local: LocalFolder | None = None) -> None:
    """Puts a request into its work folder, as `leaderboard.worker.evaluate` reads it.

    Args:
        local: where local models and splits lie.

    Raises:
        SubmissionError: if the request is not taken.
        NotNow: if it names what is local, and this worker was given no folder; another one may have been.
    """
    try:
        request, limits = queue.request(id), queue.limits
    except KeyError:
        raise SubmissionError(f"The request {id} has no request.json. Submit it again.") from None
    limits.check_request(request, 0)
    for name in (request.model, request.split):
        if local is None and is_local(name):
            raise NotNow(f"{name} lies in a folder that this worker was not given: 'python -m leaderboard.worker --local FOLDER'.")
    look_again(request, limits, local)
    # A request says of itself who made it; the status knows how far that can be believed.
    request = replace(request, submitter=queue.status(id).submitter)
    work.mkdir(parents=True, exist_ok=True)
    for name in ("error.txt", "out"):
        _remove(work / name)
    (work / "request.json").write_bytes(as_json(request.to_dict()))
    (work / "limits.json").write_bytes(as_json(asdict(limits) | {"banned": list(limits.banned)}))
    if request.kind == "scores":
        (work / "scores.parquet").write_bytes(queue.scores(id))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class Here:
    """Evaluations on this machine, each in a process of its own.

    Args:
        device, batch_size: as for `mia_hub.compare`.
        local: where local models and splits lie.
    """

    def __init__(self, *, device: str | None = None, batch_size: int | None = None, local: LocalFolder | None = None):
        self.options = ["--device", device] if device else []
        self.options += ["--local", str(local.root)] if local else []
        self.options += ["--batch-size", str(batch_size)] if batch_size else []

    def start(self, id: str, status: Status, work: Path) -> Evaluation:
        return _Process(work, self.options)


class _Process:
    patience = 1.0

    def __init__(self, work: Path, options: list[str]):
        self.work = work
        self._log = open(work / "log.txt", "ab")  # noqa: SIM115, closed with the process
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])}
        command = [sys.executable, "-m", "leaderboard.worker.evaluate", str(work), *options]
        self.process = subprocess.Popen(command, stdout=self._log, stderr=self._log, env=environment)

    def ended(self, seconds: float) -> bool:
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self._log.close()
        return True

    def progress(self) -> str:
        return f"{len(list((self.work / 'scores').glob('scores-*.parquet')))} attacks scored"

    def collect(self) -> None:
        status = self.process.returncode
        if status == REFUSED:
            raise SubmissionError((self.work / "error.txt").read_text(encoding="utf-8"))
        if status == LATER:
            raise NotNow((self.work / "error.txt").read_text(encoding="utf-8"))
        if status != 0:
            hint = ", killed: out of memory, perhaps" if status == -signal.SIGKILL else ""
            raise Crashed(f"The evaluation ended without an answer (exit status {status}{hint}).")

    def cancel(self) -> None:
        self.process.kill()
        self.process.wait()
        self._log.close()

    # It would compete with whoever has the request now; what it has scored so far is kept in the work folder.
    leave = cancel
