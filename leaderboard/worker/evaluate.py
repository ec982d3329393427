"""Evaluates one request in a process of its own, so that a crash, a hang or a full memory ends this process and not the worker.

    python -m leaderboard.worker.evaluate FOLDER

The folder has ``request.json``, ``limits.json`` and, for scores, ``scores.parquet``. What comes of it lies in ``out/`` afterwards, or in
``error.txt``. Scores are kept in ``scores/`` batch by batch, so that a second start goes on where the first one ended.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from leaderboard.errors import SubmissionError
from leaderboard.requests.limits import Limits
from leaderboard.requests.local import LocalFolder
from leaderboard.requests.naming import ON_TOP, is_local
from leaderboard.requests.split_files import check_stated
from leaderboard.requests.submission import Request, check_scores
from leaderboard.results.entry import build_entry, build_row
from leaderboard.results.trained import trained
from leaderboard.stores.store import as_json
from mia_hub.errors import MiaHubError
from mia_hub.system.hub import is_temporary

# Exit statuses: the request is refused; it may succeed later. The reason is in error.txt.
REFUSED, LATER = 3, 4


def evaluate(folder: Path, *, device=None, batch_size: int | None = None, local: LocalFolder | None = None) -> dict[str, Any]:
    """Evaluates the request in a folder; returns the entry, which lies in ``out/`` with its scores and reports.

    Args:
        folder: as above.
        device, batch_size: as for `mia_hub.compare`.
        local: where local models and splits lie.

    Raises:
        MiaHubError: with the reason, for the submitter.
    """
    request = Request.from_dict(json.loads((folder / "request.json").read_text()))
    values = json.loads((folder / "limits.json").read_text())
    limits = Limits(**values | {"banned": tuple(values["banned"])})
    split = _split(request, limits, local)
    (folder / "out").mkdir(exist_ok=True)
    if request.kind == "scores":
        entry = _of_scores(request, split, (folder / "scores.parquet").read_bytes(), folder / "out")
    else:
        entry = _of_model(request, split, limits, folder, device, batch_size, local)
    if is_local(request.model):
        names = request.model.split(ON_TOP)
        entry["trained"] = trained(names, [local.path(name) for name in names])
    (folder / "out" / "entry.json").write_bytes(as_json(entry))
    return entry


def _split(request: Request, limits: Limits, local: LocalFolder | None):
    from mia_hub.splits.hub_rows import HubDataset
    from mia_hub.splits.loading import load_split

    if is_local(request.split):
        split = local.load_split(request.split)
    else:
        if request.split != "demo":
            check_stated(HubDataset(request.split, revision=request.split_revision), limits)
        split = load_split(request.split, revision=request.split_revision)
    if split.revision != request.split_revision:
        raise SubmissionError(f"The data set {request.split} is at {split.revision}, and not at {request.split_revision} as requested.")
    limits.check_images(len(split.images))
    return split


def _model(request: Request, limits: Limits, device, local: LocalFolder | None):
    from mia_hub.models.loading import load_model

    if is_local(request.model):
        model = local.load_model(request.model, device=device)
    else:
        model = load_model(request.model, revision=request.revision, device=device, trusted=False, largest=int(limits.model_gib * 2**30))
    if request.revision is not None and not model.info.revision.startswith(request.revision):
        raise SubmissionError(f"The model {request.model} is at {model.info.revision}, and not at {request.revision} as requested.")
    return model


def _of_model(request: Request, split, limits: Limits, folder: Path, device, batch_size, local: LocalFolder | None) -> dict[str, Any]:
    from mia_hub.attacks.spelling import attack_from
    from mia_hub.auditing.compare import compare

    model = _model(request, limits, device, local)
    attacks = [attack_from(text) for text in request.attacks]
    options = {"captions": request.captions, "seed": request.seed, "batch_size": batch_size}
    found = compare(model, split, attacks, folder=folder / "scores", progress=False, **options)
    rows = []
    # A comparison's labels shorten long lists of timesteps; the request's own spelling tells any two attacks apart.
    for number, (attack, row) in enumerate(zip(request.attacks, found.rows)):
        content = _keep(folder / "out", number, row.report)
        paths = f"scores/{number:02d}.parquet"
        rows.append(build_row(attack, row.report, paths, content, access=row.access, queries=row.queries_at_timestep))
    first = found.rows[0].report
    shared = {"blind": found.blind_auc, "flags": found.flags, "provenance": first.provenance}
    return build_entry(request, rows, model=found.model, split=found.split, **shared)


def _of_scores(request: Request, split, content: bytes, out: Path) -> dict[str, Any]:
    from dataclasses import replace

    from mia_hub.auditing.audit import describe_split, report_of
    from mia_hub.auditing.report import Cost
    from mia_hub.splits.shift import survey

    seen = survey(split.images, split.is_member, progress=False)
    table = check_scores(content, ids=seen.ids, is_member=split.is_member)
    described = describe_split(split, seen)
    # What the submitter wrote about the model is a claim; what was requested is what it is filed under.
    model = {"id": request.model, "revision": request.revision}
    table = replace(table, attack=request.attacks[0], model=model, split=described, seed=request.seed, chosen={}, remarks={})
    cost = Cost(0, 0, None, None, None)
    report = report_of(table, table.attack, blind=seen.blind, cost=cost, seed=request.seed, device="unknown", precision="unknown")
    kept = _keep(out, 0, report)
    row = build_row(table.attack, report, "scores/00.parquet", kept, access="unknown", queries=None)
    return build_entry(request, [row], model=model, split=described, blind=seen.blind, flags=report.flags, provenance=report.provenance)


def _keep(out: Path, number: int, report) -> bytes:
    """Writes the scores and the report of a row; returns the content of the scores."""
    for part in ("scores", "reports"):
        (out / part).mkdir(exist_ok=True)
    path = out / "scores" / f"{number:02d}.parquet"
    report.scores.to_parquet(path)
    (out / "reports" / f"{number:02d}.json").write_bytes(as_json(report.to_dict()))
    return path.read_bytes()


def main(arguments: list[str] | None = None) -> int:
    import argparse

    parser = argparse.ArgumentParser(prog="python -m leaderboard.worker.evaluate", description="Evaluates the request in a folder.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--local", type=LocalFolder)
    args = parser.parse_args(arguments)
    try:
        evaluate(args.folder, device=args.device, batch_size=args.batch_size, local=args.local)
    except Exception as error:
        passing = is_temporary(error)
        if not passing and not isinstance(error, MiaHubError):
            raise
        said = str(error) if args.local is None else args.local.named(str(error))
        (args.folder / "error.txt").write_text(said, encoding="utf-8")
        return LATER if passing else REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
