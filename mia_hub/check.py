"""Is this picture in the training set? One model, one attack and its reference images, made ready once and asked often."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from mia_hub.attacks import Attack, get_attack
from mia_hub.calibration import (
    ALPHA,
    CANNOT_TELL,
    FEWEST_NULL,
    NO_NULL,
    NOT_COMPARABLE,
    Band,
    ImageCheck,
    NullDistribution,
    Profile,
    adjusted,
    explain,
    judge,
    say,
)
from mia_hub.errors import ImageError, SplitError
from mia_hub.images import Picture, as_pictures, open_picture
from mia_hub.measurement import measure
from mia_hub.metrics.intervals import clopper_pearson
from mia_hub.models.loading import DEMO_FOLDER, load_model
from mia_hub.models.protocol import DiffusionModel, dtype_name
from mia_hub.report import Estimate, provenance
from mia_hub.scores import ScoreTable
from mia_hub.splits import Chosen, MemberSplit, load_split, split_hash
from mia_hub.validity import Comparability

# So few pictures are decoded once and kept; more are read again for each look, so that memory doesn't grow with their number.
KEPT_DECODED = 16


@dataclass(frozen=True, eq=False)
class Reference:
    """Known images of one model, scored by one attack: what a new picture is judged by.

    Attributes:
        table: their scores, with labels; its non-members are the null set.
        pictures: the non-members themselves, for the comparability check.
        timestep: at which verdicts are made.
        chosen: how that timestep was chosen.
        source: where the images come from.
    """

    table: ScoreTable
    pictures: Sequence[Picture]
    timestep: int
    chosen: str
    source: str

    @cached_property
    def null(self) -> NullDistribution:
        return NullDistribution.from_table(self.table, self.timestep)

    @cached_property
    def bands(self) -> tuple[Band | None, Band | None]:
        """Of members and of non-members."""
        return Band.of(self.table.scores[self.table.is_member == 1]), Band.of(self.table.scores[self.table.is_member == 0])

    @cached_property
    def power(self) -> Estimate | None:
        """Share of known members that reach p ≤ `ALPHA`; None where no members are known."""
        scores = self.table.at(self.timestep)[self.table.is_member == 1]
        if not len(scores):
            return None
        caught = sum(self.null.p_value(score) <= ALPHA for score in scores)
        return Estimate(caught / len(scores), *clopper_pearson(caught, len(scores)), len(scores), len(self.null))

    def to_dict(self) -> dict[str, Any]:
        members, nonmembers = (None if band is None else vars(band) for band in self.bands)
        return {
            "source": self.source,
            "n_nonmembers": len(self.null),
            "n_members": int((self.table.is_member == 1).sum()),
            "hash": split_hash(self.table.ids, self.table.is_member),
            "timestep": self.timestep,
            "timestep_chosen": self.chosen,
            "power_at_p_0.01": None if self.power is None else vars(self.power),
            "timesteps": self.table.timesteps.tolist(),
            "member_band": members,
            "nonmember_band": nonmembers,
        }


class Checker:
    """Answers "was this picture in the training set?" for one model.

    Args:
        model: a DiffusionModel, or what `mia_hub.load_model` takes.
        attack: a name or an Attack.
        nonmembers: pictures that are certainly not in the training set, and of the same kind as those to be checked. The demo
            model brings its own; for any other model there is no verdict without them.
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
        attack: str | Attack = "sima",
        *,
        nonmembers=None,
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
        self.attack.check(self.model)
        self._scoring = {"batch_size": batch_size, "seed": seed}
        self.reference = self._reference(nonmembers, progress, on_batch)

    def _reference(self, nonmembers, progress: bool, on_batch) -> Reference | None:
        source = "given pictures"
        if nonmembers is None:
            if self.model.info.id != "demo":
                return None
            split = load_split("demo")
            stored = demo_reference(split)
            if (stored.table.attack, stored.table.model["revision"], stored.table.precision) == (
                repr(self.attack),
                self.model.info.revision,
                dtype_name(self.model.dtype),
            ):
                return stored
            nonmembers, source = stored.pictures, stored.source
        pictures, copies = _distinct(as_pictures(nonmembers))
        if copies:
            source = f"{source} ({copies} copies left out)"
        if len(pictures) < FEWEST_NULL:
            raise SplitError(
                f"{len(pictures)} different pictures known not to be in the training set are too few; give at least {FEWEST_NULL}, better "
                f"{round(1 / ALPHA) - 1} or more: with n of them, p can't get below 1/(n + 1)."
            )
        table = self.attack.score(
            self.model,
            pictures,
            is_member=[0] * len(pictures),
            progress=progress,
            on_batch=on_batch,
            **self._scoring,
        )
        timestep = self.attack.default_timestep
        return Reference(table, pictures, timestep, f"t = {timestep}, the middle of the grid, fixed beforehand", source)

    @cached_property
    def comparability(self) -> Comparability | None:
        return None if self.reference is None else Comparability(self.reference.pictures, self.model.info.sample_shape)

    def check(self, images, *, progress: bool = True, on_batch: Callable[[int, int], None] | None = None) -> list[ImageCheck]:
        """One answer per picture; several are judged together, at a false-discovery rate of 5 %.

        Args:
            images: anything `mia_hub.images.as_pictures` takes.
            progress: shows a progress bar for anything over a second.
            on_batch: called with (pictures done, in all).

        Raises:
            ImageError: for a picture that can't be read.
        """
        pictures = as_pictures(images)
        if len(pictures) <= KEPT_DECODED:
            pictures = list(pictures)
        table = self.attack.score(self.model, pictures, progress=progress, on_batch=on_batch, **self._scoring)
        if self.reference is None:
            return [self._answer(pictures[i], table, i, None, None, None) for i in range(len(table))]
        comparable = [self.comparability(pictures[i]) for i in range(len(table))]
        scores = table.at(self.reference.timestep)
        p_values = [self.reference.null.p_value(s, i) if ok else None for s, i, ok in zip(scores, table.ids, comparable)]
        judged = [p for p in p_values if p is not None]
        q = iter(adjusted(judged)) if len(table) > 1 else iter([None] * len(judged))
        q_values = [None if p is None else next(q) for p in p_values]
        return [self._answer(pictures[i], table, i, comparable[i], p_values[i], q_values[i]) for i in range(len(table))]

    def _answer(self, picture: Picture, table: ScoreTable, row: int, comparable, p_value, q_value) -> ImageCheck:
        reference = self.reference
        timestep = self.attack.default_timestep if reference is None else reference.timestep
        members, nonmembers = (None, None) if reference is None else reference.bands
        score = float(table.at(timestep)[row])
        share, n_null, verdict = None, 0 if reference is None else len(reference.null), CANNOT_TELL
        if reference is None:
            verdict = NO_NULL
            sentence = f"No verdict is possible: no pictures are known that are certainly not in the training set of {self.model.info.id}."
        elif not comparable:
            verdict = NOT_COMPARABLE
            sentence = f"Not comparable with the reference images: it is unlike {n_null:,} pictures known not to be in the training set."
        else:
            share, n_null = reference.null.share_below(score, table.ids[row])
            verdict = judge(p_value, q_value)
            sentence = say(share, n_null, p_value, q_value)
        height, width = self.model.info.sample_shape[1:]
        scaled = (
            ()
            if (picture.height, picture.width) == (height, width)
            else (f"It was scaled from {picture.width}×{picture.height} to the model's {width}×{height} pixels, which changes its score.",)
        )
        return ImageCheck(
            name=picture.name,
            id=table.ids[row],
            verdict=verdict,
            sentence=sentence,
            caveats=explain(verdict, p_value, q_value, n_null, reference and reference.power),
            profile=Profile(tuple(table.timesteps.tolist()), tuple(table.scores[row].tolist()), members, nonmembers),
            timestep=timestep,
            score=score,
            p_value=p_value,
            q_value=None if q_value is None else float(q_value),
            share_below=share,
            n_null=n_null,
            comparable=comparable,
            notes=(*picture.notes, *scaled),
        )

    def to_dict(self, checks: Sequence[ImageCheck]) -> dict[str, Any]:
        """Answers as plain JSON-ready values, with the reference and the provenance once."""
        return {
            "images": [check.to_entry() for check in checks],
            "reference": None if self.reference is None else self.reference.to_dict(),
            "model": self.model.info.to_dict(),
            "attack": repr(self.attack),
            "higher_score_means": "more likely a member",
            "provenance": provenance(device=self.model.device.type, precision=dtype_name(self.model.dtype)),
        }


