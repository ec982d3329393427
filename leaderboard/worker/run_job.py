"""The command of a job on the Hub: evaluate one request, and write the outcome into a folder of the results' data set, in one commit.

    python -m leaderboard.worker.run_job ID --requests hub:owner/requests --results hub:owner/results --into jobs/ID-0

It neither claims the request nor publishes the result: the worker that sent the job does (`leaderboard.worker.hub_jobs`).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from leaderboard.errors import StoreError
from leaderboard.requests.queue import Queue
from leaderboard.stores.opening import open_store
from leaderboard.stores.store import Changes, Store, View
from leaderboard.worker.evaluate import Environment, evaluate
from leaderboard.worker.work_folder import ERROR, fill_work_folder, work_output
from mia_hub.errors import MiaHubError
from mia_hub.system.hub import is_temporary
from mia_hub.system.streams import any_terminal

# Folder in the store of results that holds the outcomes of jobs until a worker has published them.
JOBS = "jobs"
# In place of error.txt: the reason why a job couldn't reach what it needs.
UNREACHABLE = "later.txt"


def job_outcome(queue: Queue, id: str, environment: Environment | None = None) -> dict[str, bytes]:
    """Evaluate a request.

    Returns:
        The files of the result; or `ERROR` with the reason for its submitter; or `UNREACHABLE` with a reason that will pass.

    Raises:
        StoreError: if the request can't be read.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            fill_work_folder(queue, id, folder)
            evaluate(folder, environment)
        except StoreError:
            raise
        except MiaHubError as error:
            return {UNREACHABLE if is_temporary(error) else ERROR: str(error).encode()}
        return work_output(folder)


def store_outcome(files: dict[str, bytes], results: Store, into: str) -> None:
    """Write files into a folder of the store, in place of its present ones."""

    def change(view: View) -> Changes:
        return dict.fromkeys(view.files(into)) | {f"{into}/{path}": content for path, content in files.items()}

    results.update(change, f"Outcome of {into}")


@any_terminal()
def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m leaderboard.worker.run_job", description="Evaluate one request in a job on the Hub.")
    parser.add_argument("id", metavar="ID", help="of the request")
    parser.add_argument("--requests", required=True, help="hub:owner/name")
    parser.add_argument("--results", required=True, help="hub:owner/name")
    parser.add_argument("--into", required=True, help="folder of the results' data set")
    parser.add_argument("--device")
    parser.add_argument("--batch-size", type=int)
    args = parser.parse_args(arguments)
    try:
        files = job_outcome(Queue(open_store(args.requests)), args.id, Environment(args.device, args.batch_size))
        store_outcome(files, open_store(args.results), args.into)
    except MiaHubError as error:
        print(f"leaderboard.worker.run_job: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
