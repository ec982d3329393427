"""Evaluations as jobs on the Hub's GPUs, for a worker whose own machine has none.

The job installs this package, evaluates the request (`leaderboard.worker.run_job`), and writes its outcome into a folder ``jobs/…`` of the
results' data set. The worker that sent it keeps the lease, checks the result as it checks its own, and publishes it. A job is
identified by its label: a worker that is restarted doesn't send a second one.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from leaderboard.errors import StoreError, SubmissionError
from leaderboard.requests.local_folder import LocalFolder
from leaderboard.requests.queue import Queue
from leaderboard.requests.status import Status
from leaderboard.stores.hub_store import HubStore
from leaderboard.stores.store import Store
from leaderboard.worker.backend import EvaluationCrashed, Unavailable
from leaderboard.worker.run_job import JOBS, UNREACHABLE
from leaderboard.worker.work_folder import ERROR, OUT
from mia_hub.system.hub import HubTask, hub_errors

if TYPE_CHECKING:
    from huggingface_hub import JobInfo

log = logging.getLogger("leaderboard.worker")
IMAGE = "ghcr.io/astral-sh/uv:python3.11-bookworm"
LABEL = "mia-hub-request"
# The job's token; the worker's own if it isn't set. A narrower one, which may only write to the results' data set, is safer.
TOKEN_VARIABLE = "MIA_HUB_JOB_TOKEN"
ENDED = ("COMPLETED", "CANCELED", "ERROR", "DELETED")
LINES, LONGEST_TAIL = 20, 1200


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """Options of jobs.

    Attributes:
        flavor: the job's machine, such as "a10g-small".
        timeout: longest time of a job, such as "2h"; the queue's limit of hours by default.
        package: what the job installs, as pip writes it; the Space that this runs in by default.
        namespace: who pays for it; whoever is logged in by default.
        device, batch_size: as for `mia_hub.compare`, on the job's machine.
        poll: seconds between two queries of a job's state.
    """

    flavor: str = "a10g-small"
    timeout: str | None = None
    package: str | None = None
    namespace: str | None = None
    device: str | None = None
    batch_size: int | None = None
    poll: float = 10


class HubJobs:
    """Sends evaluations to the Hub.

    Args:
        requests, results: stores on the Hub, since the job can't read a folder of this machine.
        options: how the jobs run.

    Raises:
        StoreError: for a store that is a folder.
        Unavailable: if nobody is logged in, or there is no package that the job could install.
    """

    local: LocalFolder | None = None

    def __init__(self, requests: Store, results: Store, options: JobOptions | None = None):
        from huggingface_hub import HfApi

        self.requests, self.results = _on_the_hub("requests", requests), _on_the_hub("results", results)
        self.options = options or JobOptions()
        if self.options.timeout is not None and not re.fullmatch(r"\d+(\.\d+)?[smhd]?", self.options.timeout):
            raise Unavailable(f"--timeout must be a time such as 90m or 2h; got {self.options.timeout!r}.")
        self.api = HfApi()
        self.package = self.options.package or _own_space(self.api.endpoint)
        with _unavailable():
            self.namespace = self.options.namespace or self.api.whoami()["name"]

    def start(self, id: str, status: Status, folder: Path) -> HubJob:
        # A request that failed and was submitted again needs another job; one whose worker went away needs the same.
        key = f"{id}-{sum(past.get('state') == 'FAILED' for past in status.history)}"
        # A job that couldn't reach what it needs is followed by another.
        unreachable = sum(path.startswith(f"{JOBS}/{key}") and path.endswith(f"/{UNREACHABLE}") for path in self.results.files())
        key += f"-again{unreachable}" if unreachable else ""
        with _unavailable():
            job = self._find(key)
            if job is None:
                job = self._send(id, key)
                log.info("%s: sent as a job: %s", id, job.url)
            else:
                log.info("%s: its job exists already: %s", id, job.url)
        return HubJob(self, job, f"{JOBS}/{key}", folder)

    def _label(self, key: str) -> str:
        """Return the label of a job of this queue: another queue may have the same request."""
        return f"{key}-{hashlib.sha256(self.results.repo_id.encode()).hexdigest()[:8]}"

    def _find(self, key: str) -> JobInfo | None:
        jobs = self.api.list_jobs(labels={LABEL: self._label(key)}, namespace=self.namespace)
        return next((job for job in jobs if job.status.stage != "DELETED"), None)

    def _send(self, id: str, key: str) -> JobInfo:
        from huggingface_hub import get_token

        stores = ["--requests", f"hub:{self.requests.repo_id}", "--results", f"hub:{self.results.repo_id}"]
        run = ["python", "-m", "leaderboard.worker.run_job", id, *stores, "--into", f"{JOBS}/{key}"]
        run += ["--device", self.options.device] if self.options.device else []
        run += ["--batch-size", str(self.options.batch_size)] if self.options.batch_size else []
        elsewhere = {"HF_ENDPOINT": self.api.endpoint} if "HF_ENDPOINT" in os.environ else {}
        return self.api.run_job(
            image=IMAGE,
            command=["uv", "run", "--no-project", "--python", "3.11", "--with", self.package, *run],
            env={"HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONUNBUFFERED": "1"} | elsewhere,
            # Secrets are not shown with the job, unlike its command and environment.
            secrets={"HF_TOKEN": os.environ.get(TOKEN_VARIABLE) or get_token() or ""},
            flavor=self.options.flavor,
            timeout=self.options.timeout or f"{Queue(self.requests).limits.hours:g}h",
            labels={LABEL: self._label(key)},
            name=f"mia-hub-{id}",
            namespace=self.namespace,
        )


class HubJob:
    """One job.

    Args:
        jobs: that sent it.
        job: its last known state.
        outcome: folder of the store of results that it writes to.
        folder: work folder of the request.
    """

    # It may have to wait for a machine; the Hub limits how long it runs.
    patience = 3.0

    def __init__(self, jobs: HubJobs, job: JobInfo, outcome: str, folder: Path):
        self.jobs, self.job, self.outcome, self.folder = jobs, job, outcome, folder

    def wait(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while True:
            try:
                with _unavailable():
                    self.job = self.jobs.api.inspect_job(job_id=self.job.id, namespace=self.jobs.namespace)
            except Unavailable as error:
                log.warning("%s", error)
            if self.job.status.stage in ENDED:
                return True
            if time.monotonic() >= end:
                return False
            time.sleep(max(0.0, min(self.jobs.options.poll, end - time.monotonic())))

    def progress(self) -> str:
        return f"{str(self.job.status.stage).lower()}, as a job on the Hub: {self.job.url}"

    def collect(self) -> None:
        results = self.jobs.results
        files = {path.removeprefix(f"{self.outcome}/"): path for path in results.files(self.outcome)}
        if UNREACHABLE in files:
            # It counts as an attempt, unlike a request that is returned to the queue: every further job is paid for.
            raise EvaluationCrashed(results.read(files[UNREACHABLE]).decode("utf-8", "replace"))
        if ERROR in files:
            reason = results.read(files[ERROR]).decode("utf-8", "replace")
            results.update(lambda view: dict.fromkeys(view.files(self.outcome)), f"{self.outcome} was read")
            raise SubmissionError(reason)
        if "entry.json" not in files:
            raise SubmissionError(self._failure())
        for path, stored in files.items():
            target = self.folder / OUT / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(results.read(stored))

    def _failure(self) -> str:
        status = self.job.status
        message = f" ({status.message})" if status.message else ""
        tail = self._tail()
        output = f" Its last output:\n{tail}" if tail else " It printed nothing."
        return f"The job on the Hub ended as {status.stage}{message}, without a result: {self.job.url}.{output}"

    def _tail(self) -> str:
        """Return the end of the job's output, for everyone to read."""
        from huggingface_hub import get_token

        try:
            with _unavailable():
                lines = list(self.jobs.api.fetch_job_logs(job_id=self.job.id, namespace=self.jobs.namespace, tail=LINES))
        except Unavailable as error:
            return str(error)
        text = "\n".join(line.rstrip() for line in lines)
        for secret in filter(None, (os.environ.get(TOKEN_VARIABLE), get_token())):
            text = text.replace(secret, "(token)")
        return text[-LONGEST_TAIL:]

    def cancel(self) -> None:
        try:
            with _unavailable():
                self.jobs.api.cancel_job(job_id=self.job.id, namespace=self.jobs.namespace)
        except Unavailable as error:
            log.warning("The job %s could not be cancelled: %s", self.job.url, error)

    def abandon(self) -> None:
        """Let it run: whoever has the request next finds it."""


def _on_the_hub(option: str, store: Store) -> HubStore:
    if not isinstance(store, HubStore):
        raise StoreError(
            f"Jobs on the Hub can't read {store}: with --backend hf-jobs, give --{option} as hub:owner/name, a data set on the Hub."
        )
    return store


def _own_space(endpoint: str) -> str:
    """Return the package that a job installs by default: the Space that this runs in.

    Raises:
        Unavailable: outside of a Space.
    """
    space = os.environ.get("SPACE_ID")
    if not space:
        raise Unavailable(
            "--package is needed outside of a Space: the package that the job installs, such as "
            "'git+https://huggingface.co/spaces/OWNER/mia_hub' ('mia-hub publish space OWNER --yes' makes that one)."
        )
    return f"git+{endpoint}/spaces/{space}"


def _unavailable() -> AbstractContextManager[None]:
    return hub_errors(HubTask("dataset", "", writing=True, failure="The Hub's jobs can't be used"), Unavailable)
