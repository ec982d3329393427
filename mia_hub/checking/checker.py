"""Is this image in the training set? One model, one attack and its reference images, made ready once and asked often."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Any, TypeVar

import numpy as np

from mia_hub.attacks import Attack, get_attack
from mia_hub.attacks.base import Observations
from mia_hub.attacks.conditional import ConditionalAttack
from mia_hub.checking.comparability import NOT_COMPARABLE as UNCOMPARABLE_BY_CHANCE
from mia_hub.checking.comparability import Comparability
from mia_hub.checking.image_answers import CANNOT_TELL, NO_NULL, NOT_COMPARABLE, ImageCheck, Profile, explain, judge, say
from mia_hub.checking.reference import DEMO_SOURCE, Reference, demo_reference, is_demo, stored_for
from mia_hub.checking.set_answers import SetCheck, explain_set, judge_set, say_set
from mia_hub.defaults import VERDICT_ATTACK
from mia_hub.errors import AttackError, ImageError, SplitError
from mia_hub.flags import FLAGS
from mia_hub.images.features import describe
from mia_hub.images.image import InputImage
from mia_hub.images.sources import as_images, open_image
from mia_hub.metrics.p_values import ALPHA, FEWEST_NULL, Judged, adjusted
from mia_hub.metrics.set_tests import FEWEST_IN_SET, compare_sets, too_few
from mia_hub.models.conditions import no_condition
from mia_hub.models.loading import load_model
from mia_hub.models.precision import precision_of
from mia_hub.models.protocol import DiffusionModel
from mia_hub.scores import ScoreTable
from mia_hub.splits.member_split import distinct
from mia_hub.splits.shift import blind_auc
from mia_hub.system.provenance import provenance

# What makes a checker one of its own, not to be kept for the next image.
NULL = ("nonmembers", "nonmember_captions")
# So few images are decoded once and kept; more are read again for each look, so that memory doesn't grow with their number.
KEPT_DECODED = 16

Asked = TypeVar("Asked")


# What is said of a image of which it is known beforehand whether it was trained on.
KNOWN_NOTES = {
    1: ("It is itself one of the images known to be in the training set.",),
    0: ("It is itself one of the images known not to be in the training set, and was not compared with itself.",),
    None: (),
}


class Checker:
    """Answers "was this image in the training set?" for one model.

    Args:
        model: a DiffusionModel, or what `mia_hub.load_model` takes.
        attack: a name or an Attack.
        nonmembers: images that are certainly not in the training set, and of the same kind as those to be checked. The demo
            model brings its own; for any other model there is no verdict without them.
        nonmember_captions: of a model conditioned on text or classes, one per non-member, or one for all; where the images to be checked
            have captions, these need them too. Empty ones by default.
        batch_size, seed: as for `mia_hub.Attack.score`.
        progress: shows a progress bar while they are scored.
        on_batch: called with (non-members scored, in all) meanwhile.
        device, dtype, revision: as for `mia_hub.load_model`.

    Raises:
        SplitError: with fewer than 20 non-members.
        MiaHubError: as loading and scoring raise it.
    """

    def __init__(
        self,
        model: str | DiffusionModel = "demo",
        attack: str | Attack = VERDICT_ATTACK,
        *,
        nonmembers=None,
        nonmember_captions: str | Sequence | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        progress: bool = True,
        on_batch: Callable[[int, int], None] | None = None,
        device=None,
        dtype=None,
        revision: str | None = None,
    ):
        self.model = load_model(model, device=device, dtype=dtype, revision=revision)
        self.attack = get_attack(attack)
        if self.attack.needs_training and not isinstance(self.attack, ConditionalAttack):
            raise AttackError(
                f"The attack {self.attack.name!r} is fitted on known members as well, which a check has none of. Fit it first, with "
                "attack.fit(model, images, is_member), and give the fitted attack; or choose another attack."
            )
        self.attack.check(self.model, nonmember_captions)
        self._scoring = {"batch_size": batch_size, "seed": seed}
        if self.model.info.conditioning == "none":
            no_condition(nonmember_captions, self.model.info.id)
        self._told = nonmember_captions is not None
        self._make_reference = lambda: self._reference(nonmembers, nonmember_captions, progress, on_batch)
        self._making = threading.Lock()
        # The reference, and the precision that it was made in: together, so that no thread sees one without the other.
        self._made: tuple[Reference | None, str | None] = None, None
        self._in_one_precision(lambda: None)

    @property
    def reference(self) -> Reference | None:
        """The known non-members with their scores; None where none are known."""
        return self._made[0]

    def _in_one_precision(self, ask: Callable[[], Asked]) -> Asked:
        """What is asked, and the reference that it is compared with, in the precision that the model ends up in.

        A part that overflows in half precision runs in a wider one from then on; what was scored before is then scored again.
        """
        while True:
            made = self._ready()
            found = ask()
            if self._made is made and made[1] == precision_of(self.model):
                return found

    def _ready(self) -> tuple[Reference | None, str | None]:
        """The reference in the model's present precision, made once, whoever asks; where that fails, the next one who asks tries again."""
        with self._making:
            while self._made[1] != (precision := precision_of(self.model)):
                reference = self._make_reference()
                if precision_of(self.model) == precision:  # else it overflowed meanwhile, and is made once more
                    self._made = reference, precision
            return self._made

    @cached_property
    def _profile(self) -> Attack:
        """The attack whose scores over the timesteps are shown; what of its grid lies outside of a short schedule is left out."""
        if not isinstance(self.attack, ConditionalAttack):
            return self.attack
        profile, last = self.attack.profile, self.model.info.num_train_timesteps - 1
        return profile if profile.timesteps[-1] <= last else replace(profile, timesteps=tuple(t for t in profile.timesteps if t <= last))

    @property
    def _verdict(self) -> Attack:
        """The attack that verdicts are made by, at their timestep alone."""
        settled = self.attack.settled({} if self.reference is None else self.reference.chosen)
        return settled.at(self.timestep)

    @property
    def queries_per_image(self) -> int:
        """Forward passes that `check` spends on one image."""
        further = self._verdict.queries_per_image if isinstance(self.attack, ConditionalAttack) and self.reference is not None else 0
        return self._profile.queries_per_image + further

    @property
    def timestep(self) -> int:
        """At which verdicts are made."""
        return self.attack.default_timestep if self.reference is None else self.reference.timestep

    def _reference(self, nonmembers, captions, progress: bool, on_batch) -> Reference | None:
        source = "the non-members given"
        if nonmembers is None:
            if not is_demo(self.model):
                return None
            stored = stored_for(self.attack, self.model)
            if stored is not None:
                return stored
            nonmembers, source = demo_reference(plain=True).images, DEMO_SOURCE
        images, captions, copies = distinct(as_images(nonmembers), captions)
        if copies:
            source = f"{source}, {copies} copies left out"
        if len(images) < FEWEST_NULL:
            raise SplitError(
                f"{len(images)} different images known not to be in the training set are too few; give at least {FEWEST_NULL}, better "
                f"{round(1 / ALPHA) - 1} or more: with n of them, p can't get below 1/(n + 1)."
            )
        known = np.zeros(len(images), np.int8)
        options = {"captions": captions, "progress": progress, "on_batch": on_batch, **self._scoring}
        profiles = self._profile.score(self.model, images, is_member=known, **options)
        timestep = self.attack.default_timestep
        if isinstance(self.attack, ConditionalAttack):
            chosen, _ = self.attack.choose(self.model, images, known, captions=captions)
            attack = self.attack.settled(chosen).at(timestep)
            observed = attack.observe(self.model, images, is_member=known, **options).values[:, 0]
        else:
            chosen, attack, observed = {}, self.attack, profiles.at(timestep)
        how = f"t = {timestep}, the middle of the grid, fixed beforehand"
        return Reference(profiles, observed, images, repr(attack), chosen, timestep, how, source)

    @cached_property
    def comparability(self) -> Comparability | None:
        # Of the reference's images, which are the same in every precision.
        return None if self.reference is None else Comparability(self.reference.images, self.model.info.picture_shape)

    def check(
        self, images, *, captions=None, progress: bool = True, on_batch: Callable[[int, int], None] | None = None
    ) -> list[ImageCheck]:
        """One answer per image; several are judged together, at a false-discovery rate of 5 %.

        Args:
            images: anything `mia_hub.images.sources.as_images` takes.
            captions: as for `mia_hub.Attack.score`; given where those of the non-members were.
            progress: shows a progress bar for anything over a second.
            on_batch: called with (images done, in all).

        Raises:
            ImageError: for a image that can't be read.
            AttackError: for captions where the non-members had none, or the reverse.
        """
        self._check_told(captions)
        inputs = as_images(images)
        if len(inputs) <= KEPT_DECODED:
            inputs = list(inputs)

        def ask() -> tuple[ScoreTable, list[Judged] | None]:
            table = self._profile.score(self.model, inputs, captions=captions, progress=progress, on_batch=on_batch, **self._scoring)
            if self.reference is None:
                return table, None
            if isinstance(self.attack, ConditionalAttack):
                return table, self._judged(inputs, captions, progress)
            return table, [self.reference.null.judge(score, sample) for score, sample in zip(table.at(self.timestep), table.ids)]

        table, judged = self._in_one_precision(ask)
        if judged is None:
            return [self._answer(inputs[i], table, i, None, None, None) for i in range(len(table))]
        comparable = [self.comparability(inputs[i]) for i in range(len(table))]
        q = iter(adjusted([one.p_value for one, ok in zip(judged, comparable) if ok])) if len(table) > 1 else None
        q_values = [next(q) if q is not None and ok else None for ok in comparable]
        return [self._answer(inputs[i], table, i, comparable[i], judged[i], q_values[i]) for i in range(len(table))]

    def _answer(self, image: InputImage, table: ScoreTable, row: int, comparable, judged: Judged | None, q_value) -> ImageCheck:
        reference = self.reference
        members, nonmembers = (None, None) if reference is None else reference.bands
        share, p_value, n_null, verdict = None, None, 0 if reference is None else len(reference.null), CANNOT_TELL
        if reference is None:
            verdict = NO_NULL
        elif not comparable:
            verdict = NOT_COMPARABLE
        else:
            share, p_value, n_null = judged.share_below, judged.p_value, judged.n
            verdict = judge(p_value, q_value)
        asked = {"model": self.model.info.id, "source": reference and reference.source}
        figures = {"n_null": n_null, "share_below": share, "p_value": p_value, "q_value": None if q_value is None else float(q_value)}
        known = {} if reference is None else dict(zip(reference.profiles.ids, reference.profiles.is_member.tolist()))
        height, width = self.model.info.picture_shape[1:]
        scaled = (
            ()
            if (image.height, image.width) == (height, width)
            else (f"It was scaled from {image.width}×{image.height} to the model's {width}×{height} pixels, which changes its score.",)
        )
        return ImageCheck(
            name=image.name,
            id=table.ids[row],
            **asked,
            attack=self.attack.name,
            verdict=verdict,
            sentence=say(verdict, **asked, **figures),
            caveats=explain(verdict, p_value, q_value, n_null, reference and reference.power),
            profile=Profile(tuple(table.timesteps.tolist()), tuple(table.scores[row].tolist()), members, nonmembers, self._profile.name),
            timestep=self.timestep,
            score=float(table.at(self.timestep)[row]) if judged is None else judged.score,
            **figures,
            comparable=comparable,
            notes=(*KNOWN_NOTES[known.get(table.ids[row])], *image.notes, *scaled, *remark_notes(table.remarks)),
        )

    def _check_told(self, captions) -> None:
        if self.reference is None or self.model.info.conditioning == "none" or (captions is not None) == self._told:
            return
        given, lacking = ("images", "known non-members") if captions is not None else ("known non-members", "images")
        raise AttackError(
            f"The {given} have captions and the {lacking} have none, so that their scores can't be compared; give captions to both "
            "(captions=…, nonmember_captions=…), or to neither."
        )

    def judge(self, images, *, captions=None, progress: bool = True) -> list[Judged]:
        """Scores and p-values alone: the queries of the verdict's timestep, and neither a profile nor a comparability check.

        Raises:
            SplitError: where no non-members are known.
        """
        if self.reference is None:
            raise SplitError(f"No images are known that are certainly not in the training set of {self.model.info.id}; give nonmembers=….")
        inputs = as_images(images)
        return self._in_one_precision(lambda: self._judged(inputs, captions, progress))

    def _judged(self, images: Sequence[InputImage], captions, progress: bool) -> list[Judged]:
        found = self._verdict.observe(self.model, images, captions=captions, progress=progress, **self._scoring)
        return [self.reference.null.judge(seen, sample) for seen, sample in zip(self._seen(found), found.ids)]

    def check_set(self, images, *, captions=None, progress: bool = True, on_batch: Callable[[int, int], None] | None = None) -> SetCheck:
        """One answer for a set of images: were they, as a set, in the training data?

        Args:
            images, captions, progress, on_batch: as for `check`.

        Raises:
            ImageError: for a image that can't be read.
            MetricError: with fewer than 5 different images.
        """
        self._check_told(captions)
        inputs, captions, copies = distinct(as_images(images), captions)
        notes = (_copies_note(copies),) if copies else ()
        if len(inputs) < FEWEST_IN_SET:
            raise too_few(len(inputs))
        asked = {"captions": captions, "progress": progress, "on_batch": on_batch, **self._scoring}
        found = self._in_one_precision(lambda: self._verdict.observe(self.model, inputs, **asked))
        notes += remark_notes(found.remarks)
        asked = {"n": len(inputs), "model": self.model.info.id}
        reference = self.reference
        if reference is None:
            verdict, test, n_null, why = NO_NULL, None, 0, ""
        else:
            own = set(found.ids)
            rows = [row for row, sample in enumerate(reference.profiles.ids) if sample not in own]
            known = [[row for row in rows if reference.profiles.is_member[row] == label] for label in (0, 1)]
            n_null = len(known[0])
            left_out = len(reference.null) - n_null
            if n_null < FEWEST_NULL:
                raise SplitError(
                    f"{left_out} of the known non-members are in the set themselves, and of the others there are only {n_null}; give "
                    f"at least {FEWEST_NULL} that are not in it."
                )
            if left_out:
                notes += (f"{left_out} of the known non-members are in the set themselves, and were not compared with.",)
            test = compare_sets(self._seen(found), reference.observed[known[0]], reference.observed[known[1]], seed=self._scoring["seed"])
            why = self._unlike(inputs, own)
            verdict = NOT_COMPARABLE if why else judge_set(test.p_value)
            test = None if why else test
        return SetCheck(
            verdict=verdict,
            sentence=say_set(verdict, n_null=n_null, test=test, why=why, **asked),
            caveats=explain_set(verdict, test),
            n_null=n_null,
            p_value=test and test.p_value,
            p_welch=test and test.p_welch,
            fraction=test and test.fraction,
            more_needed=test and test.more_needed,
            scores=() if test is None else tuple(test.scores.tolist()),
            ids=tuple(found.ids),
            names=tuple(image.name for image in inputs),
            attack=repr(self._verdict),
            attack_name=self.attack.name,
            timestep=self.timestep,
            source=reference and reference.source,
            notes=notes,
            **asked,
        )

    def _seen(self, found: Observations) -> np.ndarray:
        """What verdicts are made of: ``[n, 1 + F]`` for a conditional attack, or scores ``[n]``."""
        if isinstance(self.attack, ConditionalAttack):
            return found.values[:, 0]
        return self._verdict.conclude(found.values, found.ids, found.is_member, found.seed)[:, 0]

    def _unlike(self, images: Sequence[InputImage], own: set[str]) -> str:
        """Why a set is of another kind than the reference images, if it is."""
        from scipy.stats import binomtest

        odd = sum(not self.comparability(image) for image in images)
        if binomtest(odd, len(images), UNCOMPARABLE_BY_CHANCE, alternative="greater").pvalue <= ALPHA:
            return f"{odd} of the {len(images)} images are unlike the images that scores are compared with"
        rows = [row for row, sample in enumerate(self._null_features[0]) if sample not in own]
        features = np.vstack([[describe(image) for image in images], self._null_features[1][rows]])
        blind = blind_auc(features, np.repeat([1, 0], [len(images), len(rows)]), seed=self._scoring["seed"])
        if blind is not None and blind.low > 0.5:
            return f"they can be told from the known non-members without asking the model (a blind classifier reaches AUC {blind})"
        return ""

    @cached_property
    def _null_features(self) -> tuple[list[str], np.ndarray]:
        """Content ids, and what a blind classifier sees, of the known non-members."""
        # One at a time: decoded photographs would fill the memory.
        seen = [(image.id, describe(image)) for image in self.reference.images]
        return [sample for sample, _ in seen], np.array([look for _, look in seen])

    def to_dict(self, checks: Sequence[ImageCheck]) -> dict[str, Any]:
        """Answers as plain JSON-ready values, with the reference and the provenance once."""
        return {
            "images": [check.to_entry() for check in checks],
            "reference": None if self.reference is None else self.reference.to_dict(),
            "model": self.model.info.to_dict(),
            "attack": repr(self._verdict),
            "profile": repr(self._profile),
            "higher_score_means": "more likely a member",
            "provenance": provenance(device=self.model.device.type, precision=precision_of(self.model)),
        }


