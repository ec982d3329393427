"""Works through the queue: claims a request, evaluates it, writes what came of it.

    python -m leaderboard.worker
    python -m leaderboard.worker --requests hub:owner/requests --results hub:owner/results --once

Killed at any moment, it or another worker goes on: a lease that isn't prolonged runs out, scores are kept attack by attack in the work
folder, and results are written in one piece before the request is marked as finished. Writing them twice writes the same.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

from leaderboard.config import requests_address, results_address
from leaderboard.entry import parse_entry, recomputed
from leaderboard.errors import StoreError, SubmissionError
from leaderboard.evaluate import REFUSED
from leaderboard.index import index_with
from leaderboard.intake import look_again
from leaderboard.queue import LEASE, Queue
from leaderboard.store import Store, as_json, open_store

log = logging.getLogger("leaderboard.worker")
CRASHED = "The evaluation ended without an answer (exit status {status}{hint}). It is tried again up to three times."


class Worker:
    """One worker; several may share a queue.

    Args:
        requests, results: stores; they may be the same.
        name: tells workers apart.
        folder: where it works; what lies there is used again by the next worker that is given the same folder.
        device, batch_size: as for `mia_hub.compare`.
        lease: how long a request stays with a worker that gives no sign of life.
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
    ):
        self.queue, self.results = Queue(requests), results
        self.name = name or f"{socket.gethostname()}-{os.getpid()}"
        self.folder, self.device, self.batch_size, self.lease = Path(folder), device, batch_size, lease

    def step(self) -> str | None:
        """Takes one request and brings it to an end; returns its id, or None if none was waiting."""
        id = self.queue.claim(self.name, lease=self.lease)
        if id is None:
            return None
        log.info("%s: started", id)
        try:
            work = self._prepare(id)
            self._evaluate(id, work)
            self._publish(id, work)
        except (SubmissionError, StoreError) as error:
            log.info("%s: failed: %s", id, error)
            self.queue.fail(id, self.name, str(error))
            return id
        if self.queue.finish(id, self.name):
            log.info("%s: finished", id)
            shutil.rmtree(work, ignore_errors=True)
        return id

    def _prepare(self, id: str) -> Path:
        request, limits = self.queue.request(id), self.queue.limits
        limits.check_request(request, 0)
        look_again(request, limits)
        work = self.folder / id
        work.mkdir(parents=True, exist_ok=True)
        for name in ("error.txt", "out"):
            _remove(work / name)
        (work / "request.json").write_bytes(as_json(request.to_dict()))
        (work / "limits.json").write_bytes(as_json(asdict(limits) | {"banned": list(limits.banned)}))
        if request.kind == "scores":
            (work / "scores.parquet").write_bytes(self.queue.scores(id))
        return work

    def _evaluate(self, id: str, work: Path) -> None:
        """Runs the evaluation beside a heartbeat; raises what the submitter should know."""
        command = [sys.executable, "-m", "leaderboard.evaluate", str(work)]
        command += ["--device", self.device] if self.device else []
        command += ["--batch-size", str(self.batch_size)] if self.batch_size else []
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])}
        limit, started = self.queue.limits.hours * 3600, time.monotonic()
        with open(work / "log.txt", "ab") as output, subprocess.Popen(command, stdout=output, stderr=output, env=environment) as process:
            lost = threading.Event()
            beat = threading.Thread(target=self._beat, args=(id, work, process, lost), daemon=True)
            beat.start()
            try:
                status = process.wait(limit)
            except subprocess.TimeoutExpired:
                process.kill()
                raise SubmissionError(f"It took longer than the {self.queue.limits.hours:g} hours that a request may take here.") from None
            except BaseException:
                process.kill()
                raise
            finally:
                lost.set()
                beat.join()
        log.info("%s: evaluated in %.1f s", id, time.monotonic() - started)
        if status == REFUSED:
            raise SubmissionError((work / "error.txt").read_text(encoding="utf-8"))
        if status != 0:
            hint = ", killed: out of memory, perhaps" if status == -signal.SIGKILL else ""
            self._crashed(id, CRASHED.format(status=status, hint=hint))

    def _crashed(self, id: str, why: str) -> None:
        from leaderboard.queue import MOST_ATTEMPTS

        status = self.queue.status(id)
        if status.attempts >= MOST_ATTEMPTS:
            raise SubmissionError(why.removesuffix(" It is tried again up to three times.") + f" That happened {status.attempts} times.")
        raise Crashed(why)

    def _beat(self, id: str, work: Path, process: subprocess.Popen, done: threading.Event) -> None:
        while not done.wait(self.lease.total_seconds() / 3):
            attacks = len(list((work / "scores").glob("scores-*.parquet")))
            try:
                if not self.queue.keep(id, self.name, progress=f"{attacks} attacks scored", lease=self.lease):
                    # Somebody else has it now, and will come to the same result.
                    process.kill()
                    return
            except StoreError as error:
                log.warning("%s: no heartbeat: %s", id, error)

    def _publish(self, id: str, work: Path) -> None:
        out = work / "out"
        entry = parse_entry((out / "entry.json").read_bytes(), id)
        wrong = recomputed(entry, lambda path: (out / path).read_bytes())
        if wrong:
            raise StoreError(f"The result doesn't follow from its scores, and is not published: {'; '.join(wrong[:3])}.")
        files = {f"results/{id}/{path.relative_to(out).as_posix()}": path.read_bytes() for path in out.rglob("*") if path.is_file()}

        def change(store: Store):
            changes = {path: content for path, content in files.items() if not _same(store, path, content)}
            return (changes | index_with(store, id, files[f"results/{id}/entry.json"])) or None

        self.results.update(change, f"Result of {id}")

    def run(self, *, once: bool = False, idle: float = 30) -> None:
        """Works until there is nothing left (``once``), or for ever."""
        while True:
            try:
                taken = self.step()
            except Crashed as error:
                log.warning("%s", error)
                taken = "crashed"
                time.sleep(self.lease.total_seconds())
            except StoreError as error:
                log.warning("The store can't be used at the moment: %s", error)
                taken = None
            if taken is None:
                if once:
                    return
                time.sleep(idle)


class Crashed(Exception):
    """The evaluation ended without an answer; the request is left to run out, and is then tried again."""


def _same(store: Store, path: str, content: bytes) -> bool:
    try:
        return store.read(path) == content
    except KeyError:
        return False


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m leaderboard.worker", description="Works through the queue of requests.")
    parser.add_argument("--requests", default=requests_address(), help="a folder, or hub:owner/name (default: %(default)s)")
    parser.add_argument("--results", default=results_address(), help="a folder, or hub:owner/name (default: %(default)s)")
    parser.add_argument("--work", default="work", help="folder to work in (default: work)")
    parser.add_argument("--name", help="of this worker")
    parser.add_argument("--device")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--lease", type=float, default=LEASE.total_seconds(), help="seconds without a sign of life (default: 300)")
    parser.add_argument("--once", action="store_true", help="stop when nothing is waiting")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options = {"name": args.name, "folder": args.work, "device": args.device, "batch_size": args.batch_size}
    options["lease"] = timedelta(seconds=args.lease)
    try:
        Worker(open_store(args.requests), open_store(args.results), **options).run(once=args.once)
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
