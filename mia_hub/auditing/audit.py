"""The main path: model + attack + split → AuditReport."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mia_hub.attacks import Attack, get_attack
from mia_hub.auditing.measurement import Selection, check_plan, measure
from mia_hub.auditing.report import AuditReport, Cost
from mia_hub.auditing.stored_scores import Shelf
from mia_hub.errors import MetricError, whole_number
from mia_hub.flags import flag
from mia_hub.images.captions import select_rows
from mia_hub.metrics.estimates import Estimate
from mia_hub.models.conditions import resolved_conditions
from mia_hub.models.loading import load_model
from mia_hub.models.protocol import DiffusionModel
from mia_hub.scores import ScoreTable
from mia_hub.splits.loading import load_split
from mia_hub.splits.member_split import MemberSplit, captions_hash, split_hash
from mia_hub.splits.shift import Survey, shift_flags, survey
from mia_hub.system.memory import peak_memory_mb, reset_peak_memory
from mia_hub.system.processes import current_processes
from mia_hub.system.provenance import provenance

SCORES = "scores.parquet"


def audit(
    model: str | DiffusionModel = "demo",
    attack: str | Attack = "sima",
    split: str | MemberSplit = "demo",
    *,
    selection: Selection = "calibration",
    timestep: int | None = None,
    fprs: Sequence[float] | None = None,
    limit: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    captions: str = "split",
    shift_check: bool = True,
    device=None,
    dtype=None,
    revision: str | None = None,
    folder: str | Path | None = None,
    progress: bool = True,
) -> AuditReport:
    """Measures how well an attack tells members from non-members of a model's training set.

    Args:
        model: "demo", a folder, a Hub id, or a DiffusionModel.
        attack: a name of `mia_hub.list_attacks`, or an Attack.
        split: "demo", a folder, a data set on the Hub, or a MemberSplit.
        selection, timestep, fprs: see `mia_hub.measure`.
        limit: at most so many members and so many non-members, by a seeded draw.
        batch_size: denoiser rows per forward pass; halved by itself when memory runs out.
        seed: of noise draws, of the calibration part, and of bootstrap intervals.
        captions: of a model conditioned on text or classes: "split" (those of the split, if it has any) or "empty".
        shift_check: whether a blind classifier is trained to tell members from non-members without the model.
        device, dtype, revision: as for `mia_hub.load_model`.
        folder: where the scores are kept as soon as they are there, as ``scores.parquet``, and before that each finished batch. Scores of
            the same attack, model revision, split, seed and precision that are there already, made by the same code and versions of
            libraries, are not made again; so an audit that was killed at any moment goes on where it was. (A wrapped function has no
            revision to be known by; it is scored anew.)
        progress: shows progress bars.

    Returns:
        An AuditReport: ``.auc``, ``.asr``, ``.tpr_at_fpr[0.01]`` as Estimates, ``.flags``, ``.to_dict()``, and the ``.scores``
        from which anyone can recompute its figures.

    Raises:
        MiaHubError: with a message for the user; what can be refused is refused before the model is queried.
    """
    attack = get_attack(attack)
    split = load_split(split, limit=limit, seed=seed)
    model = load_model(model, device=device, dtype=dtype, revision=revision)
    split = split.conditioned_on(model.info.conditioning, captions)
    attack.check(model, split.captions)
    resolved_conditions(model, split.captions, len(split.images))
    attack.check_labels(split.is_member)
    plan = {"selection": selection, "timestep": timestep, "fprs": fprs, "fitted": attack.needs_training}
    check_plan(len(split.members), len(split.nonmembers), attack.columns, **plan)
    whole_number("seed", seed, 0, MetricError)
    seen = survey(split.images, split.is_member, blind=shift_check, progress=progress)
    described = describe_split(split, seen)
    shelf = None if folder is None else Shelf(folder, model, described, seen.ids, split.is_member, seed, progress)
    table = shelf and shelf.find(SCORES, attack)
    report = audit_attack(
        model, attack, split, described, blind=seen.blind, selection=selection, timestep=timestep, fprs=fprs, batch_size=batch_size,
        seed=seed, progress=progress, table=table, resume=shelf and shelf.unfinished(SCORES),
    )  # fmt: skip
    if shelf and table is None:
        shelf.keep(SCORES, report.scores)
    elif progress and table is not None:
        print(f"Scores taken from {shelf.folder / SCORES}", file=sys.stderr)
    return report


def held_out(split: MemberSplit) -> MemberSplit:
    """The control of an audit: the first half of the non-members against the second. Any attack must find about 0.5 there."""
    half = len(split.nonmembers) // 2
    captions, classes = (select_rows(given, range(len(split.members), len(split.images))) for given in (split.captions, split.classes))
    name = f"{split.name}, held-out against held-out"
    return MemberSplit(name, split.nonmembers[:half], split.nonmembers[half:], captions, split.revision, classes, split.notes)


def describe_split(split: MemberSplit, seen: Survey) -> dict[str, Any]:
    """What results record of a split: name, revision, hash, n_members, n_nonmembers; a hash of the captions and notes if it has any."""
    described = {"name": split.name, "revision": split.revision, "hash": split_hash(seen.ids, split.is_member)}
    if split.captions is not None:
        described["captions_hash"] = captions_hash(seen.ids, split.captions)
    described |= {"n_members": len(split.members), "n_nonmembers": len(split.nonmembers)}
    return described | ({"notes": list(split.notes)} if split.notes else {})


def audit_attack(
    model: DiffusionModel,
    attack: Attack,
    split: MemberSplit,
    described: dict[str, Any],
    *,
    blind: Estimate | None,
    selection: Selection = "calibration",
    timestep: int | None = None,
    fprs: Sequence[float] | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    progress: bool = True,
    table: ScoreTable | None = None,
    resume: Path | None = None,
) -> AuditReport:
    """One attack of an audit or a comparison, whose model, split and attack are loaded, surveyed and checked already.

    Args:
        described: `describe_split` of the split.
        blind: AUC of the blind classifier on this split, or None.
        table: the attack's scores of this very split, where they were made before; then the model is not queried.
        resume: as for `mia_hub.Attack.score`.
        split: with the captions that the model is conditioned on, as `MemberSplit.conditioned_on` returns it.
        model, attack, selection, timestep, fprs, batch_size, seed, progress: as for `audit`.
    """
    if table is None:
        reset_peak_memory(model.device)
        table = attack.score(
            model, split.images, captions=split.captions, batch_size=batch_size, seed=seed, is_member=split.is_member, progress=progress,
            resume=resume,
        )  # fmt: skip
        peaks = current_processes().together(lambda: peak_memory_mb(model.device))
        table = replace(table, peak_memory_mb=max(peaks, key=lambda peak: peak or 0))
    table = replace(table, split=described)
    attack = attack.settled(table.chosen)
    fitted = attack.needs_training or bool(table.chosen)
    return report_of(
        table, repr(attack), blind=blind, seed=seed, selection=selection, timestep=timestep, fprs=fprs, fitted=fitted,
        cost=Cost(attack.queries_per_image, table.queries, table.seconds, len(table) / table.seconds, table.peak_memory_mb),
        device=table.device, precision=table.precision,
    )  # fmt: skip


def report_of(
    table: ScoreTable, attack: str, *, blind: Estimate | None, cost: Cost, seed: int, device: str, precision: str, **measuring: Any
) -> AuditReport:
    """The report of scores that are there.

    Args:
        table: the scores, with their model and split.
        attack: identity of the attack, with what it chose.
        blind: AUC of the blind classifier on this split, or None.
        cost: what the scores cost.
        seed: of the calibration part and of bootstrap intervals.
        device, precision: where and how they were computed.
        measuring: further options of `mia_hub.measure`.
    """
    measured = measure(table, seed=seed, **measuring)
    selected = measured.at_selected
    return AuditReport(
        attack=attack,
        model=table.model,
        split=table.split,
        selection=measured.selection,
        auc=selected.auc,
        asr=selected.asr,
        tpr_at_fpr=selected.tpr_at_fpr,
        per_timestep=measured.rows,
        roc=measured.roc,
        blind_auc=blind,
        flags=(*measured.flags, *shift_flags(blind), *(flag(name, raised) for name, raised in table.remarks.items())),
        cost=cost,
        provenance=provenance(seed=seed, device=device, precision=precision),
        scores=table,
    )