def remark_notes(remarks: dict[str, str]) -> tuple[str, ...]:
    """What must be said beside an answer, from what `mia_hub.scores.ScoreTable` remarks."""
    return tuple(f"{raised[:1].upper()}{raised[1:]}. {FLAGS[name][1]}" for name, raised in remarks.items())


def _copies_note(copies: int) -> str:
    return f"{copies} copies of images in the set were left out." if copies > 1 else "1 copy of another image in the set was left out."


def readable(sources: Sequence) -> tuple[list, list[str]]:
    """The images that can be read, and what is wrong with each of the others: one bad file must not cost the rest their answers."""
    good, problems = [], []
    for source in sources:
        try:
            open_image(source)
        except ImageError as error:
            problems.append(str(error))
        else:
            good.append(source)
    return good, problems


@lru_cache(maxsize=2)
def _kept(model: str, attack: Attack, options: frozenset) -> Checker:
    return Checker(model, attack, **dict(options))


def get_checker(model: str | DiffusionModel = "demo", attack: str | Attack = VERDICT_ATTACK, **options) -> Checker:
    """A `Checker`, with its options; one for a model's name alone is kept, so that the next image finds it ready."""
    if not isinstance(model, str) or any(options.get(name) is not None for name in NULL):
        return Checker(model, attack, **options)
    return _kept(model, get_attack(attack), frozenset((name, value) for name, value in options.items() if name not in (*NULL, "progress")))


