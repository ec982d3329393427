"""Evaluations on this machine, each in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from leaderboard.errors import SubmissionError
from leaderboard.requests.local_folder import LocalFolder
from leaderboard.requests.status import Status
from leaderboard.worker.backend import EvaluationCrashed, RequestUnavailable
from leaderboard.worker.evaluate import LATER, REFUSED
from leaderboard.worker.work_folder import ERROR, STORED_SCORES


class LocalBackend:
    """Runs evaluations on this machine.

    Args:
        device, batch_size: as for `mia_hub.compare`.
        local: folder of local models and splits.
    """

    def __init__(self, *, device: str | None = None, batch_size: int | None = None, local: LocalFolder | None = None):
        self.local = local
        self.options = ["--device", device] if device else []
        self.options += ["--local", str(local.root)] if local else []
        self.options += ["--batch-size", str(batch_size)] if batch_size else []

    def start(self, id: str, status: Status, folder: Path) -> LocalEvaluation:
        return LocalEvaluation(folder, self.options)


class LocalEvaluation:
    """An evaluation in a process of its own; its log is ``log.txt`` in the work folder."""

    patience = 1.0

    def __init__(self, folder: Path, options: list[str]):
        self.folder = folder
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])}
        command = [sys.executable, "-m", "leaderboard.worker.evaluate", str(folder), *options]
        with open(folder / "log.txt", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def wait(self, seconds: float) -> bool:
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def progress(self) -> str:
        return f"{len(list((self.folder / STORED_SCORES).glob('scores-*.parquet')))} attacks scored"

    def collect(self) -> None:
        status = self.process.returncode
        if status == REFUSED:
            raise SubmissionError((self.folder / ERROR).read_text(encoding="utf-8"))
        if status == LATER:
            raise RequestUnavailable((self.folder / ERROR).read_text(encoding="utf-8"))
        if status != 0:
            hint = ", killed: out of memory, perhaps" if status == -signal.SIGKILL else ""
            raise EvaluationCrashed(f"The evaluation ended without an answer (exit status {status}{hint}).")

    def cancel(self) -> None:
        self.process.kill()
        self.process.wait()

    def abandon(self) -> None:
        # It would compete with whoever has the request now; its stored scores stay in the work folder.
        self.cancel()
