"""A tiny model and a split of noise on the loopback Hub, and evaluations in this process, for tests of the leaderboard."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
from PIL import Image

from leaderboard.requests.limits import Limits
from leaderboard.requests.request import Request
from leaderboard.results.entry import parse_entry
from leaderboard.results.recomputation import discrepancies
from leaderboard.stores.store import as_json
from leaderboard.worker import evaluate
from leaderboard.worker.local_backend import LocalBackend, LocalEvaluation

N = 30


def write_split(folder: Path) -> Path:
    """Writes a data set of 30 members and 30 non-members, as the Hub has it."""
    rng = np.random.default_rng(0)
    for part in ("member", "nonmember"):
        rows = {"image": [Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)) for _ in range(N)]}
        features = datasets.Features({"image": datasets.Image()})
        datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / "data" / f"{part}-00000-of-00001.parquet")
    return folder


def add_model_and_split(hub, owner: str, model: Path, folder: Path) -> dict[str, str]:
    """Puts ``owner/tiny`` and ``owner/split`` on the Hub; returns the commits that a request names.

    Args:
        model, folder: the model's and the split's; the split is written if the folder is empty.
    """
    if not (folder / "data").exists():
        write_split(folder)
    revision = hub.add_repo("model", f"{owner}/tiny", model)
    return {"revision": revision, "split_revision": hub.add_repo("dataset", f"{owner}/split", folder)}


class InProcess(LocalBackend):
    """Evaluates in this process, to spare the start of another one; everything else is as in `LocalBackend`."""

    def start(self, id, status, folder):
        return _Evaluated(folder, self.options)


class _Evaluated(LocalEvaluation):
    def __init__(self, folder, options):
        self.folder = folder
        self.process = SimpleNamespace(returncode=evaluate.main([str(folder), *options]))

    def wait(self, seconds):
        return True

    def cancel(self):
        pass


def write_request(folder: Path, request: Request, limits: Limits | None = None) -> Path:
    """Writes a work folder, without a queue."""
    folder.mkdir(exist_ok=True)
    (folder / "request.json").write_bytes(as_json(request.to_dict()))
    (folder / "limits.json").write_bytes(as_json(asdict(limits or Limits()) | {"banned": []}))
    return folder


def published_entry(results, id: str) -> dict:
    """The entry of a request in a store of results, whose figures follow from its scores."""
    entry = parse_entry(results.read(f"results/{id}/entry.json"), id)
    assert discrepancies(entry, lambda path: results.read(f"results/{id}/{path}")) == []
    return entry
