"""Several attacks on one model and one split: the same images, the same calibration part, the same reported rows."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Unpack

from tqdm.auto import tqdm

from mia_hub.attacks import ATTACKS, Attack, get_attack
from mia_hub.attacks.checks import check_companions_used
from mia_hub.attacks.combination import Combination, alone
from mia_hub.attacks.spelling import spell
from mia_hub.auditing.comparison import ComparedAttack, Comparison, SkippedAttack
from mia_hub.auditing.options import AuditOptions
from mia_hub.auditing.preparation import AuditInputs, PreparedAudit
from mia_hub.auditing.report import AuditReport
from mia_hub.errors import AttackError
from mia_hub.models.bases import base_available, loaded_base
from mia_hub.models.protocol import DiffusionModel
from mia_hub.splits.member_split import MemberSplit
from mia_hub.system.signatures import with_options

LONGEST_FILE_NAME = 60
UNLOADED_BASE = "It compares the model with its base, which is loaded only for an attack that is named, or where it is given with base=…."
UNFINISHED = "It was not finished when this was written; the same command resumes it."


@with_options
def compare(
    model: str | DiffusionModel = "demo",
    split: str | MemberSplit = "demo",
    attacks: Sequence[str | Attack] | None = None,
    *,
    combine: Sequence[Sequence[str | Attack]] = (),
    **options: Unpack[AuditOptions],
) -> Comparison:
    """Run several attacks on one model and one split, and compare their figures.

    Args:
        model, split, selection, fprs, limit, batch_size, seed, captions, shift_check, device, dtype, revision, base, reference_models,
            progress: as for `mia_hub.audit`.
        attacks: names or Attacks. By default `default_attacks()`: all registered ones; those that can't run on this model and split are
            listed with the reason, and so are those that compare with a base that would have to be loaded first. A named attack that
            can't run is an error, before the model is queried.
        combine: combinations of attacks, such as ``[["sima", "pia"]]``. Each gets a row, and so does each of its parts alone with as
            many queries per image as the combination has; see `mia_hub.attacks.combination.alone` for the rule.
        folder: where each attack's scores are stored once they are computed, as ``scores-<attack>.parquet``, and all figures so far as
            ``comparison.json``; and, of the attack at hand, each finished batch. Stored scores of the same attack, model revision, split,
            seed and precision, computed by the same code and versions of libraries, are not computed again; a comparison that was
            killed at any moment resumes. (A wrapped function has no revision to be known by; it is scored anew.)

    Returns:
        A Comparison: ``.rows``, ``.reports``, ``.left_out``, ``.to_markdown()``, ``.to_html()``, ``.to_dict()``, ``.plot_svg()``.

    Raises:
        MiaHubError: with a message for the user; what can be refused is refused before the model is queried.
    """
    planned = _planned_attacks(attacks, combine)
    check_companions_used(options["base"], options["reference_models"], [*planned, *map(_combination, combine)])
    inputs = AuditInputs.load(model, split, options)
    inputs.check_plan()
    planned, skipped = _runnable(planned, inputs, strict=attacks is not None)
    labels = _labelled(planned, [_combination(parts) for parts in combine], inputs)
    if not labels:
        raise AttackError(f"None of the attacks can run on {inputs.model.info.id} with this split. The first: {skipped[0].reason}")
    prepared = inputs.survey()
    if any(attack.uses_reference_models for attack in labels.values()):
        prepared.check_unseen_by_reference_models()
    return _Run(prepared, labels, skipped).comparison()


@dataclass
class _Run:
    """A comparison under way.

    Attributes:
        prepared: model and split.
        labels: attacks by their labels, in the order of the rows.
        skipped: attacks that can't run.
        rows: of the attacks that are finished.
    """

    prepared: PreparedAudit
    labels: dict[str, Attack]
    skipped: list[SkippedAttack]
    rows: dict[str, ComparedAttack] = field(default_factory=dict)

    def comparison(self) -> Comparison:
        """Audit each attack, and return the comparison."""
        files = {label: _file_name(label, attack) for label, attack in self.labels.items()}
        tables = {label: self.prepared.load_scores(files[label], attack) for label, attack in self.labels.items()}
        stored = self.prepared.stored
        # Stored ones first, so that the figures written meanwhile lack none of them.
        for label in sorted(self.labels, key=lambda label: tables[label] is None):
            attack, table, file = self.labels[label], tables[label], files[label]
            report = self.prepared.report(attack, file, table=table)
            self.rows[label] = _row(label, attack, report, self.prepared.inputs.model)
            if stored:
                # Before the scores, whose presence says that the attack is finished.
                stored.save_text("comparison.json", self._so_far().to_json())
            if table is None:
                self.prepared.save_scores(file, report)
            elif stored and self.prepared.inputs.options["progress"]:
                tqdm.write(f"{label}: scores taken from {stored.folder / file}", file=sys.stderr)
        return self._so_far()

    def _so_far(self) -> Comparison:
        unfinished = tuple(SkippedAttack(label, UNFINISHED) for label in self.labels if label not in self.rows)
        return Comparison(tuple(self.rows[label] for label in self.labels if label in self.rows), (*self.skipped, *unfinished))


def default_attacks() -> list[str]:
    """Return the attacks that `compare` runs by default: "random", then all other registered ones but "combine"."""
    return sorted((name for name in ATTACKS if name != Combination.name), key=lambda name: name != "random")


def _row(label: str, attack: Attack, report: AuditReport, model: DiffusionModel) -> ComparedAttack:
    chosen = report.scores.chosen if report.scores is not None else {}
    queries = attack.with_chosen(chosen).at(report.timestep).queries_on(model)
    # As it is read back from JSON, so that a comparison equals the one read back.
    chosen = json.loads(json.dumps(chosen))
    return ComparedAttack(label, attack.access, attack.one_score, queries, attack.setup_queries, chosen, report)


# Attacks and their labels.


def _planned_attacks(attacks: Sequence[str | Attack] | str | Attack | None, combine: Sequence[Any]) -> list[Attack]:
    """Return the attacks.

    Raises:
        AttackError: for what is no attack, an attack that is named twice, or none at all.
    """
    if attacks is None:
        attacks = default_attacks()
    planned = [get_attack(attack) for attack in ([attacks] if isinstance(attacks, (str, Attack)) else attacks)]
    for i, attack in enumerate(planned):
        if attack in planned[:i]:
            raise AttackError(f"{spell(attack)} is to be compared with itself; name each attack once: {attack!r}.")
    if not planned and not len(combine):
        raise AttackError(f"There is nothing to compare; name attacks among {', '.join(default_attacks())}, or leave attacks=None for all.")
    if isinstance(combine, str):
        raise AttackError(f"combine takes a list of lists of attacks, such as combine=[['sima', 'pia']]; got {combine!r}.")
    for parts in combine:
        _combination(parts)
    return planned


def _combination(parts: Any) -> Combination:
    if isinstance(parts, Combination):
        return parts
    if isinstance(parts, (str, Attack)) or not isinstance(parts, Sequence):
        raise AttackError(f"combine takes a list of lists of attacks, such as combine=[['sima', 'pia']]; got {parts!r} in it.")
    return Combination(parts=tuple(parts))


def _runnable(planned: list[Attack], inputs: AuditInputs, *, strict: bool) -> tuple[list[Attack], list[SkippedAttack]]:
    """Return the attacks that can run on a model and a split, and the others with the reason; ``strict``: there may be no others."""
    runnable, skipped = [], []
    for attack in planned:
        if not strict and attack.uses_base and loaded_base(inputs.model) is None and base_available(inputs.model):
            skipped.append(SkippedAttack(spell(attack), UNLOADED_BASE))
            continue
        try:
            inputs.check_attack(attack)
        except AttackError as error:
            if strict:
                raise
            skipped.append(SkippedAttack(spell(attack), str(error)))
        else:
            runnable.append(attack)
    return runnable, skipped


def _labelled(planned: list[Attack], combinations: list[Combination], inputs: AuditInputs) -> dict[str, Attack]:
    """Return all rows in order: attacks, then each combination with its parts alone. An attack gets one row."""
    rows = [(spell(attack), attack) for attack in planned]
    for combination in combinations:
        inputs.check_attack(combination)
        rows.append((spell(combination), combination))
        budget = combination.queries_on(inputs.model)
        for part in map(get_attack, combination.parts) if len(combination.parts) > 1 else ():
            label = f"{spell(part, without=('timesteps',))} alone, ≤ {budget:,} queries"
            rows.append((label, alone(part, budget, inputs.model, inputs.split.captions)))
    labels: dict[str, Attack] = {}
    for label, attack in rows:
        if attack in labels.values():
            continue
        namesakes = sum(other == label or other.startswith(f"{label} (") for other in labels)
        labels[f"{label} ({namesakes + 1})" if namesakes else label] = attack
    return labels


def _file_name(label: str, attack: Attack) -> str:
    """Return the name of an attack's scores; a label that doesn't say all about the attack gets a hash of its identity."""
    name = re.sub(r"[^\w.=,+-]+", "-", label)[:LONGEST_FILE_NAME]
    if label != attack.name:
        name += "-" + hashlib.sha256(repr(attack).encode()).hexdigest()[:8]
    return f"scores-{name}.parquet"
