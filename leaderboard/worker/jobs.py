"""Evaluations as jobs on the Hub's GPUs, for a worker whose own machine has none.

The job installs this package, evaluates the request (see `leaderboard.worker.inside_job`), and leaves its outcome in a folder ``jobs/…``
of the results' data set. The worker that sent it keeps the lease, checks the result as it checks its own, and publishes it. A job is found
again by its label: a worker that is started anew doesn't send a second one.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import time
from contextlib import AbstractContextManager
from pathlib import Path

from leaderboard.errors import StoreError, SubmissionError
from leaderboard.requests.queue import Queue
from leaderboard.requests.status import Status
from leaderboard.stores.hub_store import HubStore
from leaderboard.stores.store import Store
from leaderboard.worker.running import JOBS, LEFT_FOR_LATER, Crashed, Evaluation, Unavailable
from mia_hub.system.hub import HubTask, hub_errors

log = logging.getLogger("leaderboard.worker")
IMAGE = "ghcr.io/astral-sh/uv:python3.11-bookworm"
LABEL = "mia-hub-request"
# Of the worker's own token where this isn't set: a narrower one, which may only write to the results' data set, is safer.
TOKEN_VARIABLE = "MIA_HUB_JOB_TOKEN"
ENDED = ("COMPLETED", "CANCELED", "ERROR", "DELETED")
LINES, LONGEST_TAIL = 20, 1200


class Jobs:
    """Sends evaluations to the Hub.

    Args:
        requests, results: stores on the Hub, since the job can't see a folder of this machine.
        flavor: the job's machine, such as "a10g-small".
        timeout: longest time of a job, such as "2h"; the queue's limit of hours by default.
        package: what the job installs, as pip writes it; the Space that this runs in by default.
        namespace: who pays for it; whoever is logged in by default.
        device, batch_size: as for `mia_hub.compare`, on the job's machine.
        poll: seconds between two looks at a job.

    Raises:
        StoreError: for a store that is a folder.
        Unavailable: if nobody is logged in, or it can't be told what the job should install.
    """

    def __init__(
        self,
        requests: Store,
        results: Store,
        *,
        flavor: str = "a10g-small",
        timeout: str | None = None,
        package: str | None = None,
        namespace: str | None = None,
        device: str | None = None,
        batch_size: int | None = None,
        poll: float = 10,
    ):
        from huggingface_hub import HfApi

        for what, store in (("requests", requests), ("results", results)):
            if not isinstance(store, HubStore):
                raise StoreError(
                    f"Jobs on the Hub can't see {store}: with --backend hf-jobs, give --{what} as hub:owner/name, a data set on the Hub."
                )
        if timeout is not None and not re.fullmatch(r"\d+(\.\d+)?[smhd]?", timeout):
            raise Unavailable(f"--timeout is a time such as 90m or 2h; got {timeout!r}.")
        self.requests, self.results, self.flavor, self.timeout, self.poll = requests, results, flavor, timeout, poll
        self.api = HfApi()
        self.package = package or _own_space(self.api.endpoint)
        with _unavailable():
            self.namespace = namespace or self.api.whoami()["name"]
        self.options = ["--device", device] if device else []
        self.options += ["--batch-size", str(batch_size)] if batch_size else []

    def start(self, id: str, status: Status, work: Path) -> Evaluation:
        # A request that failed and was submitted again is another piece of work; one whose worker went away is the same.
        key = f"{id}-{sum(past.get('state') == 'FAILED' for past in status.history)}"
        # One that couldn't reach what it needed has left word, and the next is another one.
        past = sum(path.startswith(f"{JOBS}/{key}") and path.endswith(f"/{LEFT_FOR_LATER}") for path in self.results.files())
        key += f"-again{past}" if past else ""
        with _unavailable():
            job = self._found(key)
            if job is None:
                job = self._sent(id, key)
                log.info("%s: sent as a job: %s", id, job.url)
            else:
                log.info("%s: its job was found again: %s", id, job.url)
        return _Job(self, job, f"{JOBS}/{key}", work)

    def _label(self, key: str) -> str:
        """Of a job of this queue: another queue may have the same request."""
        return f"{key}-{hashlib.sha256(self.results.repo_id.encode()).hexdigest()[:8]}"

    def _found(self, key: str):
        jobs = self.api.list_jobs(labels={LABEL: self._label(key)}, namespace=self.namespace)
        return next((job for job in jobs if job.status.stage != "DELETED"), None)

    def _sent(self, id: str, key: str):
        from huggingface_hub import get_token

        stores = ["--requests", f"hub:{self.requests.repo_id}", "--results", f"hub:{self.results.repo_id}"]
        run = ["python", "-m", "leaderboard.worker.inside_job", id, *stores, "--into", f"{JOBS}/{key}", *self.options]
        elsewhere = {"HF_ENDPOINT": self.api.endpoint} if "HF_ENDPOINT" in os.environ else {}
        return self.api.run_job(
            image=IMAGE,
            command=["uv", "run", "--no-project", "--python", "3.11", "--with", self.package, *run],
            env={"HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONUNBUFFERED": "1"} | elsewhere,
            # Secrets are not shown with the job, as its command and environment are.
            secrets={"HF_TOKEN": os.environ.get(TOKEN_VARIABLE) or get_token()},
            flavor=self.flavor,
            timeout=self.timeout or f"{Queue(self.requests).limits.hours:g}h",
            labels={LABEL: self._label(key)},
            name=f"mia-hub-{id}",
            namespace=self.namespace,
        )


class _Job:
    # It may have to wait for a machine; how long it runs is limited by the Hub.
    patience = 3.0

    def __init__(self, jobs: Jobs, job, folder: str, work: Path):
        self.jobs, self.job, self.folder, self.work = jobs, job, folder, work
        self._known = {"job_id": job.id, "namespace": jobs.namespace}

    def ended(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while True:
            try:
                with _unavailable():
                    self.job = self.jobs.api.inspect_job(**self._known)
            except Unavailable as error:
                log.warning("%s", error)
            if self.job.status.stage in ENDED:
                return True
            if time.monotonic() >= end:
                return False
            time.sleep(max(0.0, min(self.jobs.poll, end - time.monotonic())))

    def progress(self) -> str:
        return f"{str(self.job.status.stage).lower()}, as a job on the Hub: {self.job.url}"

    def collect(self) -> None:
        results = self.jobs.results
        files = {path.removeprefix(f"{self.folder}/"): path for path in results.files(self.folder)}
        if LEFT_FOR_LATER in files:
            # Counted, unlike what is given back: every further job is paid for.
            raise Crashed(results.read(files[LEFT_FOR_LATER]).decode("utf-8", "replace"))
        if "error.txt" in files:
            why = results.read(files["error.txt"]).decode("utf-8", "replace")
            results.update(lambda store: dict.fromkeys(store.files(self.folder)), f"{self.folder} was read")
            raise SubmissionError(why)
        if "entry.json" not in files:
            raise SubmissionError(self._failure())
        for path, kept in files.items():
            target = self.work / "out" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(results.read(kept))

    def _failure(self) -> str:
        status = self.job.status
        said = f" ({status.message})" if status.message else ""
        tail = self._tail()
        last = f" It last said:\n{tail}" if tail else " It said nothing."
        return f"The job on the Hub ended as {status.stage}{said}, without a result: {self.job.url}.{last}"

    def _tail(self) -> str:
        """The end of what the job said, for everyone to read."""
        from huggingface_hub import get_token

        try:
            with _unavailable():
                lines = list(self.jobs.api.fetch_job_logs(**self._known, tail=LINES))
        except Unavailable as error:
            return str(error)
        text = "\n".join(line.rstrip() for line in lines)
        for secret in filter(None, (os.environ.get(TOKEN_VARIABLE), get_token())):
            text = text.replace(secret, "(token)")
        return text[-LONGEST_TAIL:]

    def cancel(self) -> None:
        try:
            with _unavailable():
                self.jobs.api.cancel_job(**self._known)
        except Unavailable as error:
            log.warning("The job %s could not be cancelled: %s", self.job.url, error)

    def leave(self) -> None:
        """It runs on: whoever has the request next finds it."""


def _own_space(endpoint: str) -> str:
    """What a job installs by default: the Space that this runs in.

    Raises:
        Unavailable: outside of a Space.
    """
    space = os.environ.get("SPACE_ID")
    if not space:
        raise Unavailable(
            "--package is needed outside of a Space: what the job installs, such as "
            "'git+https://huggingface.co/spaces/OWNER/mia_hub' ('mia-hub publish space OWNER' makes that one)."
        )
    return f"git+{endpoint}/spaces/{space}"


def _unavailable() -> AbstractContextManager[None]:
    return hub_errors(HubTask("dataset", "", writing=True, failure="The Hub's jobs can't be used"), Unavailable)
