"""Works through the queue: claims a request, evaluates it, writes what came of it.

    python -m leaderboard.worker
    python -m leaderboard.worker --requests hub:owner/requests --results hub:owner/results --once
    python -m leaderboard.worker --requests hub:owner/requests --results hub:owner/results --backend hf-jobs --flavor a10g-small

Killed at any moment, it or another worker goes on: a lease that isn't prolonged runs out, scores are kept in the work folder, and results
are written in one piece before the request is marked as finished. Writing them twice writes the same.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import socket
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from leaderboard.config import local_folder, requests_address, results_address
from leaderboard.errors import StoreError, SubmissionError
from leaderboard.requests.local import LocalFolder
from leaderboard.requests.queue import LEASE, MOST_ATTEMPTS, Queue
from leaderboard.results.entry import parse_entry, recomputed
from leaderboard.results.index import index_with
from leaderboard.stores.opening import open_store
from leaderboard.stores.store import Store
from leaderboard.worker.offer import OfferError, offer
from leaderboard.worker.running import JOBS, Backend, Crashed, Evaluation, Here, NotNow, Unavailable, prepare
from mia_hub.errors import MiaHubError
from mia_hub.system.hub import is_temporary

log = logging.getLogger("leaderboard.worker")
# Seconds before what can't be reached is tried again: at first, and at most.
FIRST_WAIT, LONGEST_WAIT = 30.0, 3600.0


class Worker:
    """One worker; several may share a queue.

    Args:
        requests, results: stores; they may be the same.
        name: tells workers apart.
        folder: where it works; what lies there is used again by the next worker that is given the same folder.
        device, batch_size: as for `mia_hub.compare`, on this machine.
        lease: how long a request stays with a worker that gives no sign of life.
        backend: where evaluations run; on this machine by default.
        local: where local models and splits lie; requests for them are left to others without it.
    """

    def __init__(
        self,
        requests: Store,
        results: Store,
        *,
        name: str | None = None,
        folder: str | os.PathLike[str] = "work",
        device: str | None = None,
        batch_size: int | None = None,
        lease: timedelta = LEASE,
        backend: Backend | None = None,
        local: LocalFolder | None = None,
    ):
        self.queue, self.results = Queue(requests), results
        self.name = name or f"{socket.gethostname()}-{os.getpid()}"
        self.folder, self.lease = Path(folder), lease
        self.backend, self.local = backend or Here(device=device, batch_size=batch_size, local=local), local
        # Requests that can't be evaluated at the moment: how often they were tried, and when they are again; and why the last one couldn't.
        self._later: dict[str, tuple[int, float]] = {}
        self._why = ""

    def step(self) -> str | None:
        """Takes one request and brings it to an end; returns its id, or None if none was waiting.

        Raises:
            NotNow: if what it names can't be reached at the moment; it waits again, and this worker leaves it alone for a while.
            Unavailable: if evaluations can't be run at the moment; it waits again.
            Crashed: if it is to be tried again once its lease has run out.
            StoreError: if the queue can't be used.
        """
        id = self.queue.claim(self.name, lease=self.lease, skip=self._put_off())
        if id is None:
            return None
        log.info("%s: started", id)
        work = self.folder / id
        try:
            # There is a result if a worker was killed after it had published it.
            entry = self._published(id)
            if entry is None:
                prepare(self.queue, id, work, self.local)
                if not self._evaluate(id, work):
                    log.warning("%s: somebody else has it now", id)
                    return id
                entry = self._publish(id, work)
            offered = self._offer(id, entry)
        except Unavailable as error:
            self._give_back(id, error)
            raise
        except (SubmissionError, StoreError) as error:
            if is_temporary(error):
                self._give_back(id, NotNow(str(error)))
                raise NotNow(str(error)) from error
            if isinstance(error, StoreError):
                return self._crashed(id, str(error), work)
            return self._fail(id, str(error), work)
        except Crashed as error:
            return self._crashed(id, str(error), work)
        except Exception as error:
            log.exception("%s: an unexpected error", id)
            return self._crashed(id, f"The worker met an unexpected error ({type(error).__name__}).", work)
        self._later.pop(id, None)
        if self.queue.finish(id, self.name, offered=offered):
            log.info("%s: finished%s", id, f"; {offered}" if offered else "")
            shutil.rmtree(work, ignore_errors=True)
        return id

    def _put_off(self) -> set[str]:
        """Requests that this worker doesn't try again yet."""
        now = time.monotonic()
        return {id for id, (_, until) in self._later.items() if until > now}

    def _give_back(self, id: str, error: Unavailable) -> None:
        if isinstance(error, NotNow):
            # Each time is a line in its history: less and less often.
            times = self._later.get(id, (0, 0.0))[0]
            self._later[id] = times + 1, time.monotonic() + min(LONGEST_WAIT, FIRST_WAIT * 2**times)
        self.queue.give_back(id, self.name, str(error))

    def _crashed(self, id: str, why: str, work: Path) -> str:
        """Leaves a request for another attempt, once its lease has run out; the last one fails it.

        Raises:
            Crashed: unless it was the last.
        """
        attempts = self.queue.status(id).attempts
        if attempts >= MOST_ATTEMPTS:
            return self._fail(id, f"{why} That happened {attempts} times.", work)
        raise Crashed(why)

    def _fail(self, id: str, why: str, work: Path) -> str:
        log.info("%s: failed: %s", id, why)
        if self.queue.fail(id, self.name, why):
            # Whoever else has it now may work in the same folder.
            shutil.rmtree(work, ignore_errors=True)
        return id

    def _evaluate(self, id: str, work: Path) -> bool:
        """Has the request evaluated, with a heartbeat meanwhile; False if it isn't this worker's any more."""
        started = time.monotonic()
        running = self.backend.start(id, self.queue.status(id), work)
        try:
            if not self._watch(id, running):
                running.leave()
                return False
        except BaseException:
            running.leave()
            raise
        log.info("%s: evaluated in %.1f s", id, time.monotonic() - started)
        running.collect()
        return True

    def _watch(self, id: str, running: Evaluation) -> bool:
        hours, beat = self.queue.limits.hours, self.lease.total_seconds() / 3
        end = time.monotonic() + hours * running.patience * 3600
        while not running.ended(max(0.0, min(beat, end - time.monotonic()))):
            if time.monotonic() >= end:
                running.cancel()
                raise SubmissionError(f"It took longer than the {hours:g} hours that a request may take here.")
            try:
                if not self.queue.keep(id, self.name, progress=running.progress(), lease=self.lease):
                    return False
            except StoreError as error:
                log.warning("%s: no heartbeat: %s", id, error)
        return True

    def _published(self, id: str) -> Mapping[str, Any] | None:
        """The entry, if it is in the store already, and can be understood."""
        try:
            content = self.results.read(f"results/{id}/entry.json")
        except KeyError:
            return None
        try:
            return parse_entry(content, id)
        except StoreError as error:
            log.warning("%s It is made again.", error)
            return None

    def _publish(self, id: str, work: Path) -> Mapping[str, Any]:
        """Writes the result into the store, unless it doesn't follow from its scores."""
        out = work / "out"
        entry = parse_entry((out / "entry.json").read_bytes(), id)
        wrong = recomputed(entry, lambda path: (out / path).read_bytes())
        if wrong:
            raise StoreError(f"The result doesn't follow from its scores, and is not published: {'; '.join(wrong[:3])}.")
        files = {f"results/{id}/{path.relative_to(out).as_posix()}": path.read_bytes() for path in out.rglob("*") if path.is_file()}

        def change(store: Store):
            changed = {path: content for path, content in files.items() if not _same(store, path, content)}
            changed |= index_with(store, id, files[f"results/{id}/entry.json"])
            return changed | dict.fromkeys(path for path in store.files() if path.startswith(f"{JOBS}/{id}-")) or None

        self.results.update(change, f"Result of {id}")
        return entry

    def _offer(self, id: str, entry: Mapping[str, Any]) -> str:
        """Offers the result to the model, where that was asked for; returns the pull request, or why there is none."""
        if not self.queue.request(id).push or not self.queue.keep(id, self.name, progress="offering the result", lease=self.lease):
            return ""
        try:
            return offer(entry, owns=self.queue.status(id).owns, link=self.results.link(f"results/{id}/entry.json"))
        except OfferError as error:
            return str(error)
        except Exception as error:  # whatever stands in a stranger's repository, the result is published
            log.exception("%s: the result could not be offered", id)
            return f"The result could not be offered to its model, because of an error of ours ({type(error).__name__})."

    def run(self, *, once: bool = False, idle: float = 30) -> None:
        """Works until there is nothing left (``once``), or for ever.

        Raises:
            Unavailable: with ``once``, if evaluations can't be run at the moment.
        """
        refused, crashed = 0, 0.0
        while True:
            try:
                taken = self.step()
                refused = 0
            except Crashed as error:
                # Once its lease has run out; others needn't wait for that.
                log.warning("%s It is tried again, up to %d times in all.", error, MOST_ATTEMPTS)
                crashed = time.monotonic() + self.lease.total_seconds()
                continue
            except NotNow as error:
                log.warning("%s It is tried again later.", error)
                self._why = str(error)
                continue
            except Unavailable as error:
                if once:
                    raise
                # Each time is a line in the request's history: less and less often.
                wait = min(LONGEST_WAIT, idle * 2**refused)
                log.warning("%s The next try is in %.0f s.", error, wait)
                refused += 1
                time.sleep(wait)
                continue
            except StoreError as error:
                log.warning("The store can't be used at the moment: %s", error)
                taken = None
            except Exception:
                if once:
                    raise
                log.exception("An unexpected error")
                taken = None
            if taken is None:
                left = crashed - time.monotonic()
                if once and left <= 0:
                    if self._put_off():
                        raise Unavailable(f"Not everything could be evaluated now: {self._why}")
                    return
                time.sleep(min(idle, left) if left > 0 else idle)


