"""Which reference answers: the one that was named, that of the given non-members, the demo's own, or one that is kept on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from mia_hub.attacks import Attack, get_attack
from mia_hub.attacks.copies import CopiesAttack
from mia_hub.checking.options import CheckerOptions
from mia_hub.errors import AttackError, SplitError
from mia_hub.images.sources import as_images
from mia_hub.models.protocol import DiffusionModel
from mia_hub.references.building import BuildPlan
from mia_hub.references.demo_reference import DEMO_SOURCE, demo_nonmembers, is_demo, stored_reference
from mia_hub.references.kept import CHECKED, reference_id
from mia_hub.references.preparing import PreparedImages, source_captions
from mia_hub.references.record import SourceRecord
from mia_hub.references.reference import Reference, kept_reference, scored_reference
from mia_hub.references.scoring import LabelledImages, ScoringRun, check_enough
from mia_hub.references.source import is_source, open_known_images
from mia_hub.references.unseen_by_base import described
from mia_hub.references.verdict_attack import DefaultAttack, default_verdict_attack, requested_attack
from mia_hub.splits.member_split import distinct
from mia_hub.splits.origins import Origin

OnBatch = Callable[[int, int], None] | None


@dataclass(frozen=True)
class ChosenReference:
    """The reference of a checker, before it is computed.

    Attributes:
        attack: that gives verdicts.
        seed: of the noise draws.
        reference: that was named, or is kept; None where it has to be computed.
        caption: the one caption of all known images, or None.
        has_captions: whether known images were scored with captions.
    """

    attack: Attack
    seed: int
    reference: Reference | None = None
    caption: Any = None
    has_captions: bool = False

    def compute(self, model: DiffusionModel, options: CheckerOptions, on_batch: OnBatch) -> Reference | None:
        """Return the reference in the model's present precision, calibrated as asked; None where no non-members are known.

        Raises:
            SplitError: with too few non-members, or for a reference that isn't about this model.
        """
        reference = self._uncalibrated(model, options, on_batch)
        return None if reference is None else reference.calibrated(options["calibration"])

    def _uncalibrated(self, model: DiffusionModel, options: CheckerOptions, on_batch: OnBatch) -> Reference | None:
        if self.reference is not None:
            self.reference.check_fits(model)
            return self.reference
        if options["nonmembers"] is not None:
            return _of_nonmembers(model, self.attack, options, on_batch)
        if not is_demo(model):
            return None
        stored = stored_reference(self.attack, model)
        if stored is not None:
            return stored
        images = demo_nonmembers()
        known = LabelledImages(images, np.zeros(len(images), np.int8))
        run = _run(options, on_batch, self.seed)
        scored = scored_reference(model, self.attack, known, SourceRecord(description=DEMO_SOURCE, spelling="demo"), None, run)
        return replace(scored, shared=True)


def chosen_reference(model: DiffusionModel, attack: str | Attack | DefaultAttack | None, options: CheckerOptions) -> ChosenReference:
    """Choose the reference of a checker, and with it the attack.

    Args:
        model: that is queried.
        attack: as requested; None for the reference's own.
        options: of the checker.

    Raises:
        SplitError: for a reference that can't be read.
        AttackError: for an attack other than the reference's.
    """
    base_given = True if options["base"] is not None else None
    requested = requested_attack(attack, model, base_given=base_given)
    if options["copies"]:
        requested = _copies_attack(model, requested, base_given=base_given)
    if options["nonmember_captions"] is not None and options["nonmembers"] is None and not is_demo(model):
        raise SplitError("nonmember_captions belong to nonmembers, of which none are given; leave them out.")
    reference = _named(options)
    if reference is None and options["nonmembers"] is None and not is_demo(model):
        reference = kept_reference(model, requested, given_base=bool(base_given and requested is None))
        if reference is None and options["copies"] and attack is None:
            reference = kept_reference(model)
    if reference is None:
        return ChosenReference(requested or default_verdict_attack(model, base_given=base_given), options["seed"])
    if isinstance(attack, DefaultAttack):
        requested = get_attack(reference.configured.name, **dict(attack.parameters))
    fallback = options["copies"] and attack is None
    if requested is not None and requested != reference.configured and not fallback:
        raise AttackError(
            f"The reference was scored by the attack {reference.configured!r}, and scores of {requested!r} can't be compared with it. "
            "Leave the attack out, or build a reference with that attack."
        )
    return ChosenReference(reference.configured, reference.profiles.seed, reference, reference.caption, reference.has_captions)


def _copies_attack(model: DiffusionModel, requested: Attack | None, *, base_given: bool | None) -> Attack:
    """Return the attack that searches copies: the one requested, or the default.

    Raises:
        AttackError: for a requested attack that searches none.
    """
    default = default_verdict_attack(model, base_given=base_given, copies=True)
    if requested is not None and not isinstance(requested, CopiesAttack):
        raise AttackError(
            f"copies=True is answered by the attack {default.name!r}; got {requested.name!r}. Leave the attack out, or copies=True."
        )
    return requested or default


def _named(options: CheckerOptions) -> Reference | None:
    """Return the reference that was given, or named."""
    named = options["reference"]
    if named is None:
        return None
    if options["nonmembers"] is not None:
        raise SplitError("A reference has its own non-members; give reference=… or nonmembers=…, not both.")
    return named if isinstance(named, Reference) else Reference.load(named)


def _of_nonmembers(model: DiffusionModel, attack: Attack, options: CheckerOptions, on_batch: OnBatch) -> Reference:
    """Return the reference of given non-members, which is kept for the next check of the same ones."""
    known, origin, drawn_from = _opened(model, options)
    check_enough(len(known.images))
    origin = described(model, attack, origin, drawn_from)
    run = _run(options, on_batch, options["seed"])
    if not options["keep"]:
        return scored_reference(model, attack, known, origin, None, run)
    ids = [image.id for image in known.images]
    id = reference_id(model, attack, known, ids, options["seed"])
    plan = BuildPlan(model, attack, PreparedImages(known, ids, origin, None, ()), options["seed"], id)
    return Reference.from_plan(plan, batch_size=run.batch_size, progress=run.progress, on_batch=on_batch, kind=CHECKED)


def nonmember_images(model: DiffusionModel, options: CheckerOptions) -> LabelledImages | None:
    """Return the different known non-members of a checker; None where it has only their scores, or none are known."""
    if options["nonmembers"] is not None:
        return _opened(model, options)[0]
    if options["reference"] is not None or not is_demo(model):
        return None
    images = demo_nonmembers()
    return LabelledImages(images, np.zeros(len(images), np.int8))


def _opened(model: DiffusionModel, options: CheckerOptions) -> tuple[LabelledImages, SourceRecord, Origin | None]:
    """Return the non-members given, without copies; their record, and the one source of them that is stated."""
    source, captions = options["nonmembers"], cast(Any, options["nonmember_captions"])
    origin, drawn_from = SourceRecord(description="the non-members given"), None
    if is_source(source):
        opened = open_known_images(source, progress=options["progress"])
        source, origin, drawn_from = opened.images, opened.origin, opened.drawn_from
        if captions is True:
            captions = source_captions(opened, model.info.conditioning)
    images, captions, copies = distinct(as_images(source), captions)
    if copies:
        origin = origin.model_copy(update={"description": f"{origin.description}, {copies} copies left out"})
    return LabelledImages(images, np.zeros(len(images), np.int8), captions), origin, drawn_from


def _run(options: CheckerOptions, on_batch: OnBatch, seed: int) -> ScoringRun:
    return ScoringRun(batch_size=options["batch_size"], seed=seed, progress=options["progress"], on_batch=on_batch)
