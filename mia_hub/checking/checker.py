"""Was this image in the training set? One model, one attack and the known non-members, loaded once and queried for many images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Unpack, cast, get_args

from mia_hub.attacks import Attack
from mia_hub.attacks.cdi import CDIFeatures
from mia_hub.attacks.checks import check_choice, check_companions_used
from mia_hub.attacks.conditional import ConditionalAttack
from mia_hub.attacks.copies import CopiesAttack
from mia_hub.attacks.identity import recorded_model
from mia_hub.checking.cdi_checking import compare_by_cdi, drawn_nonmembers, observed_by_cdi
from mia_hub.checking.choosing import chosen_reference, nonmember_images
from mia_hub.checking.image_answers import ImageCheck, Profile
from mia_hub.checking.options import CheckerOptions
from mia_hub.checking.per_precision import PerPrecision
from mia_hub.checking.set_answers import CDI, PERMUTATION, Method, SetCheck
from mia_hub.checking.set_checking import ObservedSet, compare_with_reference, set_answer
from mia_hub.checking.treated_images import FalseEvidence, is_measured, ruled_out
from mia_hub.checking.verdict_texts import (
    BORDERED,
    FULL_CONTRAST,
    KNOWN_IMAGE_NOTES,
    base_caveat,
    false_evidence_text,
    image_caveats,
    image_sentence,
    not_searched_text,
    other_attack_for_copies,
    reference_models_caveat,
    remark_notes,
    scaled_note,
    shared_reference_caveat,
    too_few_for_copies,
    treated_text,
    treatment_caveat,
    treatment_note,
)
from mia_hub.checking.verdicts import NO_NULL, NOT_COMPARABLE, verdict_of
from mia_hub.errors import AttackError, SplitError
from mia_hub.images.decoding_ahead import decoded_ahead
from mia_hub.images.image import InputImage
from mia_hub.images.kept_images import KeptImages
from mia_hub.images.sources import as_images, left_out_of
from mia_hub.images.treatments import with_full_contrast
from mia_hub.metrics.candidates import CandidateJudgement
from mia_hub.metrics.p_values import ENOUGH_NULL, MARGINAL, Calibration, Judgement, adjusted
from mia_hub.metrics.set_tests import FEWEST_IN_SET, too_few
from mia_hub.models.bases import base_of
from mia_hub.models.conditions import no_condition
from mia_hub.models.denoiser import takes_resized_images
from mia_hub.models.loading import load_model
from mia_hub.models.precision import precision_of
from mia_hub.models.protocol import DiffusionModel
from mia_hub.models.reference_models import reference_models
from mia_hub.references.comparability import Comparability
from mia_hub.references.options import CaptionsOrClasses, ScoringOptions
from mia_hub.references.reference import Reference
from mia_hub.references.treatment_check import FEWEST_FOR_SIGNS, NARROW
from mia_hub.references.verdict_attack import (
    DefaultAttack,
    check_usable,
    default_verdict_attack,
    profile_attack,
    verdict_attack,
    verdict_observations,
    winner,
)
from mia_hub.scores import ScoreTable
from mia_hub.splits.member_split import distinct
from mia_hub.system.provenance import provenance
from mia_hub.system.signatures import with_options

# At most this many images stay in memory at their own size; of more, what `KeptImages` has room for, at the model's.
MOST_DECODED = 16

OnBatch = Callable[[int, int], None] | None


@dataclass(frozen=True)
class _Seen:
    """What is said of an image by its looks.

    Attributes:
        name, notes, width, height: of the image.
        signs: in what its treatment differs from that of the reference images.
        bordered: whether it has a border that they don't have.
        comparable: whether it is of their kind; None without any.
        fits_stretched: whether it would be at full contrast, and isn't.
    """

    name: str
    notes: tuple[str, ...]
    width: int
    height: int
    signs: tuple[str, ...] = ()
    bordered: bool = False
    comparable: bool | None = None
    fits_stretched: bool = False


class Checker:
    """Answers "was this image in the training set?" for one model.

    Args:
        model: a DiffusionModel, or what `mia_hub.load_model` takes.
        attack: a name or an Attack; by default that of the reference, or `default_verdict_attack`.
        nonmembers: images that are certainly not in the training set, and of the same kind as those to be checked; any source that
            `mia_hub.Reference.build` takes. The demo model brings its own, and a reference that was built once answers for its model;
            for any other model there is no verdict without them.
        reference: a `mia_hub.Reference`, the folder of one, its id on this machine, or its name on the Hub, in place of ``nonmembers``.
        copies: whether the images may be altered copies of training images: re-encoded, mirrored, or of lower contrast. Then copies of
            each image are judged with it, such as its mirror image (`mia_hub.attacks.copies`, `mia_hub.attacks.latent_copies`), and the
            answer names which of them looks most like a training image. It takes 500 known non-members; with fewer the image alone is
            judged, and the answer says so.
        keep: whether the scores of ``nonmembers`` are kept on this machine, so that the next check of the same ones need not repeat them.
        calibration: what the p-values that decide hold for: "conditional", this one reference, with 95 % confidence; or "marginal", the
            average over references. By default the first for a reference that many share, shipped or fetched from the Hub, if it is large
            enough for evidence, and the second for your own.
        nonmember_captions: of a model conditioned on text or classes, one per non-member, or one for all; where the images to be checked
            have captions, these need them too; True for those that a data set or a Parquet file of non-members has. Empty ones by
            default.
        batch_size, seed: as for `mia_hub.Attack.score`.
        progress: shows a progress bar while the non-members are scored.
        on_batch: called with (non-members scored, in all) meanwhile.
        device, dtype, revision, base, reference_models: as for `mia_hub.load_model`. With a base, and for a LoRA, the default attack is
            given the base, and the non-members must be in the training set of neither model. With reference models, name the attack.

    Raises:
        SplitError: with fewer than 20 non-members, or some that the base was trained on, or for a reference of another model, revision or
            precision.
        MiaHubError: as loading and scoring raise it.
    """

    @with_options
    def __init__(
        self,
        model: str | DiffusionModel = "demo",
        attack: str | Attack | DefaultAttack | None = None,
        *,
        on_batch: OnBatch = None,
        **options: Unpack[CheckerOptions],
    ):
        self.model: DiffusionModel = load_model(
            model, device=options["device"], dtype=options["dtype"], revision=options["revision"], base=options["base"],
            reference_models=options["reference_models"],
        )  # fmt: skip
        chosen = chosen_reference(self.model, attack, options)
        self.attack = chosen.attack
        check_companions_used(options["base"], options["reference_models"], [self.attack])
        captions = cast(Any, options["nonmember_captions"])
        check_usable(self.attack)
        self.attack.check(self.model, None if captions is True else captions)
        if self.model.info.conditioning == "none":
            no_condition(captions, self.model.info.id)
        self._scoring: ScoringOptions = {"batch_size": options["batch_size"], "seed": chosen.seed}
        self._caption = chosen.caption
        self._copies = options["copies"]
        self._options = options
        self._has_captions = captions is not None if chosen.reference is None else chosen.has_captions
        self._reference = PerPrecision(self.model, lambda: chosen.compute(self.model, options, on_batch))

    @property
    def reference(self) -> Reference | None:
        """The known non-members with their scores; None where none are known."""
        return self._reference.latest

    @property
    def timestep(self) -> int:
        """The timestep at which verdicts are made."""
        return self._timestep(self.reference)

    def _timestep(self, reference: Reference | None) -> int:
        return self.attack.default_timestep if reference is None else reference.timestep

    @cached_property
    def _profile_attack(self) -> Attack:
        return profile_attack(self.attack, self.model.info.num_train_timesteps)

    def _verdict_attack(self, reference: Reference | None) -> Attack:
        return verdict_attack(self.attack, {} if reference is None else reference.chosen, self._timestep(reference))

    @property
    def queries_per_image(self) -> int:
        """Forward passes that `check` spends on one image."""
        reference = self.reference
        further = (
            self._verdict_attack(reference).queries_on(self.model)
            if isinstance(self.attack, ConditionalAttack) and reference is not None
            else 0
        )
        return self._profile_attack.queries_on(self.model) + further

    @property
    def comparability(self) -> Comparability | None:
        """The check whether an image is of the known non-members' kind; None where none are known."""
        return None if self.reference is None else self.reference.comparability

    def check(
        self, images: Any, *, captions: CaptionsOrClasses = None, progress: bool = True, on_batch: OnBatch = None
    ) -> list[ImageCheck]:
        """Return one answer per image; several are judged together, at a false-discovery rate of 5 %.

        Args:
            images: anything `mia_hub.images.sources.as_images` takes.
            captions: as for `mia_hub.Attack.score`; needed where the non-members have captions.
            progress: shows a progress bar for anything over a second.
            on_batch: called with (images done, in all).

        Raises:
            ImageError: for an image that can't be read.
            AttackError: for captions where the non-members had none, or the reverse.
        """
        captions = self._check_captions(captions)
        originals = as_images(images)
        if len(originals) <= MOST_DECODED:
            originals = list(originals)
        inputs: Sequence[InputImage] = originals
        if takes_resized_images(self.model):
            inputs = kept = KeptImages(originals, self.model.info.picture_shape)
            originals = kept.originals

        def score(reference: Reference | None) -> tuple[Reference | None, list[_Seen], ScoreTable, list[Judgement] | None]:
            # First, since images are kept at the model's size alone.
            seen = self._seen(originals, reference)
            table = self._profile_attack.score(self.model, inputs, captions=captions, progress=progress, on_batch=on_batch, **self._scoring)
            if reference is None:
                return reference, seen, table, None
            if isinstance(self.attack, ConditionalAttack):
                return reference, seen, table, self._judged(reference, inputs, captions, progress)
            scores = table.at(reference.timestep)
            return reference, seen, table, [reference.judge(score, sample) for score, sample in zip(scores, table.ids)]

        reference, seen, table, judged = self._reference.use(score)
        if reference is None or judged is None:
            return [self._answer(one, table, row) for row, one in enumerate(seen)]
        q = iter(adjusted([answer.p_value for answer, one in zip(judged, seen) if one.comparable])) if len(table) > 1 else None
        q_values = [float(next(q)) if q is not None and one.comparable else None for one in seen]
        return [self._answer(one, table, row, reference, judged[row], q_value=q_values[row]) for row, one in enumerate(seen)]

    def _seen(self, images: Sequence[InputImage], reference: Reference | None) -> list[_Seen]:
        """Return what is said of each image by its looks; each is decoded once."""
        if reference is not None:
            # What is fitted when it is needed first is fitted before several threads need it.
            _ = reference.comparability, reference.appearance.treatment, reference.appearance.border

        def looked_at(_: list[int], images: list[InputImage]) -> list[_Seen]:
            return [self._looked_at(image, reference) for image in images]

        return [one for some in decoded_ahead(images, range(len(images)), looked_at) for one in some]

    def _looked_at(self, image: InputImage, reference: Reference | None) -> _Seen:
        seen = _Seen(image.name, image.notes, image.width, image.height)
        if reference is None:
            return seen
        check = reference.appearance.treatment
        signs = () if check is None else check.differences(image)
        bordered = reference.has_border(image)
        comparable = not bordered and not self._treated(reference, signs) and reference.comparability(image)
        fits_stretched = NARROW in signs and not comparable and reference.comparability(with_full_contrast(image))
        return replace(seen, signs=signs, bordered=bordered, comparable=comparable, fits_stretched=fits_stretched)

    def _difference(self, image: _Seen, reference: Reference | None) -> str:
        """Return why an image is not comparable, apart from what it shows; "" where that is no reason."""
        if reference is None:
            return ""
        return BORDERED if image.bordered else self._treated(reference, image.signs)

    def _treated(self, reference: Reference, signs: tuple[str, ...]) -> str:
        """Return why the attack gives no verdict on an image that bears some signs of treatment; "" where they are no reason."""
        false_evidence, check = self._ruled_out(self.attack), reference.appearance.treatment
        if false_evidence is None:
            return ""
        if check is None or not check.is_resolved:
            signs = ()
        elif not signs:
            return ""
        defaults = (default_verdict_attack(self.model, base_given=given) for given in (self.attack.uses_base, False))
        other = next((attack for attack in defaults if self._ruled_out(attack) is None), None)
        if other is None:
            return treated_text(self.attack.name, false_evidence, signs)
        without_base, measured = self.attack.uses_base and not other.uses_base, is_measured(other, on_pixels=self.model.info.on_pixels)
        return treated_text(self.attack.name, false_evidence, signs, other=other.name, without_base=without_base, measured=measured)

    def _answer(
        self,
        image: _Seen,
        table: ScoreTable,
        row: int,
        reference: Reference | None = None,
        judged: Judgement | None = None,
        *,
        q_value: float | None = None,
    ) -> ImageCheck:
        """Return the answer about the image in one row of a table; without a reference, there is no verdict."""
        share_below, p_value, n_null, timestep = None, None, 0, self._timestep(reference)
        source, power, known, critical = None, None, None, None
        calibration: Calibration | None = None
        p_values: dict[str, float | None] = {}
        caveats: tuple[str, ...] = ()
        candidate: str | None = None
        verdict, score = NO_NULL, float(table.at(timestep)[row])
        if reference is not None and judged is not None:
            source, power, known = reference.source, reference.power, reference.label_of(table.ids[row])
            critical = reference.critical
            verdict, score, n_null = NOT_COMPARABLE, judged.score, len(reference.null)
            if image.comparable:
                caveats = (*_shared_caveats(reference, judged.n), *self._companion_caveats, *reference.origin.caveats)
                share_below, p_value, n_null = judged.share_below, judged.p_value, judged.n
                calibration = judged.calibration
                p_values = {"p_value_conditional": judged.p_conditional, "p_value_marginal": judged.p_marginal}
                verdict, candidate = verdict_of(p_value, q_value), winner(self.attack, judged)
        model, treatment = self.model.info.id, self._treatment_caveat(candidate)
        general = image_caveats(
            verdict, p_value, q_value, n_null, power, critical, calibration, treatment=treatment, false_evidence=self._false_evidence
        )
        return ImageCheck(
            name=image.name,
            id=table.ids[row],
            model=model,
            attack=self.attack.name,
            source=source,
            verdict=verdict,
            sentence=image_sentence(
                verdict,
                model=model,
                source=source,
                n_null=n_null,
                share_below=share_below,
                p_value=p_value,
                q_value=q_value,
                candidate=candidate,
                difference=self._difference(image, reference),
                enough=ENOUGH_NULL if self._ruled_out(self.attack) is None else FEWEST_FOR_SIGNS,
                calibration=calibration,
            ),
            caveats=(*general, *caveats),
            profile=self._profile(table, row, reference),
            timestep=timestep,
            score=score,
            p_value=p_value,
            q_value=q_value,
            share_below=share_below,
            n_null=n_null,
            comparable=image.comparable,
            notes=(
                *(self._copies_notes(judged) if image.comparable else ()),
                *self._notes(image, table.remarks, known),
                *_treatment_notes(image),
            ),
            known_scores=None if reference is None or p_value is None else reference.verdict_scores,
            candidate=candidate,
            calibration=calibration,
            **p_values,
        )

    def _notes(self, image: _Seen, remarks: dict[str, str], known: int | None) -> tuple[str, ...]:
        """Return the notes on an image; ``known``: whether it is a known member (1), a known non-member (0), or neither."""
        height, width = self.model.info.picture_shape[1:]
        unscaled = (image.width, image.height) == (width, height)
        return (
            *(() if known is None else (KNOWN_IMAGE_NOTES[known],)),
            *image.notes,
            *(() if unscaled else (scaled_note((image.width, image.height), (width, height)),)),
            *remark_notes(remarks),
        )

    def _profile(self, table: ScoreTable, row: int, reference: Reference | None) -> Profile:
        members, nonmembers = (None, None) if reference is None else reference.bands
        timesteps, scores = tuple(table.timesteps.tolist()), tuple(table.scores[row].tolist())
        return Profile(timesteps, scores, members, nonmembers, self._profile_attack.name)

    def _treatment_caveat(self, candidate: str | None) -> str:
        """Return what an answer doesn't hold for; ``candidate``: what looked most like a training image, if copies were judged."""
        asked, judged_too = self._copies, ""
        if isinstance(self.attack, CopiesAttack):
            asked, judged_too = True, "" if candidate is None else self.attack.judged_too
        return treatment_caveat(on_pixels=self.model.info.on_pixels, copies=judged_too, asked_for_copies=asked)

    def _ruled_out(self, attack: Attack) -> FalseEvidence | None:
        return ruled_out(attack, on_pixels=self.model.info.on_pixels)

    @property
    def _false_evidence(self) -> str:
        """Where the attack gives too much false evidence, as a sentence; "" where it doesn't."""
        false_evidence = self._ruled_out(self.attack)
        return "" if false_evidence is None else false_evidence_text(self.attack.name, false_evidence)

    @property
    def _companion_caveats(self) -> tuple[str, ...]:
        others = [other.info.id for other in reference_models(self.model)] if self.attack.uses_reference_models else []
        of_base = (base_caveat(base_of(self.model).info.id),) if self.attack.uses_base else ()
        return (*of_base, *([reference_models_caveat(others)] if others else []))

    def _copies_notes(self, judged: Judgement | None) -> tuple[str, ...]:
        """Return why copies were not searched, where they were asked for."""
        if isinstance(judged, CandidateJudgement):
            return () if judged.searched else (not_searched_text(too_few_for_copies(judged.n)),)
        if not self._copies or judged is None:
            return ()
        wanted = default_verdict_attack(self.model, copies=True).name
        return (not_searched_text(other_attack_for_copies(self.attack.name, wanted)),)

    def _check_captions(self, captions: CaptionsOrClasses) -> CaptionsOrClasses:
        """Return the captions of the images: where all known images were scored with the same one, also these by default."""
        if self.reference is None or self.model.info.conditioning == "none":
            return captions
        if captions is None:
            captions = self._caption
        if (captions is not None) == self._has_captions:
            return captions
        captioned, uncaptioned = ("images", "known non-members") if captions is not None else ("known non-members", "images")
        raise AttackError(
            f"The {captioned} have captions and the {uncaptioned} have none, so that their scores can't be compared; give captions to both "
            "(captions=…, nonmember_captions=…), or to neither."
        )

    def judge(self, images: Any, *, captions: CaptionsOrClasses = None, progress: bool = True) -> list[Judgement]:
        """Return scores and p-values alone, for the queries of the verdict's timestep; there is no profile and no comparability check.

        Args:
            images, captions, progress: as for `check`.

        Raises:
            SplitError: where no non-members are known.
        """
        captions, inputs = self._check_captions(captions), as_images(images)

        def judge(reference: Reference | None) -> list[Judgement]:
            if reference is None:
                raise SplitError(
                    f"No images are known that are certainly not in the training set of {self.model.info.id}; give nonmembers=…."
                )
            return self._judged(reference, inputs, captions, progress)

        return self._reference.use(judge)

    def _judged(self, reference: Reference, images: Sequence[InputImage], captions: CaptionsOrClasses, progress: bool) -> list[Judgement]:
        attack = self._verdict_attack(reference)
        observed = attack.observe(self.model, images, captions=captions, progress=progress, **self._scoring)
        values = verdict_observations(attack, observed)
        if values.shape[1:] != reference.observations.shape[1:]:
            raise SplitError(
                f"The reference has {reference.observations.shape[1:]} numbers of an image, and {attack.name} observes {values.shape[1:]}; "
                "it is not of this attack. Build or fetch the reference again."
            )
        return [reference.judge(row, sample) for row, sample in zip(values, observed.ids)]

    def check_set(
        self,
        images: Any,
        *,
        method: Method = PERMUTATION,
        captions: CaptionsOrClasses = None,
        progress: bool = True,
        on_batch: OnBatch = None,
    ) -> SetCheck:
        """Return one answer for a set of images: whether they were, as a set, in the training data.

        Args:
            method: "permutation", or "cdi"; see `mia_hub.check_set`.
            images, captions, progress, on_batch: as for `check`.

        Raises:
            ImageError: for an image that can't be read.
            MetricError: with fewer than 5 different images; by CDI, with fewer than 25.
            SplitError: by CDI, if there are fewer known non-members than images, or only their scores.
        """
        check_choice("method", method, get_args(Method))
        captions = self._check_captions(captions)
        given = as_images(images)
        inputs, captions, copies = distinct(given, captions)
        if len(inputs) < FEWEST_IN_SET:
            raise too_few(len(inputs))
        if method == CDI:
            return self._check_set_by_cdi(inputs, captions, copies, progress, on_batch).without(0, left_out_of(given))

        def observe(reference: Reference | None) -> tuple[Reference | None, ObservedSet]:
            attack = self._verdict_attack(reference)
            observations = attack.observe(self.model, inputs, captions=captions, progress=progress, on_batch=on_batch, **self._scoring)
            model, timestep = self.model.info.id, self._timestep(reference)
            return reference, ObservedSet(inputs, copies, model, attack, self.attack.name, timestep, observations, self._companion_caveats)

        reference, observed = self._reference.use(observe)
        if reference is None:
            return set_answer(observed, None, None).without(0, left_out_of(given))
        comparison = compare_with_reference(observed, reference, seed=self._scoring["seed"])
        return set_answer(observed, reference, comparison).without(0, left_out_of(given))

    def _check_set_by_cdi(
        self, images: Sequence[InputImage], captions: CaptionsOrClasses, copies: int, progress: bool, on_batch: OnBatch
    ) -> SetCheck:
        # Before the non-members are scored by the verdict's attack, which the check for a difference in kind needs.
        CDIFeatures().check(self.model, cast(Any, captions) if isinstance(captions, (list, tuple)) else None)
        seed = self._scoring["seed"]
        known, overlap = drawn_nonmembers(nonmember_images(self.model, self._options), [image.id for image in images], seed)

        def compare(reference: Reference | None) -> SetCheck:
            assert reference is not None, "there are images of non-members, and so a reference of them"
            scoring = {**self._scoring, "progress": progress, "on_batch": on_batch}
            observed, null = observed_by_cdi(self.model, images, captions, known, copies, **scoring)
            return set_answer(observed, reference, compare_by_cdi(observed, null, reference, overlap, seed=seed))

        return self._reference.use(compare)

    def to_dict(self, checks: Sequence[ImageCheck]) -> dict[str, Any]:
        """Return answers as plain JSON-ready values, with the reference and the provenance once."""
        reference = self.reference
        return {
            "images": [check.to_entry() for check in checks],
            "reference": None if reference is None else reference.to_dict(),
            "model": recorded_model(self.model, self.attack),
            "attack": repr(self._verdict_attack(reference)),
            "profile": repr(self._profile_attack),
            "higher_score_means": "more likely a member",
            "provenance": provenance(device=self.model.device.type, precision=precision_of(self.model)),
        }


def _shared_caveats(reference: Reference, n_null: int) -> tuple[str, ...]:
    too_small = reference.shared and reference.requested is None and reference.calibration == MARGINAL
    return (shared_reference_caveat(n_null),) if too_small else ()


def _treatment_notes(image: _Seen) -> tuple[str, ...]:
    """Return in what an image's treatment differs from that of the reference images, and what would make it comparable."""
    return (treatment_note(image.signs), *([FULL_CONTRAST] if image.fits_stretched else [])) if image.signs else ()
