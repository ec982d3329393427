"""The main path: model + attack + split → AuditReport."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Unpack

from mia_hub.attacks import Attack, get_attack
from mia_hub.attacks.checks import check_companions_used
from mia_hub.auditing.epsilon import Method, check_coins, check_epsilon, measure_epsilon
from mia_hub.auditing.options import AuditOptions
from mia_hub.auditing.preparation import AuditInputs
from mia_hub.auditing.ranking import check_rank, rank_members
from mia_hub.auditing.report import AuditReport
from mia_hub.images.captions import select_rows
from mia_hub.models.protocol import DiffusionModel
from mia_hub.splits.member_split import MemberSplit
from mia_hub.system.signatures import with_options

SCORES = "scores.parquet"


@with_options
def audit(
    model: str | DiffusionModel = "demo",
    attack: str | Attack = "sima",
    split: str | MemberSplit = "demo",
    *,
    timestep: int | None = None,
    rank: int | None = None,
    epsilon: Method = "auto",
    **options: Unpack[AuditOptions],
) -> AuditReport:
    """Measure how well an attack tells members from non-members of a model's training set.

    Args:
        model: "demo", a folder, a Hub id, or a DiffusionModel.
        attack: a name of `mia_hub.list_attacks`, or an Attack.
        split: "demo", a folder, a data set on the Hub, or a MemberSplit.
        selection, timestep, fprs: see `mia_hub.measure`.
        rank: number of members most at risk that the report lists as ``.ranking``, with thumbnails; see `mia_hub.auditing.ranking`.
        epsilon: of the lower bound on ε in the report: "one-run" (needs a split drawn by coins), "clopper-pearson", "none", or "auto": the
            first where split and attack allow it, else the second; see `mia_hub.auditing.epsilon`.
        limit: at most this many members and this many non-members, by a seeded draw.
        batch_size: denoiser rows per forward pass; halved by itself when memory runs out.
        seed: of noise draws, of the calibration part, and of bootstrap intervals.
        captions: of a model conditioned on text or classes: "split" (those of the split, if it has any) or "empty".
        shift_check: whether a blind classifier is trained to tell members from non-members without the model.
        device, dtype, revision, base, reference_models: as for `mia_hub.load_model`; a base is for attacks that compare the model with one,
            such as "sima-b", and reference models are for "lira", "rmia" and "bavaria".
        folder: where the scores are stored once they are computed, as ``scores.parquet``, and before that each finished batch. Stored
            scores of the same attack, model revision, split, seed and precision, computed by the same code and versions of libraries,
            are not computed again; an audit that was killed at any moment resumes. (A wrapped function has no revision to be known by;
            it is scored anew.)
        progress: shows progress bars.

    Returns:
        An AuditReport: ``.auc``, ``.asr``, ``.tpr_at_fpr[0.01]`` as Estimates, ``.flags``, ``.to_dict()``, and the ``.scores``
        from which anyone can recompute its figures.

    Raises:
        MiaHubError: with a message for the user; what can be refused is refused before the model is queried.
    """
    attack = get_attack(attack)
    check_companions_used(options["base"], options["reference_models"], [attack])
    inputs = AuditInputs.load(model, split, options)
    inputs.check_attack(attack)
    check_epsilon(epsilon, inputs.split, attack)
    inputs.check_plan(attack.columns, timestep=timestep, fitted=attack.needs_training)
    if rank is not None:
        chooses = attack.learns
        parted = options["selection"] == "calibration" and (timestep is None or chooses)
        check_rank(rank, len(inputs.split.nonmembers), parted=parted)
    prepared = inputs.survey()
    check_coins(epsilon, inputs.split, prepared.description["hash"])
    table = prepared.load_scores(SCORES, attack)
    report = prepared.report(attack, SCORES, table=table, timestep=timestep)
    if rank is not None and report.scores is not None:
        report = replace(report, ranking=rank_members(report.scores, report.selection, inputs.split.images, rank))
    if table is None:
        prepared.save_scores(SCORES, report)
    elif prepared.stored and options["progress"]:
        print(f"Scores taken from {prepared.stored.folder / SCORES}", file=sys.stderr)
    return _with_epsilon(report, attack, epsilon, inputs, timestep)


def _with_epsilon(report: AuditReport, attack: Attack, epsilon: Method, inputs: AuditInputs, timestep: int | None) -> AuditReport:
    """Return the report with its lower bound on ε, which the stored scores give."""
    table = report.scores
    if table is None:
        return report
    fitted, seed = attack.has_learned(table.chosen), inputs.options["seed"]
    return replace(report, epsilon=measure_epsilon(table, epsilon, coins=inputs.split.coins, timestep=timestep, fitted=fitted, seed=seed))


def held_out(split: MemberSplit) -> MemberSplit:
    """Return the control of an audit: the first half of the non-members against the second, where any attack must reach about 0.5."""
    half = len(split.nonmembers) // 2
    nonmembers = range(len(split.members), len(split.images))
    captions, classes = (select_rows(values, nonmembers) for values in (split.captions, split.classes))
    name = f"{split.name}, held-out against held-out"
    sides = split.nonmembers[:half], split.nonmembers[half:]
    return MemberSplit(name, *sides, captions, split.revision, classes, split.notes, origins=split.origins[-1:])