def _same(store: Store, path: str, content: bytes) -> bool:
    try:
        return store.read(path) == content
    except KeyError:
        return False


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m leaderboard.worker", description="Works through the queue of requests.")
    parser.add_argument("--requests", default=requests_address(), help="a folder, or hub:owner/name (default: %(default)s)")
    parser.add_argument("--results", default=results_address(), help="a folder, or hub:owner/name (default: %(default)s)")
    parser.add_argument("--work", default="work", help="folder to work in (default: work)")
    parser.add_argument("--name", help="of this worker")
    parser.add_argument("--local", metavar="FOLDER", default=local_folder(), help="folder of local:NAME (default: MIA_HUB_LOCAL, or none)")
    parser.add_argument("--device")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--lease", type=float, default=LEASE.total_seconds(), help="seconds without a sign of life (default: 300)")
    parser.add_argument("--once", action="store_true", help="stop when nothing is waiting")
    parser.add_argument("--backend", choices=["here", "hf-jobs"], default="here", help="where evaluations run (default: %(default)s)")
    jobs = parser.add_argument_group("with --backend hf-jobs", "each evaluation is a job on the Hub, paid for by whoever is logged in")
    jobs.add_argument("--flavor", default="a10g-small", help="the job's machine (default: %(default)s)")
    jobs.add_argument("--timeout", help="longest time of a job, such as 2h (default: the queue's limit of hours)")
    jobs.add_argument("--package", help="what the job installs, as pip writes it (default: the Space that this runs in)")
    jobs.add_argument("--namespace", help="organisation that pays for the job (default: whoever is logged in)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    args = build_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    # Each look at a store or a job would be a line.
    for client in ("httpx", "httpx2"):
        logging.getLogger(client).setLevel(logging.WARNING)
    options = {"name": args.name, "folder": args.work, "lease": timedelta(seconds=args.lease)}
    try:
        requests, results = open_store(args.requests), open_store(args.results)
        if args.backend == "hf-jobs":
            from leaderboard.worker.jobs import Jobs

            if args.local:
                raise StoreError("Jobs on the Hub can't see a folder of this machine: --local (or MIA_HUB_LOCAL) is for --backend here.")
            told = {"flavor": args.flavor, "timeout": args.timeout, "package": args.package, "namespace": args.namespace}
            options["backend"] = Jobs(requests, results, device=args.device, batch_size=args.batch_size, **told)
        else:
            local = LocalFolder(args.local) if args.local else None
            options |= {"device": args.device, "batch_size": args.batch_size, "local": local}
        Worker(requests, results, **options).run(once=args.once)
    except KeyboardInterrupt:
        return 130
    except MiaHubError as error:
        print(f"leaderboard.worker: {error}", file=sys.stderr)
        return 2
    return 0
