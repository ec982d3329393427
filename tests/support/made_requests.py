"""Requests about the demo, tables of scores, and the ways to submit them, for tests of the leaderboard."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq

from leaderboard.requests import intake
from leaderboard.requests.request import Request
from mia_hub.cli import parser as cli
from mia_hub.scores import ScoreTable

COMMIT = "0123456789abcdef0123456789abcdef01234567"
# As a person gives it, and as it is stored.
DEMO = {"model": "demo", "split": "demo", "attacks": "sima"}
DEMO_REQUEST = {"kind": "model", "model": "demo", "split": "demo", "attacks": ["sima"]}
BOBS = Request.from_dict(DEMO_REQUEST | {"seed": 1, "submitter": "bob"})
IMAGES, SCORED = 40, 60


def prepare(**asked):
    """`intake.prepare` of a draft with these fields."""
    options = {name: asked.pop(name) for name in ("submitter", "limits", "check", "local") if name in asked}
    return intake.prepare(intake.Draft(**asked), **options)


def submit(queue, asked, **options):
    """`intake.submit` of a draft with these fields."""
    return intake.submit(queue, intake.Draft(**asked), **options)


def put(store, files):
    """Commits files, as anybody may who can write to the store."""
    return store.commit(files, "put", parent=store.version())


def run(capsys, *arguments) -> tuple[int, str, str]:
    """The exit status of a command of mia-hub, its output and its error."""
    status = cli.main([str(part) for part in arguments])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def score_table(**changes) -> ScoreTable:
    """Scores of made-up images by an attack of somebody's own."""
    rng = np.random.default_rng(0)
    values = {"ids": [f"sha256:{i:064d}" for i in range(IMAGES)], "is_member": np.repeat([1, 0], IMAGES // 2), "timesteps": [50, 100]}
    values |= {"scores": rng.normal(size=(IMAGES, 2)), "attack": "mine", "model": {"id": "demo", "revision": None}}
    return ScoreTable(**values | changes)


def split_scores() -> ScoreTable:
    """Scores of `SCORED` members and as many non-members, above whom the members lie."""
    rng = np.random.default_rng(0)
    scores = np.vstack([rng.normal(1, 1, (SCORED, 2)), rng.normal(0, 1, (SCORED, 2))])
    ids = [f"sha256:{i:064d}" for i in range(2 * SCORED)]
    return ScoreTable(ids, np.repeat([1, 0], SCORED), [50, 100], scores, attack="sima", model={"id": "demo", "revision": None})


def parquet_of(table, path, change=lambda arrow: arrow) -> bytes:
    """The content of a table's file, after a change to it."""
    table.to_parquet(path)
    pq.write_table(change(pq.read_table(path)), path)
    return path.read_bytes()
