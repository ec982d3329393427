"""The two roles of a checker's attack: a profile over the timesteps, and the verdict at one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mia_hub.attacks import Attack, get_attack
from mia_hub.attacks.conditional import ConditionalAttack
from mia_hub.attacks.copies import CopiesAttack
from mia_hub.attacks.learning import TrainedAttack
from mia_hub.attacks.scoring import Observations
from mia_hub.defaults import (
    COPIES_ATTACK,
    COPIES_ATTACK_GIVEN_BASE_ON_LATENTS,
    COPIES_ATTACK_ON_LATENTS,
    VERDICT_ATTACK,
    VERDICT_ATTACK_GIVEN_BASE,
    VERDICT_ATTACK_GIVEN_BASE_ON_LATENTS,
    VERDICT_ATTACK_ON_LATENTS,
)
from mia_hub.errors import AttackError
from mia_hub.metrics.candidates import CandidateJudgement, CandidatesNull
from mia_hub.metrics.p_values import ConditionalNull, Judgement, NullDistribution
from mia_hub.models.bases import came_with_base
from mia_hub.models.protocol import DiffusionModel


@dataclass(frozen=True)
class DefaultAttack:
    """The default attack of verdicts with some of its parameters set. Which attack that is depends on the model.

    Attributes:
        parameters: names and values.
    """

    parameters: tuple[tuple[str, Any], ...]


def requested_attack(request: str | Attack | DefaultAttack | None, model: DiffusionModel, *, base_given: bool | None) -> Attack | None:
    """Return the attack that was requested for a model; None where none was."""
    if isinstance(request, DefaultAttack):
        return default_verdict_attack(model, base_given=base_given, **dict(request.parameters))
    return None if request is None else get_attack(request)


def default_verdict_attack(model: DiffusionModel, *, base_given: bool | None = None, copies: bool = False, **parameters: Any) -> Attack:
    """Return the attack that gives verdicts where none is named.

    Args:
        model: that is checked.
        base_given: whether the attack is to be given a base; by default, if the model was loaded with one, such as that under a LoRA.
        copies: whether the images may be altered copies of training images. On models of pixels, no attack on these is given a base.
        parameters: of the attack, where they aren't its defaults.
    """
    # A base that would have to be fetched first is used only on request: it may be large, or out of reach.
    given = came_with_base(model) if base_given is None else base_given
    if model.info.on_pixels:
        name = COPIES_ATTACK if copies else VERDICT_ATTACK_GIVEN_BASE if given else VERDICT_ATTACK
    elif copies:
        name = COPIES_ATTACK_GIVEN_BASE_ON_LATENTS if given else COPIES_ATTACK_ON_LATENTS
    else:
        name = VERDICT_ATTACK_GIVEN_BASE_ON_LATENTS if given else VERDICT_ATTACK_ON_LATENTS
    return get_attack(name, **parameters)


def check_usable(attack: Attack) -> None:
    """Refuse an attack that gives no verdict on a single image.

    Raises:
        AttackError: for an attack that must be fitted on known members first.
    """
    if isinstance(attack, TrainedAttack) and not isinstance(attack, ConditionalAttack):
        both = attack.learns_from == "both"
        why, given = ("members too, and a check has none", "images, is_member") if both else ("non-members", "nonmembers")
        raise AttackError(
            f"The attack {attack.name!r} is fitted on known {why}. Fit it first, with attack.fit(model, {given}), and pass the fitted "
            "attack; or choose another attack."
        )


def profile_attack(attack: Attack, num_train_timesteps: int) -> Attack:
    """Return the attack whose scores over the timesteps are shown, without timesteps outside a short schedule."""
    if not isinstance(attack, ConditionalAttack):
        return attack
    profile, last = attack.profile, num_train_timesteps - 1
    return profile if profile.timesteps[-1] <= last else replace(profile, timesteps=tuple(t for t in profile.timesteps if t <= last))


def verdict_attack(attack: Attack, chosen: Mapping[str, Any], timestep: int) -> Attack:
    """Return the attack that gives verdicts, with the parameters that it chose, at their timestep alone."""
    return attack.with_chosen(dict(chosen)).at(timestep)


def verdict_observations(attack: Attack, observations: Observations) -> npt.NDArray[np.float64]:
    """Return what verdicts are made from: ``[n, O]`` for a conditional attack, or scores ``[n]``.

    O is 1 + F, or K·(1 + F) for the K candidates of `mia_hub.attacks.copies.CopiesAttack`.

    Args:
        attack: as `verdict_attack` returns it.
        observations: by this attack.
    """
    values: npt.NDArray[np.float64]
    if isinstance(attack, ConditionalAttack):
        values = observations.values[:, 0].reshape(len(observations.ids), -1)
    else:
        values = attack.conclude(observations.values, observations.ids, observations.is_member, observations.seed)[:, 0]
    return values


def null_set(
    attack: Attack, ids: Sequence[str], is_member: npt.NDArray[Any], observations: npt.NDArray[np.float64], timestep: int
) -> NullDistribution | ConditionalNull | CandidatesNull:
    """Return the null set that the non-members among known images make.

    Args:
        attack: that gives verdicts.
        ids: content ids, N of them.
        is_member: ``[N]``, 0 for a non-member.
        observations: of the images, as `verdict_observations` returns them.
        timestep: at which verdicts are made.

    Raises:
        MetricError: with fewer than 20 non-members.
    """
    if isinstance(attack, CopiesAttack):
        return CandidatesNull.from_observations(ids, is_member, observations, attack.weights)
    if isinstance(attack, ConditionalAttack):
        return ConditionalNull.from_observations(ids, is_member, observations)
    rows = np.flatnonzero(is_member == 0)
    return NullDistribution(observations[rows], tuple(ids[int(row)] for row in rows), timestep)


def winner(attack: Attack, judged: Judgement) -> str | None:
    """Return which candidate of an image looks most like a training image, in words; None where only the image itself was judged."""
    if isinstance(attack, CopiesAttack) and isinstance(judged, CandidateJudgement) and judged.searched:
        return attack.words[judged.candidate]
    return None


def untouched(attack: Attack, observations: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return what of `verdict_observations` is of the images as they are: without the other candidates of an attack that has them."""
    if not isinstance(attack, CopiesAttack):
        return observations
    return observations[:, : observations.shape[1] // len(attack.weights)]
