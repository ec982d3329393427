"""Honest entries from made-up scores, for tests of the board: every figure follows from the scores, as the worker would have it."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import numpy as np
from support.made_requests import COMMIT

from leaderboard.requests.request import Request
from leaderboard.results.entry import build_entry, build_row
from leaderboard.results.reader import ResultsReader
from leaderboard.stores.store import as_json
from mia_hub.auditing.measurement import measure
from mia_hub.auditing.report import AuditReport, Cost
from mia_hub.flags import flag
from mia_hub.metrics.estimates import Estimate
from mia_hub.scores import ScoreTable

N = 60


def honest_entry(folder, *, strengths=None, shifted=False, name="split", submitter="", **request) -> tuple[dict, dict[str, bytes]]:
    """An entry and its files by their paths below ``results/<id>/``.

    Args:
        folder: to write scores in, on their way.
        strengths: attack to how far members lie above non-members.
        shifted: whether the split fails the shift check.
        name: of the split, of owner "data".
        submitter, request: of the request.
    """
    strengths = strengths or {"sima": 1.0, "random": 0.0}
    asked = {"kind": "model", "model": "owner/model", "revision": COMMIT, "split": f"data/{name}", "split_revision": COMMIT} | request
    asked |= {"attacks": list(strengths), "submitter": submitter}
    if asked["kind"] == "scores":
        asked["scores"] = hashlib.sha256(repr(strengths).encode()).hexdigest()
    made = Request.from_dict(asked)
    model, split = (
        {"id": made.model, "revision": made.revision},
        {"name": made.split, "hash": f"sha256:{name}", "n_members": N, "n_nonmembers": N},
    )
    blind = Estimate(0.8, 0.75, 0.85, N, N) if shifted else Estimate(0.5, 0.4, 0.6, N, N)
    flags = [flag("distribution-shift", "a blind AUC of 0.8")] if shifted else []
    rows, files = [], {}
    for number, (attack, strength) in enumerate(strengths.items()):
        rng = np.random.default_rng(number)
        scores = rng.normal(0, 1, (2 * N, 2)) + strength * np.repeat([1, 0], N)[:, None]
        table = ScoreTable([f"sha256:{i:064d}" for i in range(2 * N)], np.repeat([1, 0], N), [50, 100], scores, attack=attack, model=model)
        measured = measure(table, seed=made.seed)
        at = measured.at_selected
        report = AuditReport(
            attack=attack, model=model, split=split, selection=measured.selection, auc=at.auc, asr=at.asr, tpr_at_fpr=at.tpr_at_fpr,
            per_timestep=measured.rows, roc=measured.roc, blind_auc=blind, flags=(*measured.flags, *flags),
            cost=Cost(1, 1, 1.0, 1.0, None), provenance={"created": "2026-01-01"}, scores=table,
        )  # fmt: skip
        path = folder / f"{number:02d}.parquet"
        table.to_parquet(path)
        files |= {f"scores/{path.name}": path.read_bytes(), f"reports/{number:02d}.json": as_json(report.to_dict())}
        access, queries = ("unknown", None) if made.kind == "scores" else ("gray", 1)
        rows.append(build_row(attack, report, f"scores/{path.name}", path.read_bytes(), access=access, queries=queries))
    entry = build_entry(made, rows, model=model, split=split, blind=blind, flags=flags, provenance={"created": "2026-01-01"})
    return entry, files | {"entry.json": as_json(entry)}


HOSTILE = "=cmd|'/C calc'!A0 <img src=x onerror=alert(1)>"
MODELS = 12


def board_entries(folder) -> None:
    """Fill a store with entries: of `MODELS` models, of a split that fails the shift check, and of an attack whose name is `HOSTILE`."""
    from leaderboard.stores.opening import open_store

    store = open_store(folder)
    with tempfile.TemporaryDirectory() as scores:
        for number in range(MODELS):
            # The strength isn't in the order of the names, so that a column sorted as text would show.
            strengths = {"sima": (number * 5) % MODELS / 4, "pia:timesteps=50": 0.3, "random": 0.0}
            put_entry(store, *honest_entry(Path(scores), model=f"owner/model-{number}", strengths=strengths))
        put_entry(store, *honest_entry(Path(scores), model="owner/shifted", name="shifted", shifted=True))
        put_entry(store, *honest_entry(Path(scores), kind="scores", strengths={HOSTILE: 1.0}, submitter="mallory"))


def estimate(value, half=0.02, n=100):
    """A figure as an entry stores it."""
    return {"value": value, "low": max(0, value - half), "high": min(1, value + half), "n_members": n, "n_nonmembers": n}


def entry_of(model, split, aucs, *, origin="computed", shifted=False, created="2026-01-01", queries=None, id="e" * 16) -> dict:
    """As much of an entry as the board's rows are made of.

    Args:
        aucs: by the attacks' names.
        queries: by the attacks' names; 1 by default.
    """
    rows = [
        {"attack": attack, "access": "gray", "queries": (queries or {}).get(attack, 1), "timestep": 100, "auc": estimate(auc),
         "asr": estimate(0.5), "tpr_at_fpr": {"0.01": estimate(auc / 2)}, "flags": []}
        for attack, auc in aucs.items()
    ]  # fmt: skip
    flags = [{"name": "distribution-shift", "raised_by": "", "meaning": ""}] if shifted else []
    return {
        "id": id, "origin": origin, "model": {"id": model, "revision": COMMIT}, "split": {"name": split, "hash": f"sha256:{split}"},
        "blind_auc": estimate(0.5), "flags": flags, "rows": rows,
        "request": {"submitter": "alice", "model": model, "revision": COMMIT}, "provenance": {"created": created},
    }  # fmt: skip


def read_store(store):
    """The results of a store alone, as they are now."""
    return ResultsReader(store.folder, None, check_every=0).read()


def put_entry(store, entry: dict, files: dict[str, bytes], *, index: bool = True) -> None:
    """Commits an entry as the worker does; without its index, as by hand."""
    from leaderboard.results.index import index_with

    id = entry["id"]
    changes = {f"results/{id}/{path}": content for path, content in files.items()}
    store.commit(changes | (index_with(store, id, files["entry.json"]) if index else {}), f"put {id}", parent=store.version())