@lru_cache(maxsize=1)
def _demo_table() -> ScoreTable:
    return ScoreTable.from_parquet(DEMO_FOLDER / "scores.parquet")


def demo_reference(split: MemberSplit | None = None) -> Reference:
    """The demo model's reference: the part of its split that didn't choose the timestep, with its stored scores."""
    split = load_split("demo") if split is None else split
    measured = measure(_demo_table())
    table = _demo_table().select(measured.reported)
    rows = np.flatnonzero(measured.reported & (_demo_table().is_member == 0))
    pictures = Chosen(split.images, rows)
    return Reference(table, pictures, measured.selection["timestep"], measured.selection["description"], "the demo's non-members")


def _distinct(pictures: Sequence[Picture]) -> tuple[Sequence[Picture], int]:
    """The pictures without copies, and how many those were: a copy tells nothing new, and would make p-values too small."""
    first: dict[str, int] = {}
    for row, picture in enumerate(pictures):
        first.setdefault(picture.id, row)
    return Chosen(pictures, list(first.values())), len(pictures) - len(first)


def readable(sources: Sequence) -> tuple[list, list[str]]:
    """The pictures that can be read, and what is wrong with each of the others: one bad file must not cost the rest their answers."""
    good, problems = [], []
    for source in sources:
        try:
            open_picture(source)
        except ImageError as error:
            problems.append(str(error))
        else:
            good.append(source)
    return good, problems