def check_images(
    images,
    model: str | DiffusionModel = "demo",
    attack: str | Attack = VERDICT_ATTACK,
    *,
    captions=None,
    nonmembers=None,
    nonmember_captions=None,
    batch_size: int | None = None,
    seed: int = 0,
    device=None,
    dtype=None,
    revision: str | None = None,
    progress: bool = True,
) -> list[ImageCheck]:
    """Were these images in the model's training set? One answer each, judged together at a false-discovery rate of 5 %.

    Args:
        images: anything a person would pass: paths, a folder, PIL images, uint8 arrays, float tensors in [0, 1] as NCHW, a `datasets`
            column.
        model: "demo", a folder, a Hub id, or a DiffusionModel.
        attack: a name of `mia_hub.list_attacks`, or an Attack.
        captions: of a model conditioned on text, one per image or one for all; of one conditioned on classes, class indices. Empty ones
            by default.
        nonmembers: for any model but the demo: images that are certainly not in its training set, 99 or more, of the same kind, given
            as ``images`` are.
        nonmember_captions: theirs, where the images have captions.
        batch_size, seed: as for `mia_hub.Attack.score`.
        device, dtype, revision: as for `mia_hub.load_model`.
        progress: shows progress bars for anything over a second.

    Raises:
        MiaHubError: with a message for the user.
    """
    options = {
        "nonmembers": nonmembers, "nonmember_captions": nonmember_captions, "batch_size": batch_size, "seed": seed, "device": device,
        "dtype": dtype, "revision": revision, "progress": progress,
    }  # fmt: skip
    return get_checker(model, attack, **options).check(images, captions=captions, progress=progress)


