"""The known non-members of one model, as one attack observes them: what a new image is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from mia_hub.attacks import Attack
from mia_hub.attacks.conditional import ConditionalAttack
from mia_hub.checking.comparability import Comparability
from mia_hub.checking.image_answers import Band
from mia_hub.checking.options import CaptionsOrClasses, ScoringOptions
from mia_hub.checking.verdict_attack import profile_attack, verdict_attack, verdict_observations
from mia_hub.errors import SplitError
from mia_hub.images.features import blind_features
from mia_hub.images.image import InputImage
from mia_hub.metrics.estimates import Estimate
from mia_hub.metrics.intervals import clopper_pearson
from mia_hub.metrics.p_values import ALPHA, FEWEST_NULL, ConditionalNull, Judgement, NullDistribution
from mia_hub.models.protocol import DiffusionModel
from mia_hub.scores import ScoreTable
from mia_hub.splits.member_split import distinct, split_hash


@dataclass(frozen=True, eq=False)
class Reference:
    """Known images of one model: what a new image is compared with.

    Attributes:
        profiles: their plain scores over the timesteps, with labels, for the bands of a plot.
        observations: of the verdict's attack at the verdict's timestep, one row per image of ``profiles``: float64 ``[n]`` scores, or
            ``[n, 1 + F]`` for a conditional attack. Those of the non-members are the null set.
        images: the non-members themselves, for the comparability checks.
        attack: identity of the verdict's attack.
        chosen: parameters that it chose, see `mia_hub.Attack.choose`.
        timestep: at which verdicts are made.
        timestep_chosen: how that timestep was chosen.
        source: where the images come from.
    """

    profiles: ScoreTable
    observations: npt.NDArray[np.float64]
    images: Sequence[InputImage]
    attack: str
    chosen: dict[str, Any]
    timestep: int
    timestep_chosen: str
    source: str

    @cached_property
    def null(self) -> NullDistribution | ConditionalNull:
        """The null set: what p-values are computed from."""
        if self.observations.ndim == 1:
            rows = np.flatnonzero(self.profiles.is_member == 0)
            return NullDistribution(self.observations[rows], tuple(self.profiles.ids[int(row)] for row in rows), self.timestep)
        return ConditionalNull.from_observations(self.profiles.ids, self.profiles.is_member, self.observations)

    @cached_property
    def bands(self) -> tuple[Band | None, Band | None]:
        """Bands of the scores of members and of non-members."""
        members, nonmembers = (Band.of(self.profiles.scores[self.profiles.is_member == label]) for label in (1, 0))
        return members, nonmembers

    @cached_property
    def labels_by_id(self) -> dict[str, int]:
        """Whether each known image is a member (1) or a non-member (0), by content id."""
        return dict(zip(self.profiles.ids, self.profiles.is_member.tolist()))

    @cached_property
    def members(self) -> tuple[Judgement, ...]:
        """The known members, each judged as any other image is."""
        return tuple(self.null.judge(row) for row in self.observations[self.profiles.is_member == 1])

    @cached_property
    def power(self) -> Estimate | None:
        """Share of known members that reach p ≤ `ALPHA`; None where no members are known."""
        if not self.members:
            return None
        recognised = sum(judged.p_value <= ALPHA for judged in self.members)
        interval = clopper_pearson(recognised, len(self.members))
        return Estimate(recognised / len(self.members), *interval, len(self.members), len(self.null))

    @cached_property
    def comparability(self) -> Comparability:
        """The check whether an image is of the known non-members' kind."""
        model = self.profiles.model
        channels, height, width = model.get("picture_shape", model["sample_shape"])
        return Comparability(self.images, (channels, height, width))

    @cached_property
    def nonmember_features(self) -> tuple[list[str], npt.NDArray[np.float64]]:
        """Content ids of the known non-members, and what a blind classifier sees of them: float64 ``[n, F]``."""
        # One image at a time: decoded photographs would fill the memory.
        described = [(image.id, blind_features(image)) for image in self.images]
        return [sample for sample, _ in described], np.array([features for _, features in described])

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values."""
        members, nonmembers = (None if band is None else vars(band) for band in self.bands)
        return {
            "source": self.source,
            "attack": self.attack,
            "n_nonmembers": len(self.null),
            "n_members": int((self.profiles.is_member == 1).sum()),
            "hash": split_hash(self.profiles.ids, self.profiles.is_member),
            "timestep": self.timestep,
            "timestep_chosen": self.timestep_chosen,
            "power_at_p_0.01": None if self.power is None else vars(self.power),
            "timesteps": self.profiles.timesteps.tolist(),
            "member_band": members,
            "nonmember_band": nonmembers,
        }


def score_nonmembers(
    model: DiffusionModel,
    attack: Attack,
    nonmembers: Sequence[InputImage],
    captions: CaptionsOrClasses,
    source: str,
    *,
    progress: bool = True,
    on_batch: Callable[[int, int], None] | None = None,
    **scoring: Unpack[ScoringOptions],
) -> Reference:
    """Query a model for its known non-members; copies count once.

    Args:
        model, nonmembers, captions, progress, on_batch, scoring: as for `mia_hub.Attack.score`.
        attack: that gives verdicts.
        source: where the images come from.

    Raises:
        SplitError: with fewer than 20 different images.
    """
    images, captions, copies = distinct(nonmembers, captions)
    if copies:
        source = f"{source}, {copies} copies left out"
    if len(images) < FEWEST_NULL:
        raise SplitError(
            f"{len(images)} different known non-members are too few to compare images with; give at least {FEWEST_NULL}, better "
            f"{round(1 / ALPHA) - 1} or more: with n of them, p can't fall below 1/(n + 1)."
        )
    labels = np.zeros(len(images), np.int8)
    profile = profile_attack(attack, model.info.num_train_timesteps)
    profiles = profile.score(model, images, captions=captions, is_member=labels, progress=progress, on_batch=on_batch, **scoring)
    chosen: dict[str, Any] = {}
    timestep = attack.default_timestep
    if isinstance(attack, ConditionalAttack):
        chosen, _ = attack.choose(model, images, labels, captions=captions)
        attack = verdict_attack(attack, chosen, timestep)
        observed = attack.observe(model, images, captions=captions, is_member=labels, progress=progress, on_batch=on_batch, **scoring)
        observations = verdict_observations(attack, observed)
    else:
        observations = profiles.at(timestep)
    timestep_chosen = f"t = {timestep}, the middle of the grid, fixed beforehand"
    return Reference(profiles, observations, images, repr(attack), chosen, timestep, timestep_chosen, source)
