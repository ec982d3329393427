"""The work folder of one request: what `leaderboard.worker.evaluate` reads from it, and what it writes there.

request.json, limits.json, scores.parquet     read; the last of kind "scores" alone
scores/                                       stored batch by batch, so that a second start resumes
out/                                          the entry with its scores and reports
error.txt                                     in place of an entry: why there is none
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

from leaderboard.requests.limits import Limits
from leaderboard.requests.local_folder import LocalFolder
from leaderboard.requests.naming import is_local
from leaderboard.requests.queue import Queue
from leaderboard.requests.request import Request
from leaderboard.requests.resolution import check_still_there
from leaderboard.stores.store import as_json
from leaderboard.worker.backend import RequestUnavailable
from mia_hub.system.validation import parsed

REQUEST, LIMITS, SUBMITTED_SCORES = "request.json", "limits.json", "scores.parquet"
STORED_SCORES, OUT, ERROR = "scores", "out", "error.txt"


def fill_work_folder(queue: Queue, id: str, folder: Path, local: LocalFolder | None = None) -> None:
    """Write a request with its limits and scores into its work folder.

    Args:
        queue: the queue.
        id: of the request.
        folder: work folder; created if it doesn't exist.
        local: folder of local models and splits.

    Raises:
        SubmissionError: if the request is refused.
        RequestUnavailable: if it names something local, and this worker has no such folder; another one may have it.
    """
    request, limits = queue.request(id), queue.limits
    limits.check_request(request, 0)
    for name in (request.model, request.split):
        if local is None and is_local(name):
            raise RequestUnavailable(f"{name} is in a folder that this worker doesn't have: 'python -m leaderboard.worker --local FOLDER'.")
    check_still_there(request, limits, local)
    # A request states its own submitter; the status knows how far that can be believed.
    request = replace(request, submitter=queue.status(id).submitter)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ERROR).unlink(missing_ok=True)
    shutil.rmtree(folder / OUT, ignore_errors=True)
    (folder / REQUEST).write_bytes(as_json(request.to_dict()))
    (folder / LIMITS).write_bytes(as_json(asdict(limits) | {"banned": list(limits.banned)}))
    if request.kind == "scores":
        (folder / SUBMITTED_SCORES).write_bytes(queue.scores(id))


def read_work_folder(folder: Path) -> tuple[Request, Limits]:
    """Return the request and the limits in a work folder.

    Raises:
        MiaHubError: if they can't be understood.
    """
    request = Request.from_dict(json.loads((folder / REQUEST).read_bytes()))
    return request, parsed(Limits, json.loads((folder / LIMITS).read_bytes()), LIMITS)


def work_output(folder: Path) -> dict[str, bytes]:
    """Return the files of an evaluation's output by their paths below ``out/``."""
    out = folder / OUT
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
