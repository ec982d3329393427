"""Known images of one model, scored by one attack: the expensive part of a reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mia_hub.attacks import Attack
from mia_hub.attacks.conditional import ConditionalAttack
from mia_hub.auditing.measurement import measure
from mia_hub.errors import SplitError
from mia_hub.images.captions import select_rows
from mia_hub.images.image import InputImage
from mia_hub.images.sequences import SelectedSequence
from mia_hub.metrics.p_values import ENOUGH_NULL, FEWEST_NULL
from mia_hub.models.protocol import DiffusionModel
from mia_hub.references.unseen_by_base import check_unseen
from mia_hub.references.verdict_attack import profile_attack, verdict_attack, verdict_observations
from mia_hub.scores import ScoreTable
from mia_hub.splits.training_images import check_unseen_by_reference_models


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Different images of known membership.

    Attributes:
        images: N images.
        is_member: int8 ``[N]``, 1 or 0.
        captions: what the model is conditioned on, as for `mia_hub.Attack.score`.
    """

    images: Sequence[InputImage]
    is_member: npt.NDArray[np.int8]
    captions: Any = None

    def part(self, rows: npt.NDArray[np.int64]) -> LabelledImages:
        """Return the images in some rows."""
        single = self.captions is None or isinstance(self.captions, (str, int))
        captions = self.captions if single else select_rows(self.captions, rows)
        return LabelledImages(SelectedSequence(self.images, rows.tolist()), self.is_member[rows], captions)


@dataclass(frozen=True, eq=False)
class ScoredImages:
    """Known images as an attack observed them.

    Attributes:
        known: the images that answers are compared with.
        profiles, observations, chosen, timestep, timestep_chosen: as in `mia_hub.references.reference.Reference`.
        verdict_attack: identity of the attack that gives verdicts.
        queries: forward passes spent, counted in images.
    """

    known: LabelledImages
    profiles: ScoreTable
    observations: npt.NDArray[np.float64]
    verdict_attack: str
    chosen: dict[str, Any]
    timestep: int
    timestep_chosen: str
    queries: int


@dataclass(frozen=True, kw_only=True)
class ScoringRun:
    """How images are scored: see `mia_hub.Attack.score`."""

    batch_size: int | None = None
    seed: int = 0
    progress: bool = True
    on_batch: Callable[[int, int], None] | None = None
    resume: str | Path | None = None

    def options(self, known: LabelledImages) -> dict[str, Any]:
        """Return the arguments of `mia_hub.Attack.score` beside the model and the images."""
        return {"captions": known.captions, "is_member": known.is_member} | vars(self)


def check_enough(n_nonmembers: int) -> None:
    """Refuse too few non-members.

    Raises:
        SplitError: with fewer than 20.
    """
    if n_nonmembers < FEWEST_NULL:
        raise SplitError(
            f"{n_nonmembers} different known non-members are too few to compare images with; give at least {FEWEST_NULL}, better "
            f"{ENOUGH_NULL} or more: with n of them, p can't fall below 1/(n + 1)."
        )


def queries_per_image(attack: Attack, model: DiffusionModel, *, has_members: bool) -> int:
    """Return the forward passes that `score_known` spends on an image; without those of a choice among neighbours.

    Args:
        attack: that gives verdicts.
        model: that is queried.
        has_members: whether there are known members, on which the timestep is chosen.
    """
    queries = profile_attack(attack, model.info.num_train_timesteps).queries_on(model)
    if isinstance(attack, ConditionalAttack):
        queries += attack.at(attack.default_timestep).queries_on(model)
        queries += attack.queries_on(model) if has_members else 0
    return queries


def score_known(model: DiffusionModel, attack: Attack, known: LabelledImages, run: ScoringRun) -> ScoredImages:
    """Query a model for known images.

    With known members, the timestep, and what the attack chooses itself, are chosen on the calibration part, and the reference holds
    the rest. Without them, the timestep is the attack's default.

    Args:
        model: the model.
        attack: that gives verdicts.
        known: different images; at least 20 non-members.
        run: how they are scored.

    Raises:
        SplitError: with fewer than 20 non-members, all in all or in the reported part; or for some that the model's base, or for images
            that a reference model, is known to have been trained on, if the attack compares with it.
        MetricError: with known members that are too few to choose anything.
    """
    check_enough(int((known.is_member == 0).sum()))
    check_unseen(model, attack, [known.images[int(row)].id for row in np.flatnonzero(known.is_member == 0)] if attack.uses_base else [])
    if attack.uses_reference_models:
        check_unseen_by_reference_models(model, [image.id for image in known.images], known.is_member)
    profiles = profile_attack(attack, model.info.num_train_timesteps).score(model, known.images, **run.options(known))
    if (known.is_member == 1).any():
        choice = _chosen_on_members(model, attack, known, profiles, run)
    else:
        choice = _fixed_beforehand(model, attack, known)
    part, reported = known.part(choice.reported), profiles.select(choice.reported)
    if isinstance(attack, ConditionalAttack):
        verdict = verdict_attack(attack, choice.chosen, choice.timestep)
        observed = verdict.observe(model, part.images, **run.options(part))
        identity, observations, queries = repr(verdict), verdict_observations(verdict, observed), observed.queries
    else:
        identity, observations, queries = repr(attack), reported.at(choice.timestep), 0
    spent = profiles.queries + choice.queries + queries
    return ScoredImages(part, reported, observations, identity, choice.chosen, choice.timestep, choice.timestep_chosen, spent)


@dataclass(frozen=True, eq=False)
class _Choice:
    """How verdicts are made.

    Attributes:
        reported: rows of the images that answers are compared with, on which nothing was chosen.
        chosen, timestep, timestep_chosen: as in `ScoredImages`.
        queries: that the choice took.
    """

    reported: npt.NDArray[np.int64]
    chosen: dict[str, Any]
    timestep: int
    timestep_chosen: str
    queries: int = 0


def _fixed_beforehand(model: DiffusionModel, attack: Attack, known: LabelledImages) -> _Choice:
    """Return the attack's defaults: without known members, nothing is chosen by them."""
    chosen: dict[str, Any] = {}
    if isinstance(attack, ConditionalAttack):
        chosen, _ = attack.choose(model, known.images, known.is_member, captions=known.captions)
    timestep = attack.default_timestep
    return _Choice(np.arange(len(known.images)), chosen, timestep, f"t = {timestep}, the middle of the grid, fixed beforehand")


def _chosen_on_members(model: DiffusionModel, attack: Attack, known: LabelledImages, profiles: ScoreTable, run: ScoringRun) -> _Choice:
    """Choose on the calibration part; the other part is reported."""
    table, queries = profiles, 0
    if isinstance(attack, ConditionalAttack):
        table = attack.score(model, known.images, **run.options(known))
        queries = table.queries
    measured = measure(table, fitted=attack.has_learned(table.chosen), seed=run.seed)
    reported = np.flatnonzero(measured.reported)
    check_enough(int((known.is_member[reported] == 0).sum()))
    return _Choice(reported, table.chosen, measured.timestep, str(measured.selection["description"]), queries)
