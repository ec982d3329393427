"""What a job on the Hub runs: evaluates one request, and leaves what it came to in a folder of the results' data set, in one piece.

    python -m leaderboard.worker.inside_job ID --requests hub:owner/requests --results hub:owner/results --into jobs/ID-0

It neither claims the request nor publishes the result: the worker that sent the job does (`leaderboard.worker.jobs`).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from leaderboard.errors import StoreError
from leaderboard.requests.queue import Queue
from leaderboard.stores.opening import open_store
from leaderboard.stores.store import Store
from leaderboard.worker.evaluate import evaluate
from leaderboard.worker.running import LEFT_FOR_LATER, prepare
from mia_hub.errors import MiaHubError
from mia_hub.system.hub import is_temporary


def outcome(queue: Queue, id: str, *, device: str | None = None, batch_size: int | None = None) -> dict[str, bytes]:
    """The files that a request came to, or ``error.txt`` with the reason for its submitter, or ``later.txt`` with a reason that will pass.

    Raises:
        StoreError: if the request can't be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        try:
            prepare(queue, id, work)
            evaluate(work, device=device, batch_size=batch_size)
        except StoreError:
            raise
        except MiaHubError as error:
            return {LEFT_FOR_LATER if is_temporary(error) else "error.txt": str(error).encode()}
        out = work / "out"
        return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def leave(files: dict[str, bytes], results: Store, into: str) -> None:
    """Writes the files into a folder of the store, in place of what lies there."""

    def change(store: Store):
        return dict.fromkeys(store.files(into)) | {f"{into}/{path}": content for path, content in files.items()}

    results.update(change, f"What came of {into}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m leaderboard.worker.inside_job", description="Evaluates one request inside a job on the Hub."
    )
    parser.add_argument("id", metavar="ID", help="of the request")
    parser.add_argument("--requests", required=True, help="hub:owner/name")
    parser.add_argument("--results", required=True, help="hub:owner/name")
    parser.add_argument("--into", required=True, help="folder of the results' data set")
    parser.add_argument("--device")
    parser.add_argument("--batch-size", type=int)
    args = parser.parse_args(arguments)
    try:
        files = outcome(Queue(open_store(args.requests)), args.id, device=args.device, batch_size=args.batch_size)
        leave(files, open_store(args.results), args.into)
    except MiaHubError as error:
        print(f"leaderboard.worker.inside_job: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
