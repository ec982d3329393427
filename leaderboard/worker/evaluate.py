"""Evaluate one request in a process of its own, so that a crash, a hang or full memory ends this process and not the worker.

    python -m leaderboard.worker.evaluate FOLDER

`leaderboard.worker.work_folder` describes the folder. Scores are stored batch by batch, so that a second start resumes there.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leaderboard.errors import SubmissionError
from leaderboard.requests.limits import Limits
from leaderboard.requests.local_folder import LocalFolder
from leaderboard.requests.naming import ON_TOP, is_local
from leaderboard.requests.request import Request
from leaderboard.requests.resolution import required_folder
from leaderboard.requests.scores import check_scores
from leaderboard.requests.split_files import check_card
from leaderboard.results.entry import build_entry, build_row
from leaderboard.results.training_facts import training_facts
from leaderboard.stores.store import as_json
from leaderboard.worker.work_folder import ERROR, OUT, STORED_SCORES, SUBMITTED_SCORES, read_work_folder
from mia_hub.errors import MiaHubError
from mia_hub.system.files import write_text
from mia_hub.system.hub import is_temporary
from mia_hub.system.streams import any_terminal

if TYPE_CHECKING:
    from mia_hub.auditing.report import AuditReport
    from mia_hub.models.protocol import DiffusionModel
    from mia_hub.splits.member_split import MemberSplit

# Exit statuses: the request is refused; it may succeed later. The reason is in error.txt.
REFUSED, LATER = 3, 4


@dataclass(frozen=True)
class Environment:
    """The device and the files of an evaluation.

    Attributes:
        device, batch_size: as for `mia_hub.compare`.
        local: folder of local models and splits.
    """

    device: str | None = None
    batch_size: int | None = None
    local: LocalFolder | None = None


def evaluate(folder: Path, environment: Environment | None = None) -> dict[str, Any]:
    """Evaluate the request in a work folder, and write the entry with its scores and reports into ``out/``.

    Args:
        folder: work folder, see `leaderboard.worker.work_folder`.
        environment: where it runs; the defaults if None.

    Returns:
        The entry.

    Raises:
        MiaHubError: with the reason, for the submitter.
    """
    request, limits = read_work_folder(folder)
    environment = environment or Environment()
    split = _load_split(request, limits, environment.local)
    (folder / OUT).mkdir(exist_ok=True)
    if request.kind == "scores":
        entry = _entry_of_scores(request, split, folder)
    else:
        entry = _entry_of_model(request, split, limits, folder, environment)
    if is_local(request.model):
        local = required_folder(environment.local, request.model)
        names = request.model.split(ON_TOP)
        entry["trained"] = training_facts(names, [local.path(name) for name in names])
    (folder / OUT / "entry.json").write_bytes(as_json(entry))
    return entry


def _load_split(request: Request, limits: Limits, local: LocalFolder | None) -> MemberSplit:
    from mia_hub.splits.hub_rows import HubDataset
    from mia_hub.splits.loading import load_split

    if is_local(request.split):
        split = required_folder(local, request.split).load_split(request.split)
    else:
        if request.split != "demo":
            check_card(HubDataset(request.split, revision=request.split_revision), limits)
        split = load_split(request.split, revision=request.split_revision)
    if split.revision != request.split_revision:
        raise SubmissionError(f"The data set {request.split} is at {split.revision}, and not at {request.split_revision} as requested.")
    limits.check_images(len(split.images))
    return split


def _load_model(request: Request, limits: Limits, environment: Environment) -> DiffusionModel:
    from mia_hub.models.loading import load_model

    device, largest = environment.device, int(limits.model_gib * 2**30)
    if is_local(request.model):
        model = required_folder(environment.local, request.model).load_model(request.model, device=device)
    else:
        model = load_model(request.model, revision=request.revision, device=device, trusted=False, largest=largest)
    if request.revision is not None and not (model.info.revision or "").startswith(request.revision):
        raise SubmissionError(f"The model {request.model} is at {model.info.revision}, and not at {request.revision} as requested.")
    return model


def _entry_of_model(request: Request, split: MemberSplit, limits: Limits, folder: Path, environment: Environment) -> dict[str, Any]:
    from mia_hub.attacks.spelling import parse_attack
    from mia_hub.auditing.compare import compare

    model = _load_model(request, limits, environment)
    attacks = [parse_attack(text) for text in request.attacks]
    comparison = compare(
        model,
        split,
        attacks,
        captions=request.captions,
        seed=request.seed,
        batch_size=environment.batch_size,
        folder=folder / STORED_SCORES,
        progress=False,
    )
    rows = []
    # A comparison's labels shorten long lists of timesteps; the request's own spelling tells any two attacks apart.
    for number, (attack, row) in enumerate(zip(request.attacks, comparison.rows)):
        path, content = _write_row(folder / OUT, number, row.report)
        rows.append(build_row(attack, row.report, path, content, access=row.access, queries=row.queries_at_timestep))
    return build_entry(
        request,
        rows,
        model=comparison.model,
        split=comparison.split,
        blind=comparison.blind_auc,
        flags=comparison.flags,
        provenance=comparison.rows[0].report.provenance,
    )


def _entry_of_scores(request: Request, split: MemberSplit, folder: Path) -> dict[str, Any]:
    from mia_hub.auditing.preparation import describe_split, report_from_scores
    from mia_hub.auditing.report import Cost
    from mia_hub.splits.shift import survey

    surveyed = survey(split.images, split.is_member, progress=False)
    table = check_scores((folder / SUBMITTED_SCORES).read_bytes(), ids=surveyed.ids, is_member=split.is_member.tolist())
    described = describe_split(split, surveyed)
    # The table's metadata about the model is a claim; the entry is filed under the requested model.
    model = {"id": request.model, "revision": request.revision}
    table = replace(table, attack=request.attacks[0], model=model, split=described, seed=request.seed, chosen={}, remarks={})
    cost = Cost(0, 0, None, None, None)
    report = report_from_scores(
        table, table.attack, blind=surveyed.blind, cost=cost, seed=request.seed, device="unknown", precision="unknown"
    )
    path, content = _write_row(folder / OUT, 0, report)
    row = build_row(table.attack, report, path, content, access="unknown", queries=None)
    return build_entry(request, [row], model=model, split=described, blind=surveyed.blind, flags=report.flags, provenance=report.provenance)


def _write_row(out: Path, number: int, report: AuditReport) -> tuple[str, bytes]:
    """Write the scores and the report of a row; return the path and the content of the scores."""
    for part in ("scores", "reports"):
        (out / part).mkdir(exist_ok=True)
    path = f"scores/{number:02d}.parquet"
    assert report.scores is not None
    report.scores.to_parquet(out / path)
    (out / "reports" / f"{number:02d}.json").write_bytes(as_json(report.to_dict()))
    return path, (out / path).read_bytes()


@any_terminal()
def main(arguments: list[str] | None = None) -> int:
    import argparse

    parser = argparse.ArgumentParser(prog="python -m leaderboard.worker.evaluate", description="Evaluate the request in a folder.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--local", type=LocalFolder)
    args = parser.parse_args(arguments)
    try:
        evaluate(args.folder, Environment(args.device, args.batch_size, args.local))
    except Exception as error:
        temporary = is_temporary(error)
        if not temporary and not isinstance(error, MiaHubError):
            raise
        message = str(error) if args.local is None else args.local.public_text(str(error))
        write_text(args.folder / ERROR, message)
        return LATER if temporary else REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