def check_image(
    image,
    model: str | DiffusionModel = "demo",
    attack: str | Attack = VERDICT_ATTACK,
    *,
    captions=None,
    nonmembers=None,
    nonmember_captions=None,
    batch_size: int | None = None,
    seed: int = 0,
    device=None,
    dtype=None,
    revision: str | None = None,
    progress: bool = True,
) -> ImageCheck:
    """Was this image in the model's training set?

    Args:
        image: one of the things that `check_images` takes; the other arguments are the same.

    Returns:
        An ImageCheck: ``.p_value``, ``.verdict``, ``.sentence``, ``.comparable``, ``.profile``.
    """
    options = {
        "nonmembers": nonmembers, "nonmember_captions": nonmember_captions, "batch_size": batch_size, "seed": seed, "device": device,
        "dtype": dtype, "revision": revision, "progress": progress,
    }  # fmt: skip
    return check_images([image], model, attack, captions=captions, **options)[0]


def check_set(
    images,
    model: str | DiffusionModel = "demo",
    attack: str | Attack = VERDICT_ATTACK,
    *,
    captions=None,
    nonmembers=None,
    nonmember_captions=None,
    batch_size: int | None = None,
    seed: int = 0,
    device=None,
    dtype=None,
    revision: str | None = None,
    progress: bool = True,
) -> SetCheck:
    """Were these images, *as a set*, in the model's training data? Many weak scores make one strong answer (arXiv 2411.12858).

    Args:
        images: 5 different images or more; the arguments are those of `check_images`.
        nonmembers: for any model but the demo: images that are certainly not in its training set, from the same source as ``images``.

    Returns:
        A SetCheck: ``.p_value``, ``.verdict``, ``.sentence``, ``.fraction``, ``.more_needed``.

    Raises:
        MiaHubError: with a message for the user.
    """
    options = {
        "nonmembers": nonmembers, "nonmember_captions": nonmember_captions, "batch_size": batch_size, "seed": seed, "device": device,
        "dtype": dtype, "revision": revision, "progress": progress,
    }  # fmt: skip
    return get_checker(model, attack, **options).check_set(images, captions=captions, progress=progress)
