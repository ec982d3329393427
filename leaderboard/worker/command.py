"""The command line of the worker.

python -m leaderboard.worker
python -m leaderboard.worker --requests hub:owner/requests --results hub:owner/results --once
python -m leaderboard.worker --requests hub:owner/requests --results hub:owner/results --backend hf-jobs --flavor a10g-small
"""

from __future__ import annotations

import argparse
import logging
import sys
from datetime import timedelta

from leaderboard.config import local_folder, requests_address, results_address
from leaderboard.errors import StoreError
from leaderboard.requests.local_folder import LocalFolder
from leaderboard.requests.queue import LEASE
from leaderboard.stores.opening import open_store
from leaderboard.stores.store import Store
from leaderboard.worker.backend import Backend
from leaderboard.worker.local_backend import LocalBackend
from leaderboard.worker.worker import Worker
from mia_hub.errors import MiaHubError
from mia_hub.system.streams import any_terminal


def worker_parser() -> argparse.ArgumentParser:
    """Return the parser of the worker's options."""
    parser = argparse.ArgumentParser(prog="python -m leaderboard.worker", description="Works through the queue of requests.")
    parser.add_argument("--requests", default=requests_address(), help="a folder, or hub:owner/name (default: %(default)s)")
    parser.add_argument("--results", default=results_address(), help="a folder, or hub:owner/name (default: %(default)s)")
    parser.add_argument("--work", default="work", help="folder to work in (default: work)")
    parser.add_argument("--name", help="of this worker")
    parser.add_argument("--local", metavar="FOLDER", default=local_folder(), help="folder of local:NAME (default: MIA_HUB_LOCAL, or none)")
    parser.add_argument("--device")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--lease", type=float, default=LEASE.total_seconds(), help="seconds without a heartbeat (default: 300)")
    parser.add_argument("--once", action="store_true", help="stop when nothing is waiting")
    parser.add_argument("--backend", choices=["here", "hf-jobs"], default="here", help="where evaluations run (default: %(default)s)")
    jobs = parser.add_argument_group("with --backend hf-jobs", "each evaluation is a job on the Hub, paid for by whoever is logged in")
    jobs.add_argument("--flavor", default="a10g-small", help="the job's machine (default: %(default)s)")
    jobs.add_argument("--timeout", help="longest time of a job, such as 2h (default: the queue's limit of hours)")
    jobs.add_argument("--package", help="what the job installs, as pip writes it (default: the Space that this runs in)")
    jobs.add_argument("--namespace", help="organisation that pays for the job (default: whoever is logged in)")
    return parser


def _backend(args: argparse.Namespace, requests: Store, results: Store) -> Backend:
    if args.backend == "here":
        return LocalBackend(device=args.device, batch_size=args.batch_size, local=LocalFolder(args.local) if args.local else None)
    from leaderboard.worker.hub_jobs import HubJobs, JobOptions

    if args.local:
        raise StoreError("Jobs on the Hub can't see a folder of this machine: --local (or MIA_HUB_LOCAL) is for --backend here.")
    options = JobOptions(
        flavor=args.flavor,
        timeout=args.timeout,
        package=args.package,
        namespace=args.namespace,
        device=args.device,
        batch_size=args.batch_size,
    )
    return HubJobs(requests, results, options)


@any_terminal()
def main(arguments: list[str] | None = None) -> int:
    args = worker_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    # Each query of a store or a job would be a line.
    for client in ("httpx", "httpx2"):
        logging.getLogger(client).setLevel(logging.WARNING)
    try:
        requests, results = open_store(args.requests), open_store(args.results)
        backend = _backend(args, requests, results)
        worker = Worker(requests, results, backend=backend, name=args.name, folder=args.work, lease=timedelta(seconds=args.lease))
        worker.run(once=args.once)
    except KeyboardInterrupt:
        return 130
    except MiaHubError as error:
        print(f"leaderboard.worker: {error}", file=sys.stderr)
        return 2
    return 0
