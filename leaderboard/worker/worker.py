"""The worker: claims requests, has them evaluated, publishes the results.

If it is killed at any moment, it or another worker resumes: a lease that isn't renewed runs out, scores are stored in the work folder, and
results are written in one commit before the request is marked as finished. Writing them twice writes the same.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from leaderboard.errors import StoreError, SubmissionError
from leaderboard.requests.queue import LEASE, MOST_ATTEMPTS, Queue
from leaderboard.results.entry import parse_entry
from leaderboard.results.index import index_with
from leaderboard.results.recomputation import discrepancies
from leaderboard.stores.store import Changes, Store, View
from leaderboard.worker.backend import Backend, Evaluation, EvaluationCrashed, RequestUnavailable, Unavailable
from leaderboard.worker.local_backend import LocalBackend
from leaderboard.worker.offer import OfferError, offer
from leaderboard.worker.run_job import JOBS
from leaderboard.worker.work_folder import fill_work_folder, work_output
from mia_hub.system.hub import is_temporary

log = logging.getLogger("leaderboard.worker")
# Seconds before a request that can't be reached is tried again: at first, and at most.
FIRST_WAIT, LONGEST_WAIT = 30.0, 3600.0


class Worker:
    """One worker; several may share a queue.

    Args:
        requests, results: stores; they may be the same.
        backend: where evaluations run; on this machine by default.
        name: tells workers apart.
        folder: holds the work folders of requests; the next worker with the same folder resumes from them.
        lease: how long a request stays with a worker that sends no heartbeat.
    """

    def __init__(
        self,
        requests: Store,
        results: Store,
        *,
        backend: Backend | None = None,
        name: str | None = None,
        folder: str | os.PathLike[str] = "work",
        lease: timedelta = LEASE,
    ):
        self.queue, self.results = Queue(requests), results
        self.backend = backend or LocalBackend()
        self.name = name or f"{socket.gethostname()}-{os.getpid()}"
        self.folder, self.lease = Path(folder), lease
        # Requests that can't be evaluated at the moment: how often they were tried, and when they are tried next.
        self._postponed: dict[str, tuple[int, float]] = {}
        self._last_reason = ""

    def step(self) -> str | None:
        """Claim one request and complete it; return its id, or None if none was waiting.

        Raises:
            RequestUnavailable: if the models or data it names can't be reached at the moment; it waits again, and this worker leaves it
                alone for a while.
            Unavailable: if evaluations can't run at the moment; it waits again.
            EvaluationCrashed: if it is to be tried again once its lease has run out.
            StoreError: if the queue can't be used.
        """
        id = self.queue.claim(self.name, lease=self.lease, skip=self._postponed_ids())
        if id is None:
            return None
        log.info("%s: started", id)
        folder = self.folder / id
        try:
            # There is a result if a worker was killed after it had published it.
            entry = self._published(id)
            if entry is None:
                fill_work_folder(self.queue, id, folder, self.backend.local)
                if not self._evaluate(id, folder):
                    log.warning("%s: another worker has it now", id)
                    return id
                entry = self._publish(id, folder)
            offered = self._offer(id, entry)
        except Unavailable as error:
            self._release(id, error)
            raise
        except (SubmissionError, StoreError) as error:
            if is_temporary(error):
                self._release(id, RequestUnavailable(str(error)))
                raise RequestUnavailable(str(error)) from error
            if isinstance(error, StoreError):
                return self._crash(id, str(error), folder)
            return self._fail(id, str(error), folder)
        except EvaluationCrashed as error:
            return self._crash(id, str(error), folder)
        except Exception as error:
            log.exception("%s: an unexpected error", id)
            return self._crash(id, f"The worker met an unexpected error ({type(error).__name__}).", folder)
        self._postponed.pop(id, None)
        if self.queue.finish(id, self.name, offered=offered):
            log.info("%s: finished%s", id, f"; {offered}" if offered else "")
            shutil.rmtree(folder, ignore_errors=True)
        return id

    def _postponed_ids(self) -> set[str]:
        """Return the requests that this worker doesn't try again yet."""
        now = monotonic()
        return {id for id, (_, until) in self._postponed.items() if until > now}

    def _release(self, id: str, error: Unavailable) -> None:
        if isinstance(error, RequestUnavailable):
            # Each time adds a line to its history: less and less often.
            times = self._postponed.get(id, (0, 0.0))[0]
            self._postponed[id] = times + 1, monotonic() + min(LONGEST_WAIT, FIRST_WAIT * 2**times)
        self.queue.release(id, self.name, str(error))

    def _crash(self, id: str, reason: str, folder: Path) -> str:
        """Leave a request for another attempt once its lease has run out; fail it after the last one.

        Raises:
            EvaluationCrashed: unless it was the last.
        """
        attempts = self.queue.status(id).attempts
        if attempts >= MOST_ATTEMPTS:
            return self._fail(id, f"{reason} That happened {attempts} times.", folder)
        raise EvaluationCrashed(reason)

    def _fail(self, id: str, reason: str, folder: Path) -> str:
        log.info("%s: failed: %s", id, reason)
        if self.queue.fail(id, self.name, reason):
            # If another worker has it now, it may use the same folder.
            shutil.rmtree(folder, ignore_errors=True)
        return id

    def _evaluate(self, id: str, folder: Path) -> bool:
        """Have the request evaluated, sending heartbeats; return False if it isn't this worker's any more."""
        started = monotonic()
        evaluation = self.backend.start(id, self.queue.status(id), folder)
        try:
            if not self._watch(id, evaluation):
                evaluation.abandon()
                return False
        except BaseException:
            evaluation.abandon()
            raise
        log.info("%s: evaluated in %.1f s", id, monotonic() - started)
        evaluation.collect()
        return True

    def _watch(self, id: str, evaluation: Evaluation) -> bool:
        hours, beat = self.queue.limits.hours, self.lease.total_seconds() / 3
        end = monotonic() + hours * evaluation.patience * 3600
        while not evaluation.wait(max(0.0, min(beat, end - monotonic()))):
            if monotonic() >= end:
                evaluation.cancel()
                raise SubmissionError(f"It took longer than the {hours:g} hours that a request may take here.")
            try:
                if not self.queue.renew(id, self.name, progress=evaluation.progress(), lease=self.lease):
                    return False
            except StoreError as error:
                log.warning("%s: no heartbeat: %s", id, error)
        return True

    def _published(self, id: str) -> Mapping[str, Any] | None:
        """Return the entry, if it is in the store already and can be understood."""
        try:
            content = self.results.read(f"results/{id}/entry.json")
        except KeyError:
            return None
        try:
            return parse_entry(content, id)
        except StoreError as error:
            log.warning("%s It is computed again.", error)
            return None

    def _publish(self, id: str, folder: Path) -> Mapping[str, Any]:
        """Write the result into the store, unless it doesn't follow from its scores."""
        files = work_output(folder)
        entry = parse_entry(files["entry.json"], id)
        wrong = discrepancies(entry, files.__getitem__)
        if wrong:
            raise StoreError(f"The figures don't match the scores, so the result is not published: {'; '.join(wrong[:3])}.")
        published = {f"results/{id}/{path}": content for path, content in files.items()}

        def change(view: View) -> Changes | None:
            changes: dict[str, bytes | None] = {path: content for path, content in published.items() if not _has(view, path, content)}
            changes |= index_with(view, id, files["entry.json"])
            changes |= dict.fromkeys(path for path in view.files() if path.startswith(f"{JOBS}/{id}-"))
            return changes or None

        self.results.update(change, f"Result of {id}")
        return entry

    def _offer(self, id: str, entry: Mapping[str, Any]) -> str:
        """Offer the result to the model, if that was requested; return the pull request, or why there is none."""
        if not self.queue.request(id).push or not self.queue.renew(id, self.name, progress="offering the result", lease=self.lease):
            return ""
        try:
            return offer(entry, owns=self.queue.status(id).owns, link=self.results.link(f"results/{id}/entry.json"))
        except OfferError as error:
            return str(error)
        except Exception as error:  # whatever a stranger's repository contains, the result is published
            log.exception("%s: the result could not be offered", id)
            return f"The result could not be offered to its model, because of an error of ours ({type(error).__name__})."

    def run(self, *, once: bool = False, idle: float = 30) -> None:
        """Work until nothing is left (``once``), or for ever.

        Raises:
            Unavailable: with ``once``, if evaluations can't run at the moment.
        """
        refusals, retry_at = 0, 0.0
        while True:
            try:
                id = self.step()
                refusals = 0
            except EvaluationCrashed as error:
                # It is tried again once its lease has run out; others needn't wait for that.
                log.warning("%s It is tried again, up to %d times in all.", error, MOST_ATTEMPTS)
                retry_at = monotonic() + self.lease.total_seconds()
                continue
            except RequestUnavailable as error:
                log.warning("%s It is tried again later.", error)
                self._last_reason = str(error)
                continue
            except Unavailable as error:
                if once:
                    raise
                # Each time adds a line to the request's history: less and less often.
                wait = min(LONGEST_WAIT, idle * 2**refusals)
                log.warning("%s The next try is in %.0f s.", error, wait)
                refusals += 1
                sleep(wait)
                continue
            except StoreError as error:
                log.warning("The store can't be used at the moment: %s", error)
                id = None
            except Exception:
                if once:
                    raise
                log.exception("An unexpected error")
                id = None
            if id is None and not self._rest(retry_at - monotonic(), once=once, idle=idle):
                return

    def _rest(self, left: float, *, once: bool, idle: float) -> bool:
        """Sleep until the next step; return False if ``once`` and nothing is left to wait for.

        Args:
            left: seconds until the lease of a crashed request runs out.
            once, idle: as for `run`.
        """
        if once and left <= 0:
            if self._postponed_ids():
                raise Unavailable(f"Not everything could be evaluated now: {self._last_reason}")
            return False
        sleep(min(idle, left) if left > 0 else idle)
        return True


def _has(view: View, path: str, content: bytes) -> bool:
    try:
        return view.read(path) == content
    except KeyError:
        return False