@lru_cache(maxsize=2)
def _kept(model: str, attack: Attack, options: frozenset) -> Checker:
    return Checker(model, attack, **dict(options))


def get_checker(model: str | DiffusionModel = "demo", attack: str | Attack = "sima", *, nonmembers=None, **options) -> Checker:
    """A `Checker`; one for a model's name alone is kept, so that the next picture finds it ready."""
    if nonmembers is not None or not isinstance(model, str):
        return Checker(model, attack, nonmembers=nonmembers, **options)
    return _kept(model, get_attack(attack), frozenset((name, value) for name, value in options.items() if name != "progress"))


def check_images(
    images, model="demo", attack="sima", *, nonmembers=None, device=None, dtype=None, revision=None, progress: bool = True
) -> list[ImageCheck]:
    """Were these pictures in the model's training set? One answer each, judged together at a false-discovery rate of 5 %.

    Args:
        images: anything a person would pass: paths, PIL images, uint8 arrays, float tensors in [0, 1] as NCHW, a `datasets` column.
        model: "demo", a folder, a Hub id, or a DiffusionModel.
        attack: a name of `mia_hub.list_attacks`, or an Attack.
        nonmembers: for any model but the demo: pictures that are certainly not in its training set, 99 or more, of the same kind.

    Raises:
        MiaHubError: with a message for the user.
    """
    checker = get_checker(model, attack, nonmembers=nonmembers, device=device, dtype=dtype, revision=revision, progress=progress)
    return checker.check(images, progress=progress)


def check_image(image, model="demo", attack="sima", **options) -> ImageCheck:
    """Was this picture in the model's training set? As `check_images`, for one picture.

    Returns:
        An ImageCheck: ``.p_value``, ``.verdict``, ``.sentence``, ``.comparable``, ``.profile``.
    """
    return check_images([image], model, attack, **options)[0]
