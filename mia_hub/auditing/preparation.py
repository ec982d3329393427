"""Shared steps of audits and comparisons: from the names of a model and a split to the report of an attack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mia_hub.attacks import Attack
from mia_hub.auditing.base_overlap import base_overlap
from mia_hub.auditing.measurement import check_plan, measure
from mia_hub.auditing.options import AuditOptions
from mia_hub.auditing.report import AuditReport, Cost
from mia_hub.auditing.stored_scores import StoredScores
from mia_hub.errors import MetricError, integer_at_least
from mia_hub.flags import flag
from mia_hub.images.image import InputImage
from mia_hub.images.kept_images import KeptImages
from mia_hub.metrics.estimates import Estimate
from mia_hub.models.conditions import resolved_conditions
from mia_hub.models.denoiser import takes_resized_images
from mia_hub.models.loading import load_model
from mia_hub.models.protocol import DiffusionModel
from mia_hub.scores import ScoreTable
from mia_hub.splits.loading import load_split
from mia_hub.splits.member_split import MemberSplit, captions_hash, split_hash
from mia_hub.splits.shift import Survey, check_unchanged, shift_flags, survey
from mia_hub.splits.training_images import check_unseen_by_reference_models
from mia_hub.system.memory import peak_memory_mb, reset_peak_memory
from mia_hub.system.processes import current_processes
from mia_hub.system.provenance import provenance


@dataclass(frozen=True)
class AuditInputs:
    """A model and a split that fit each other, before any image is read.

    Attributes:
        model: the model.
        split: its captions are the conditions that the model is queried with.
        options: of the audit.
    """

    model: DiffusionModel
    split: MemberSplit
    options: AuditOptions

    @classmethod
    def load(cls, model: str | DiffusionModel, split: str | MemberSplit, options: AuditOptions) -> AuditInputs:
        """Load a model and a split, and check the split's captions or classes.

        Raises:
            MiaHubError: if one of them can't be loaded, or the captions don't fit the model.
        """
        loaded_split = load_split(split, limit=options["limit"], seed=options["seed"])
        loaded_model = load_model(
            model, device=options["device"], dtype=options["dtype"], revision=options["revision"], base=options["base"],
            reference_models=options["reference_models"],
        )  # fmt: skip
        loaded_split = loaded_split.conditioned_on(loaded_model.info.conditioning, options["captions"])
        resolved_conditions(loaded_model, loaded_split.captions, len(loaded_split.images))
        return cls(loaded_model, loaded_split, options)

    def check_attack(self, attack: Attack) -> None:
        """Refuse an attack that can't run on this model and split.

        Raises:
            AttackError: with the reason.
        """
        attack.check(self.model, self.split.captions)
        attack.check_labels(self.split.is_member)

    def check_plan(self, timesteps: Sequence[int] = (), *, timestep: int | None = None, fitted: bool = False) -> None:
        """Refuse options that can't be measured; see `mia_hub.auditing.measurement.check_plan`.

        Raises:
            MetricError: with the reason.
        """
        options, sizes = self.options, (len(self.split.members), len(self.split.nonmembers))
        check_plan(*sizes, timesteps, selection=options["selection"], timestep=timestep, fprs=options["fprs"], fitted=fitted)
        integer_at_least("seed", options["seed"], 0, MetricError)

    def survey(self) -> PreparedAudit:
        """Read every image once, measure the blind AUC, and open the folder of stored scores.

        Raises:
            SplitError: if an image is on both sides.
            ImageError: for an image that can't be read.
            MiaHubError: if the folder can't be made.
        """
        options, split = self.options, self.split
        images = originals = split.images
        # Any other model must get images at their own size.
        if takes_resized_images(self.model):
            images = KeptImages(split.images, self.model.info.picture_shape)
            originals = images.originals
        surveyed = survey(originals, split.is_member, blind=options["shift_check"], progress=options["progress"])
        described, stored = describe_split(split, surveyed), None
        if options["folder"] is not None:
            stored = StoredScores(
                Path(options["folder"]), self.model, described, surveyed.ids, split.is_member, options["seed"], options["progress"]
            )
        return PreparedAudit(self, images, described, surveyed, stored)


@dataclass(frozen=True)
class PreparedAudit:
    """A model and a split whose images were surveyed: attacks are audited on them.

    Attributes:
        inputs: model, split and options.
        images: those of the split, as the model is given them.
        description: `describe_split` of the split.
        surveyed: content ids, and the AUC of the blind classifier, of the images as they were read first.
        stored: the folder of scores; None where no folder was given.
    """

    inputs: AuditInputs
    images: Sequence[InputImage]
    description: dict[str, Any]
    surveyed: Survey
    stored: StoredScores | None

    @property
    def blind_auc(self) -> Estimate | None:
        """AUC of the blind classifier on this split, or None."""
        return self.surveyed.blind

    def load_scores(self, file: str, attack: Attack) -> ScoreTable | None:
        """Return the stored scores of an attack; None where there are none."""
        return None if self.stored is None else self.stored.load(file, attack)

    def save_scores(self, file: str, report: AuditReport) -> None:
        """Store the scores of a report, if there is a folder for them."""
        if self.stored is not None and report.scores is not None:
            self.stored.save(file, report.scores)

    def check_unseen_by_reference_models(self) -> None:
        """Refuse a split of which a reference model is known to have been trained on some images.

        Raises:
            SplitError: with their number, and the reference model.
        """
        check_unseen_by_reference_models(self.inputs.model, self.surveyed.ids, self.inputs.split.is_member, self.description["hash"])

    def report(self, attack: Attack, file: str, *, table: ScoreTable | None = None, timestep: int | None = None) -> AuditReport:
        """Audit an attack that was checked.

        Args:
            attack: the attack.
            file: name of the file that its scores will be stored in, after which the folder of its finished batches is named.
            table: its scores of this very split, where they are stored; then the model is not queried.
            timestep: a timestep fixed beforehand, see `mia_hub.measure`.
        """
        options = self.inputs.options
        if attack.uses_reference_models:
            self.check_unseen_by_reference_models()
        table = replace(self._scores(attack, file) if table is None else table, split=self.description)
        if attack.uses_base:
            overlap = base_overlap(self.inputs.model, table.ids, table.is_member, self.description["hash"], self.inputs.split.origins)
            table = replace(table, remarks=table.remarks | overlap)
        attack = attack.with_chosen(table.chosen)
        rate = len(table) / table.seconds if table.seconds else None
        return report_from_scores(
            table, repr(attack), blind=self.blind_auc, seed=options["seed"], selection=options["selection"], timestep=timestep,
            fprs=options["fprs"], fitted=attack.has_learned(table.chosen),
            cost=Cost(
                attack.queries_on(self.inputs.model), table.queries, table.seconds, rate, table.peak_memory_mb,
                attack.base_queries_per_image, attack.queries_on(self.inputs.model) - attack.queries_per_image,
            ),
            device=table.device, precision=table.precision,
        )  # fmt: skip

    def _scores(self, attack: Attack, file: str) -> ScoreTable:
        model, split, options = self.inputs.model, self.inputs.split, self.inputs.options
        reset_peak_memory(model.device)
        table = attack.score(
            model, self.images, captions=split.captions, batch_size=options["batch_size"], seed=options["seed"],
            is_member=split.is_member, progress=options["progress"], resume=self._batches_folder(file),
        )  # fmt: skip
        check_unchanged(self.images, self.surveyed.ids, table.ids)
        peaks = current_processes().together(lambda: peak_memory_mb(model.device))
        return replace(table, peak_memory_mb=max(peaks, key=lambda peak: peak or 0))

    def _batches_folder(self, file: str) -> Path | None:
        return None if self.stored is None else self.stored.batches_folder(file)


def describe_split(split: MemberSplit, surveyed: Survey) -> dict[str, Any]:
    """Return what results record of a split.

    Returns:
        name, revision, hash, n_members, n_nonmembers; ``captions_hash`` and ``notes`` if it has captions or notes.
    """
    described: dict[str, Any] = {"name": split.name, "revision": split.revision, "hash": split_hash(surveyed.ids, split.is_member)}
    if split.captions is not None:
        described["captions_hash"] = captions_hash(surveyed.ids, split.captions)
    described |= {"n_members": len(split.members), "n_nonmembers": len(split.nonmembers)}
    return described | ({"notes": list(split.notes)} if split.notes else {})


def report_from_scores(
    table: ScoreTable, attack: str, *, blind: Estimate | None, cost: Cost, seed: int, device: str, precision: str, **measuring: Any
) -> AuditReport:
    """Return the report of scores.

    Args:
        table: the scores, with their model and split.
        attack: identity of the attack, with what it chose.
        blind: AUC of the blind classifier on this split, or None.
        cost: what the scores cost.
        seed: of the calibration part and of bootstrap intervals.
        device, precision: where and how the scores were computed.
        measuring: further options of `mia_hub.measure`.
    """
    measured = measure(table, seed=seed, **measuring)
    selected = measured.at_selected
    return AuditReport(
        attack=attack,
        model=table.model,
        split=table.split or {},
        selection=measured.selection,
        auc=selected.auc,
        asr=selected.asr,
        tpr_at_fpr=selected.tpr_at_fpr,
        per_timestep=measured.rows,
        roc=measured.roc,
        blind_auc=blind,
        flags=(*measured.flags, *shift_flags(blind), *(flag(name, remark) for name, remark in table.remarks.items())),
        cost=cost,
        provenance=provenance(seed=seed, device=device, precision=precision),
        scores=table,
    )
