"""Several attacks on one model and one split: the same images, the same calibration part, the same reported rows."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from mia_hub.attacks import ATTACKS, Attack, get_attack
from mia_hub.attacks.combination import Combination, alone
from mia_hub.attacks.spelling import spelled
from mia_hub.auditing.audit import audit_attack, describe_split
from mia_hub.auditing.comparison import ComparedAttack, Comparison, LeftOut
from mia_hub.auditing.measurement import Selection, check_plan
from mia_hub.auditing.report import AuditReport
from mia_hub.auditing.stored_scores import Shelf
from mia_hub.errors import AttackError, MetricError, whole_number
from mia_hub.models.conditions import resolved_conditions
from mia_hub.models.loading import load_model
from mia_hub.models.protocol import DiffusionModel
from mia_hub.splits.loading import load_split
from mia_hub.splits.member_split import MemberSplit
from mia_hub.splits.shift import survey

LONGEST_FILE_NAME = 60
UNFINISHED = "It was not finished when this was written; the same command goes on from here."


def compare(
    model: str | DiffusionModel = "demo",
    split: str | MemberSplit = "demo",
    attacks: Sequence[str | Attack] | None = None,
    *,
    combine: Sequence[Sequence[str | Attack]] = (),
    selection: Selection = "calibration",
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
) -> Comparison:
    """Runs several attacks over one split and lays their figures side by side.

    Args:
        model, split, selection, fprs, limit, batch_size, seed, captions, shift_check, device, dtype, revision, progress: as for
            `mia_hub.audit`.
        attacks: names or Attacks. By default `default_attacks()`: all registered ones; those that can't run on this model and split are
            listed with the reason. One asked for by name that can't run is an error, before the model is queried.
        combine: combinations of attacks, such as ``[["sima", "pia"]]``. Each gets a row, and so does each of its parts alone with as
            many queries per image as the combination has; see `mia_hub.attacks.combination.alone` for the rule.
        folder: where each attack's scores are kept as soon as they are there, as ``scores-<attack>.parquet``, and all figures so far
            as ``comparison.json``; and, of the attack at hand, each finished batch. Scores found there of the same attack, model revision,
            split, seed and precision, made by the same code and versions of libraries, are not made again, so that a comparison that was
            killed at any moment goes on where it was. (A wrapped function has no revision to be known by; it is scored anew.)

    Returns:
        A Comparison: ``.rows``, ``.reports``, ``.left_out``, ``.to_markdown()``, ``.to_html()``, ``.to_dict()``, ``.plot_svg()``.

    Raises:
        MiaHubError: with a message for the user; what can be refused is refused before the model is queried.
    """
    planned, asked = _asked(attacks, combine)
    split = load_split(split, limit=limit, seed=seed)
    model = load_model(model, device=device, dtype=dtype, revision=revision)
    split = split.conditioned_on(model.info.conditioning, captions)
    resolved_conditions(model, split.captions, len(split.images))
    check_plan(len(split.members), len(split.nonmembers), (), selection=selection, fprs=fprs)
    whole_number("seed", seed, 0, MetricError)
    left_out = []
    for attack in list(planned):
        try:
            attack.check(model, split.captions)
            attack.check_labels(split.is_member)
        except AttackError as error:
            if asked:
                raise
            planned.remove(attack)
            left_out.append(LeftOut(spelled(attack), str(error)))
    labels = _labelled(planned, [_combination(parts) for parts in combine], model, split)
    if not labels:
        raise AttackError(f"None of the attacks can run on {model.info.id} with this split. The first: {left_out[0].reason}")

    seen = survey(split.images, split.is_member, blind=shift_check, progress=progress)
    described = describe_split(split, seen)
    shelf = None if folder is None else Shelf(folder, model, described, seen.ids, split.is_member, seed, progress)
    rows: dict[str, ComparedAttack] = {}

    def so_far() -> Comparison:
        unfinished = tuple(LeftOut(label, UNFINISHED) for label in labels if label not in rows)
        return Comparison(tuple(rows[label] for label in labels if label in rows), (*left_out, *unfinished))

    files = {label: _file_name(label, attack) for label, attack in labels.items()}
    kept = {label: shelf.find(files[label], attack) for label, attack in labels.items()} if shelf else {}
    # First those that are there already, so that the figures written meanwhile lack none of them.
    for label in sorted(labels, key=lambda label: kept.get(label) is None):
        attack = labels[label]
        table = kept.get(label)
        report = audit_attack(
            model, attack, split, described, blind=seen.blind, selection=selection, fprs=fprs, batch_size=batch_size, seed=seed,
            progress=progress, table=table, resume=shelf and shelf.unfinished(files[label]),
        )  # fmt: skip
        rows[label] = _row(label, attack, report)
        if shelf:
            # The scores last: that they are there says that the attack is finished.
            shelf.write("comparison.json", so_far().to_json())
        if shelf and table is None:
            shelf.keep(files[label], report.scores)
        elif progress and table is not None:
            tqdm.write(f"{label}: scores taken from {shelf.folder / files[label]}", file=sys.stderr)
    return so_far()


def default_attacks() -> list[str]:
    """What `compare` runs unless told otherwise: chance, then all other registered attacks but "combine", which combine=[…] asks for."""
    return sorted((name for name in ATTACKS if name != Combination.name), key=lambda name: name != "random")


def _row(label: str, attack: Attack, report: AuditReport) -> ComparedAttack:
    chosen = report.scores.chosen
    settled = attack.settled(chosen)
    queries = settled.at(report.timestep).queries_per_image
    return ComparedAttack(label, attack.access, attack.one_score, queries, attack.setup_queries, _as_json(chosen), report)


def _as_json(values: dict[str, Any]) -> dict[str, Any]:
    """As it is read back from JSON, so that a comparison equals the one read back."""
    return json.loads(json.dumps(values))


# Which attacks, and how they are called.


def _asked(attacks, combine) -> tuple[list[Attack], bool]:
    """The attacks, and whether they were asked for; refuses what is no attack, or is there twice."""
    asked = attacks is not None
    if isinstance(attacks, (str, Attack)):
        attacks = [attacks]
    planned = [get_attack(attack) for attack in (attacks if asked else default_attacks())]
    for i, attack in enumerate(planned):
        if attack in planned[:i]:
            raise AttackError(f"{spelled(attack)} is to be compared with itself; name each attack once: {attack!r}.")
    if not planned and not len(combine):
        raise AttackError(f"There is nothing to compare; name attacks among {', '.join(default_attacks())}, or leave attacks=None for all.")
    if isinstance(combine, str):
        raise AttackError(f"combine takes a list of lists of attacks, such as combine=[['sima', 'pia']]; got {combine!r}.")
    for parts in combine:
        _combination(parts)
    return planned, asked


def _combination(parts) -> Combination:
    if isinstance(parts, Combination):
        return parts
    if isinstance(parts, (str, Attack)) or not isinstance(parts, Sequence):
        raise AttackError(f"combine takes a list of lists of attacks, such as combine=[['sima', 'pia']]; got {parts!r} in it.")
    return Combination(parts=tuple(parts))


def _labelled(planned: list[Attack], combinations: list[Combination], model, split) -> dict[str, Attack]:
    """All rows in order: attacks, then each combination with its parts alone; what is there already gets no second row."""
    wanted = [(spelled(attack), attack) for attack in planned]
    for combination in combinations:
        combination.check(model, split.captions)
        combination.check_labels(split.is_member)
        wanted.append((spelled(combination), combination))
        budget = combination.queries_per_image
        for part in combination.parts if len(combination.parts) > 1 else ():
            label = f"{spelled(part, without=('timesteps',))} alone, ≤ {budget:,} queries"
            wanted.append((label, alone(part, budget, model, split.captions)))
    found: dict[str, Attack] = {}
    for label, attack in wanted:
        if attack in found.values():
            continue
        namesakes = sum(other == label or other.startswith(f"{label} (") for other in found)
        found[f"{label} ({namesakes + 1})" if namesakes else label] = attack
    return found


# What is kept on disk.


def _file_name(label: str, attack: Attack) -> str:
    """Of an attack's scores; a name that doesn't say all about the attack has a hash of its identity in it."""
    name = re.sub(r"[^\w.=,+-]+", "-", label)[:LONGEST_FILE_NAME]
    if label != attack.name:
        name += "-" + hashlib.sha256(repr(attack).encode()).hexdigest()[:8]
    return f"scores-{name}.parquet"
