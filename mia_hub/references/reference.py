"""The known images of one model, as one attack observes them: what a new image is compared with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from mia_hub.attacks import Attack, get_attack
from mia_hub.attacks.conditional import ConditionalAttack
from mia_hub.attacks.identity import model_identity, recorded_model
from mia_hub.errors import SplitError
from mia_hub.images.image import InputImage
from mia_hub.metrics.estimates import Estimate
from mia_hub.metrics.intervals import clopper_pearson
from mia_hub.metrics.p_values import ALPHA, CONDITIONAL, MARGINAL, Calibration, CriticalScore, Judgement
from mia_hub.models.protocol import DiffusionModel
from mia_hub.references.appearance import Appearance, ImageAppearance, StoredAppearance, appearance_arrays
from mia_hub.references.bands import Band
from mia_hub.references.building import BuildOptions, BuildPlan, plan_reference
from mia_hub.references.comparability import Comparability
from mia_hub.references.kept import BUILT, CHECKED, FETCHED, KeptReferences, Kind
from mia_hub.references.matching import mismatch
from mia_hub.references.null_sets import FurtherNonmembers, NullSet, NullSets
from mia_hub.references.publishing import fetch_reference, push_reference
from mia_hub.references.record import AttackRecord, ReferenceRecord, SourceRecord
from mia_hub.references.scoring import LabelledImages, ScoringRun, score_known
from mia_hub.references.storing import Arrays, content_hash, encoded, read_files, write_files
from mia_hub.references.verdict_attack import null_set, profile_attack
from mia_hub.references.verdict_scores import VerdictScores
from mia_hub.scores import ScoreTable
from mia_hub.splits.member_split import split_hash
from mia_hub.system.processes import current_processes
from mia_hub.system.provenance import provenance
from mia_hub.system.signatures import with_options


@dataclass(frozen=True, eq=False)
class Reference:
    """Known images of one model: what a new image is compared with. It is built once, stored, published and loaded.

    Attributes:
        profiles: their plain scores over the timesteps, with labels, for the bands of a plot.
        observations: of the verdict's attack at the verdict's timestep, one row per image of ``profiles``: float64 ``[n]`` scores, or
            ``[n, O]`` for a conditional attack (`mia_hub.references.verdict_attack.verdict_observations`). Those of the non-members are
            the null set.
        appearance: how the non-members look, for the comparability checks.
        configured: the attack as it was configured.
        attack: identity of the verdict's attack, with what was chosen.
        chosen: parameters that it chose, see `mia_hub.Attack.choose`.
        timestep: at which verdicts are made.
        timestep_chosen: how that timestep was chosen.
        origin: where the non-members come from, and what a person states about them.
        members_origin: where the known members come from, or None.
        caption: the one caption or class that all images were scored with, where there is one.
        schedule: hash of the model's noise schedule; "" where it isn't recorded.
        provenance: time and versions of its computation.
        further: non-members that serve the p-values alone, or None.
        shared: whether many people are answered by this one reference: it was shipped, or fetched from the Hub.
        requested: the calibration of p-values that was asked for; None for the default, see `calibration`.
    """

    profiles: ScoreTable
    observations: npt.NDArray[np.float64]
    appearance: Appearance
    configured: Attack
    attack: str
    chosen: dict[str, Any]
    timestep: int
    timestep_chosen: str
    origin: SourceRecord
    members_origin: SourceRecord | None = None
    caption: str | int | None = None
    schedule: str = ""
    provenance: dict[str, Any] = field(default_factory=provenance)
    further: FurtherNonmembers | None = None
    shared: bool = False
    requested: Calibration | None = None

    @property
    def source(self) -> str:
        """Where the non-members come from, as a clause for answers."""
        return self.origin.clause()

    @property
    def has_captions(self) -> bool:
        """Whether the images were scored with captions or classes of their own, or with one given for all."""
        return self.profiles.captions == "given"

    @cached_property
    def null_sets(self) -> NullSets:
        """What p-values of either calibration are computed from."""
        null = null_set(self.configured, self.profiles.ids, self.profiles.is_member, self.observations, self.timestep)
        return NullSets.of(null, self.further)

    @cached_property
    def calibration(self) -> Calibration:
        """What the p-values that decide hold for: this reference, or the average over references.

        By default this reference, where it is `shared` and large enough for evidence.
        """
        if self.requested is not None:
            return self.requested
        return CONDITIONAL if self.shared and self.null_sets.can_hold_for_the_reference else MARGINAL

    def calibrated(self, calibration: Calibration | None) -> Reference:
        """Return the reference with another calibration of the p-values that decide; None for the default.

        Raises:
            SplitError: if it has too few non-members for p-values that hold for it alone.
        """
        if calibration not in (None, CONDITIONAL, MARGINAL):
            raise SplitError(f"The calibration is {CONDITIONAL!r}, {MARGINAL!r} or None, for the reference's own; got {calibration!r}.")
        if calibration == CONDITIONAL and self.null_sets.conditional is None:
            raise SplitError(
                f"This reference has no p-values that hold for it alone: its {self.n_nonmembers} non-members are too few for a fit on a "
                f"part of them, or its attack compares several copies. Leave calibration={CONDITIONAL!r} out, or build a larger one."
            )
        return self if calibration == self.requested else replace(self, requested=calibration)

    @property
    def null(self) -> NullSet:
        """The null set: what the p-values that decide are computed from."""
        return self.null_sets.deciding(self.calibration)

    def judge(self, observed: Any, sample: str | None = None) -> Judgement:
        """Compare an image with the known non-members.

        Args:
            observed: its score, or ``[1 + F]`` of a conditional attack.
            sample: its content id; it is not compared with itself.
        """
        return self.null_sets.judge(observed, sample, self.calibration)

    @cached_property
    def critical(self) -> CriticalScore | None:
        """The score above which an image gets evidence; None where the null set is too small."""
        return CriticalScore.of(self.null.scores, self.calibration)

    @property
    def n_nonmembers(self) -> int:
        """The number of known non-members, compared with or fitted on."""
        return int((self.profiles.is_member == 0).sum()) + (0 if self.further is None else len(self.further.ids))

    @cached_property
    def bands(self) -> tuple[Band | None, Band | None]:
        """Bands of the scores of members and of non-members."""
        members, nonmembers = (Band.of(self.profiles.scores[self.profiles.is_member == label]) for label in (1, 0))
        return members, nonmembers

    @cached_property
    def labels_by_id(self) -> dict[str, int]:
        """Whether each known image is a member (1) or a non-member (0), by content id."""
        return dict(zip(self.profiles.ids, self.profiles.is_member.tolist()))

    def label_of(self, sample: str) -> int | None:
        """Return whether an image is a known member (1) or a known non-member (0); None where it is neither."""
        known = self.labels_by_id.get(sample)
        if known is None and self.further is not None and sample[: len(self.further.ids[0])] in self._further_ids:
            return 0
        return known

    @cached_property
    def _further_ids(self) -> frozenset[str]:
        return frozenset(() if self.further is None else self.further.ids)

    @cached_property
    def members(self) -> tuple[Judgement, ...]:
        """The known members, each judged as any other image is."""
        return tuple(self.judge(row) for row in self.observations[self.profiles.is_member == 1])

    @cached_property
    def power(self) -> Estimate | None:
        """Share of known members that reach p ≤ `ALPHA`; None where no members are known."""
        if not self.members:
            return None
        recognised = sum(judged.p_value <= ALPHA for judged in self.members)
        interval = clopper_pearson(recognised, len(self.members))
        return Estimate(recognised / len(self.members), *interval, len(self.members), len(self.null))

    @cached_property
    def verdict_scores(self) -> VerdictScores:
        """How the verdict's own scores of the known images are distributed."""
        critical, members = self.critical, np.array([judged.score for judged in self.members])
        reached = None if critical is None else critical.score
        return VerdictScores.of(self.null.scores, members, reached)

    @property
    def comparability(self) -> Comparability:
        """The check whether an image is of the known non-members' kind."""
        return self.appearance.comparability

    def has_border(self, image: InputImage) -> bool:
        """Return whether an image has a border of one colour that hardly any known non-member has."""
        return self.appearance.border is not None and self.appearance.border(image)

    def is_comparable(self, image: InputImage) -> bool:
        """Return whether an image is of the known non-members' kind, without a border that they don't have."""
        return not self.has_border(image) and self.comparability(image)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values."""
        members, nonmembers = (None if band is None else vars(band) for band in self.bands)
        return {
            "source": self.source,
            "attack": self.attack,
            "n_nonmembers": self.n_nonmembers,
            "n_compared": len(self.null),
            "calibration": self.calibration,
            "n_members": int((self.profiles.is_member == 1).sum()),
            "hash": split_hash(self.profiles.ids, self.profiles.is_member),
            "timestep": self.timestep,
            "timestep_chosen": self.timestep_chosen,
            "power_at_p_0.01": None if self.power is None else vars(self.power),
            "smallest_effect": None if self.critical is None else vars(self.critical),
            "timesteps": self.profiles.timesteps.tolist(),
            "member_band": members,
            "nonmember_band": nonmembers,
            "verdict_scores": vars(self.verdict_scores),
        }

    def check_fits(self, model: DiffusionModel) -> None:
        """Refuse a model that the reference isn't about; bring a model whose parts can overflow to the reference's precision.

        Raises:
            SplitError: for another model, revision, size, setting or precision.
        """
        problem = mismatch(self.profiles.model, self.schedule, self.profiles.precision, model)
        if problem:
            raise SplitError(problem)

    def save(self, folder: str | Path) -> Path:
        """Write ``reference.json`` and ``reference.safetensors`` into a folder; there are no images in them.

        Raises:
            SplitError: if the folder can't be written, or holds something else.
            AttackError: if the attack can't be made from its name and parameters.
        """
        record, numbers = self.encoded()
        write_files(Path(folder), record, numbers)
        return Path(folder)

    @classmethod
    @with_options
    def build(
        cls,
        model: str | DiffusionModel,
        nonmembers: Any,
        attack: str | Attack | None = None,
        *,
        on_batch: Callable[[int, int], None] | None = None,
        **options: Unpack[BuildOptions],
    ) -> Reference:
        """Build a reference, or return the kept one of the same model, attack, precision, code and images.

        Finished work is kept, so that an interrupted build resumes. The reference then answers for its model on this machine.

        Args:
            model: "demo", a folder, a Hub id, or a DiffusionModel.
            nonmembers: images that are certainly not in the training set, 99 or more: a folder, a Parquet file, a data set on the Hub as
                "owner/name" or "owner/name:split", "benchmark:NAME" for a published setting, a split, or images at hand.
            attack: a name of `mia_hub.list_attacks`, or an Attack; it gives the verdicts. docs/verdicts.md says which is the default.
            members: known members, in the same forms. With them the timestep is chosen on the calibration part, and the answers state
                their power.
            captions: of a model conditioned on text or classes: True for the source's own, or one for all; empty ones by default.
            limit: at most this many images of each source, by a seeded draw.
            stated: why the images are certainly not in the training set; the answers say so.
            made_after: a date after which all non-members were made; the answers say so. Images whose metadata say otherwise are left out.
            columns: names of a data set's columns, where they aren't the usual ones.
            source_revision: branch, tag or commit of the non-members' data set on the Hub.
            caveats: what the reader of an answer must know of the non-members, one sentence each.
            batch_size, seed: as for `mia_hub.Attack.score`; the seed is that of the draw, too.
            device, dtype, revision, base, reference_models: as for `mia_hub.load_model`; with a base, and for a LoRA, the non-members must
                be in the training set of neither model, and with reference models in that of none.
            progress: shows progress bars.
            on_batch: called with (images scored, in all).

        Raises:
            SplitError: for a source that can't be opened, or with fewer than 20 non-members.
            MiaHubError: as loading and scoring raise it.
        """
        plan = plan_reference(model, nonmembers, attack, **options)
        return cls.from_plan(plan, batch_size=options["batch_size"], progress=options["progress"], on_batch=on_batch)

    @classmethod
    def from_plan(
        cls,
        plan: BuildPlan,
        *,
        batch_size: int | None = None,
        progress: bool = True,
        on_batch: Callable[[int, int], None] | None = None,
        kind: Kind = BUILT,
    ) -> Reference:
        """Build a planned reference, or return the kept one; see `build`."""
        store, processes, id = KeptReferences.of_this_machine(), current_processes(), plan.id
        if id is not None and kind == CHECKED and not processes.first(partial(store.can_keep, id)):
            id = None  # such as a container's read-only home folder: the next check scores them again
        images = plan.images
        if id is not None:
            known = processes.first(lambda: cls._kept(store.place(id, kind)))
            if known is not None:
                if (known.origin, known.members_origin) == (images.origin, images.members_origin):
                    processes.first(lambda: store.use(id, kind))
                    return known
                # What a person states has changed since.
                known = replace(known, origin=images.origin, members_origin=images.members_origin)
                processes.first(lambda: known._keep(store, id, kind))
                return known
        resume = None if id is None else store.unfinished(id)
        run = ScoringRun(batch_size=batch_size, seed=plan.seed, progress=progress, on_batch=on_batch, resume=resume)
        reference = scored_reference(plan.model, plan.attack, images.known, images.origin, images.members_origin, run)
        if id is not None:
            processes.first(lambda: reference._keep(store, id, kind))
        return reference

    def _keep(self, store: KeptReferences, id: str, kind: Kind) -> None:
        record, numbers = self.encoded()
        store.keep(id, record, numbers, kind)
        store.forget_unfinished(id)

    @classmethod
    def _kept(cls, folder: Path) -> Reference | None:
        if not folder.is_dir():
            return None
        with suppress(SplitError):  # damaged: it is built again
            return cls.read(folder)
        return None

    @classmethod
    def load(cls, name: str | Path, *, revision: str | None = None, keep: bool = True) -> Reference:
        """Load a reference from a folder, or from the Hub.

        Args:
            name: a folder that `save` wrote, the id of one that is kept on this machine, or "owner/name" of a data set on the Hub.
            revision: branch, tag or commit on the Hub.
            keep: whether one of the Hub answers for its model on this machine from then on.

        Raises:
            SplitError: if it can't be found, or anything in it is wrong.
        """
        path = Path(name)
        if path.is_dir() or str(name).count("/") != 1:
            return cls.read(path if path.is_dir() else KeptReferences.of_this_machine().named(str(name)).folder)
        fetched = fetch_reference(str(name), revision, keep=keep)
        return cls.of_files(fetched.record, fetched.arrays, shared=True)

    def push(self, name: str, *, private: bool = False) -> str:
        """Publish the reference as a data set on the Hub, with a card and without images; return the commit.

        Args:
            name: ``owner/name``.
            private: makes a new repository private.

        Raises:
            SplitError: without a login that may write there, or if the repository holds something else.
        """
        return push_reference(name, *self.encoded(), power=self.power, critical=self.critical, private=private)

    def encoded(self) -> tuple[ReferenceRecord, bytes]:
        """Return the record and the numbers as they are stored.

        Raises:
            AttackError: if the attack can't be made from its name and parameters.
        """
        numbers, table = encoded(self._arrays()), self.profiles
        record = ReferenceRecord(
            model=table.model,
            schedule=self.schedule,
            precision=table.precision,
            attack=AttackRecord.of(self.configured),
            verdict_attack=self.attack,
            chosen=self.chosen,
            timestep=self.timestep,
            timestep_chosen=self.timestep_chosen,
            seed=table.seed,
            captions=table.captions,  # type: ignore[arg-type]  # checked by the model
            caption=self.caption,
            computed_by=table.computed_by,
            source=self.origin,
            members=self.members_origin,
            n_members=int((table.is_member == 1).sum()),
            n_nonmembers=int((table.is_member == 0).sum()),
            hash=split_hash(table.ids, table.is_member),
            numbers=content_hash(numbers),
            queries=table.queries,
            device=table.device,
            remarks=table.remarks,
            provenance=self.provenance,
        )
        return record, numbers

    def _arrays(self) -> Arrays:
        table = self.profiles
        assert self.appearance.features[0] == [sample for sample, label in zip(table.ids, table.is_member) if label == 0], (
            "the appearance is of other images"
        )
        arrays: Arrays = {
            "ids": np.array([list(bytes.fromhex(sample)) for sample in table.ids], np.uint8),
            "is_member": table.is_member,
            "timesteps": table.timesteps,
            "scores": table.scores,
            "observations": self.observations.reshape(len(table), -1),
        }
        return arrays | appearance_arrays(self.appearance)

    @classmethod
    def read(cls, folder: str | Path) -> Reference:
        """Read a reference that `save` wrote; everything in it is checked.

        Raises:
            SplitError: with the reason, if it can't be used.
        """
        return cls.of_files(*read_files(Path(folder)), shared=(Path(folder) / FETCHED).is_file())

    @classmethod
    def of_files(cls, record: ReferenceRecord, arrays: Arrays, *, shared: bool = False) -> Reference:
        """Return the reference of a checked record and its arrays, as `mia_hub.references.storing.read_files` returns them.

        Args:
            record, arrays: of the files.
            shared: as the attribute.
        """
        ids = [bytes(row).hex() for row in arrays["ids"]]
        labels, configured = arrays["is_member"], record.attack.build()
        table = ScoreTable(
            ids=ids,
            is_member=labels,
            timesteps=arrays["timesteps"],
            scores=arrays["scores"],
            attack=repr(profile_attack(configured, record.model["num_train_timesteps"])),
            model=record.model,
            seed=record.seed,
            queries=record.queries,
            device=record.device,
            precision=record.precision,
            captions=record.captions,
            remarks=record.remarks,
            computed_by=record.computed_by,
        )
        nonmembers = [sample for sample, label in zip(ids, labels) if label == 0]
        observations = arrays["observations"]
        return cls(
            profiles=table,
            observations=observations if isinstance(configured, ConditionalAttack) else observations[:, 0],
            appearance=StoredAppearance.from_arrays(nonmembers, arrays),
            configured=configured,
            attack=record.verdict_attack,
            chosen=record.choices,
            timestep=record.timestep,
            timestep_chosen=record.timestep_chosen,
            origin=record.source,
            members_origin=record.members,
            caption=record.caption,
            schedule=record.schedule,
            provenance=record.provenance,
            shared=shared,
        )


def kept_reference(model: DiffusionModel, attack: Attack | None = None, *, given_base: bool = False) -> Reference | None:
    """Return the newest reference of a model on this machine that can be read; None if there is none.

    Args:
        model, attack: as for `mia_hub.references.kept.KeptReferences.fitting`.
        given_base: whether only an attack will do that is given the base.
    """
    if model.info.revision is None:
        return None
    for entry in KeptReferences.of_this_machine().fitting(model, attack):
        with suppress(SplitError):
            reference = Reference.read(entry.folder)
            if reference.configured.uses_base or not given_base:
                return reference
    return None


def scored_reference(
    model: DiffusionModel,
    attack: str | Attack,
    known: LabelledImages,
    origin: SourceRecord,
    members_origin: SourceRecord | None = None,
    run: ScoringRun | None = None,
) -> Reference:
    """Query a model for known images, and return the reference that they make.

    Args:
        model, attack, known, run: as for `mia_hub.references.scoring.score_known`.
        origin, members_origin: of the non-members and of the members.

    Raises:
        SplitError, MetricError: as `mia_hub.references.scoring.score_known`.
    """
    configured = get_attack(attack)
    scored = score_known(model, configured, known, run or ScoringRun())
    nonmembers = scored.known.part(np.flatnonzero(scored.known.is_member == 0))
    return Reference(
        profiles=replace(scored.profiles, queries=scored.queries, model=recorded_model(model, configured)),
        observations=scored.observations,
        appearance=ImageAppearance(nonmembers.images, model.info.picture_shape),
        configured=configured,
        attack=scored.verdict_attack,
        chosen=scored.chosen,
        timestep=scored.timestep,
        timestep_chosen=scored.timestep_chosen,
        origin=origin,
        members_origin=members_origin,
        caption=known.captions if isinstance(known.captions, (str, int)) else None,
        schedule=model_identity(model)["schedule"],
    )
