"""Attacks that are fitted on images of known membership, and the rule that none scores an image that it was fitted on."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch

from mia_hub.attacks.base import Attack
from mia_hub.attacks.delegating import DerivedAttack
from mia_hub.attacks.identity import is_identified, model_identity
from mia_hub.attacks.querying import QueriedModel
from mia_hub.attacks.scoring import Observations
from mia_hub.errors import AttackError
from mia_hub.models.conditions import resolved_conditions
from mia_hub.models.noise import SampleNoise
from mia_hub.models.protocol import DiffusionModel
from mia_hub.scores import UNKNOWN
from mia_hub.splits.member_split import captions_hash, split_hash
from mia_hub.splits.partition import calibration_part, folds

FOLDS = 5
FEWEST_PER_CLASS = 10

# The result of a fit: maps features [n, …] to scores float64 [n, T], higher = more likely a member.
Scorer = Callable[[npt.NDArray[Any]], npt.NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class TrainedAttack(Attack):
    """An attack that learns, from images of known membership, a function from features of an image to its score.

    `score` needs labels. The attack is fitted on the calibration part alone (`mia_hub.splits.partition`, the part on which an audit
    chooses its timestep): images outside it are scored by a fit on all of it, images in it by a fit on its other folds. So no image is
    scored by a fit that it was part of, and no label outside the calibration part is used.

    To score images of unknown membership, `fit` it first.

    Attributes:
        learns_from: "both" members and non-members, or "nonmembers" alone.
        ordered: whether a fit depends on the order of its examples, so that they are put into that of their ids: a score must not depend
            on the order of the images.
    """

    needs_training: ClassVar[bool] = True
    learns_from: ClassVar[Literal["both", "nonmembers"]] = "both"
    ordered: ClassVar[bool] = False

    @abstractmethod
    def features(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        """Return the features of each image, ``[N, …]``; the arguments are those of `Attack.statistic`."""

    @abstractmethod
    def learn(self, features: npt.NDArray[Any], is_member: npt.NDArray[Any], seed: int) -> Scorer:
        """Fit on some images.

        Args:
            features: ``[n, …]``.
            is_member: ``[n]``, 1 or 0; only 0 for an attack that learns from non-members.
            seed: of random draws.
        """

    def learn_images(self, features: npt.NDArray[Any], ids: Sequence[str], is_member: npt.NDArray[Any], seed: int) -> Scorer:
        """Fit as `learn` does, with the images' content ids; for an attack that must recognise copies of an image."""
        if self.ordered:
            order = np.argsort(np.asarray(ids), kind="stable")
            features, is_member = features[order], is_member[order]
        return self.learn(features, is_member, seed)

    def learn_from(
        self, rows: npt.NDArray[np.bool_], observed: npt.NDArray[Any], ids: Sequence[str], is_member: npt.NDArray[Any], seed: int
    ) -> Scorer:
        """Fit on those of some rows, a mask ``[n]``, whose label the attack learns from."""
        rows = rows & self._learnable(is_member)
        return self.learn_images(observed[rows], [sample for sample, use in zip(ids, rows) if use], is_member[rows], seed)

    def statistic(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        return self.features(model, x0, cond, noise)

    def check_labels(self, is_member: npt.NDArray[Any]) -> None:
        self._refuse_few(is_member, 2 * FEWEST_PER_CLASS, ", which is fitted on one half of them and reported on the other")

    def _refuse_few(self, is_member: npt.NDArray[Any], fewest: int, why: str) -> None:
        counts = self._class_counts(is_member)
        if min(counts.values()) == 0:
            missing = " and ".join(name for name, n in counts.items() if not n)
            raise AttackError(
                f"The attack {self.name!r} is fitted on known {' and '.join(counts)}, and its calibration part has no {missing}: give "
                "is_member=…, 1 or 0 per image, or fit the attack beforehand with attack.fit(model, images, is_member)."
            )
        if min(counts.values()) < fewest:
            given = " and ".join(f"{n} {name}" for name, n in counts.items())
            raise AttackError(f"{given} are too few for the attack {self.name!r}{why}: at least {fewest} of each are needed.")

    def _class_counts(self, is_member: npt.NDArray[Any]) -> dict[str, int]:
        counts = {"members": int((is_member == 1).sum()), "non-members": int((is_member == 0).sum())}
        return counts if self.learns_from == "both" else {"non-members": counts["non-members"]}

    def _learnable(self, is_member: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        return np.isin(is_member, (0, 1) if self.learns_from == "both" else (0,))

    def conclude(self, observed: npt.NDArray[Any], ids: Sequence[str], is_member: npt.NDArray[Any], seed: int) -> npt.NDArray[np.float64]:
        calibration = calibration_part(ids, is_member, seed=seed)
        scorer = self.learn_from(calibration, observed, ids, is_member, seed)
        scores = np.empty((len(ids), len(self.columns)))
        scores[~calibration] = scorer(observed[~calibration])
        own = [sample for sample, inside in zip(ids, calibration) if inside]
        scores[calibration] = self.cross_fitted(observed[calibration], own, is_member[calibration], seed)
        return scores

    def cross_fitted(
        self, observed: npt.NDArray[Any], ids: Sequence[str], is_member: npt.NDArray[Any], seed: int
    ) -> npt.NDArray[np.float64]:
        """Return scores ``[n, T]``, each by a fit on the folds that the image isn't in; copies of an image share a fold."""
        scores = np.empty((len(ids), len(self.columns)))
        fold = folds(ids, is_member, FOLDS, seed=seed)
        for k in range(FOLDS):
            held_out = fold == k
            if held_out.any():
                scores[held_out] = self.learn_from(~held_out, observed, ids, is_member, seed)(observed[held_out])
        return scores

    def fit(
        self,
        model: DiffusionModel,
        images: Any,
        is_member: npt.ArrayLike | None = None,
        *,
        captions: Any = None,
        batch_size: int | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> FittedAttack:
        """Fit on all the given images, to score others.

        Args:
            model, images, captions, batch_size, seed, progress: as for `score`.
            is_member: 1 or 0 per image; may be left out for an attack that learns from non-members, if all images are non-members.

        Returns:
            The fitted attack, which refuses to score these images.

        Raises:
            AttackError: with too few images of either kind.
        """
        if is_member is None and self.learns_from == "nonmembers":
            is_member = np.zeros(len(images), np.int8)
        self._refuse_few(np.full(len(images), UNKNOWN) if is_member is None else np.asarray(is_member), FEWEST_PER_CLASS, "")
        observations = self.observe(
            model, images, captions=captions, batch_size=batch_size, seed=seed, is_member=is_member, progress=progress
        )
        learnable = self._learnable(observations.is_member)
        ids = [sample for sample, use in zip(observations.ids, learnable) if use]
        scorer = self.learn_images(observations.values[learnable], ids, observations.is_member[learnable], seed)
        return FittedAttack(
            timesteps=self.timesteps,
            attack=self,
            fitted_on=_fit_hash(self, model, observations, learnable, captions),
            scorer=scorer,
            fitted_ids=frozenset(ids),
        )


@dataclass(frozen=True, kw_only=True)
class FittedAttack(DerivedAttack):
    """A `TrainedAttack` after its fit; it refuses to score the images that it was fitted on.

    Attributes:
        attack: the trained attack.
        fitted_on: hash of all that the fit depends on: images and labels, captions, model, precision and seed.
        scorer: the result of the fit.
        fitted_ids: content ids of the images that it was fitted on.
    """

    attack: TrainedAttack
    fitted_on: str
    scorer: Scorer = field(repr=False, compare=False)
    fitted_ids: frozenset[str] = field(repr=False)

    @property
    def base(self) -> TrainedAttack:
        return self.attack

    def at(self, timestep: int) -> Attack:
        return self

    def check(self, model: DiffusionModel, captions: Sequence[Any] | None = None) -> None:
        self.attack.check(model, captions)

    def statistic(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        known = self.fitted_ids.intersection(noise.ids)
        if known:
            raise AttackError(
                f"{len(known)} of these images are among those that the attack {self.attack.name!r} was fitted on; it would recognise "
                "images that it was fitted on. Leave them out, or call score with is_member on the unfitted attack, which cross-fits."
            )
        return self.attack.features(model, x0, cond, noise)

    def conclude(self, observed: npt.NDArray[Any], ids: Sequence[str], is_member: npt.NDArray[Any], seed: int) -> npt.NDArray[np.float64]:
        return self.scorer(observed)


def _fit_hash(attack: Attack, model: DiffusionModel, observations: Observations, learnable: npt.NDArray[np.bool_], captions: Any) -> str:
    """``sha256:…`` over all that a fit depends on.

    Args:
        attack: that is fitted.
        model: the model that was observed.
        observations: of all images.
        learnable: mask ``[N]`` of the images that the attack was fitted on.
        captions: as given to `TrainedAttack.fit`.
    """
    rows = np.flatnonzero(learnable).tolist()
    ids = [observations.ids[row] for row in rows]
    conditions, _ = resolved_conditions(model, captions, len(observations.ids))
    identity = {
        "pictures": split_hash(ids, observations.is_member[rows]),
        "captions": None if conditions is None else captions_hash(ids, (conditions[row] for row in rows)),
        "seed": observations.seed,
        **model_identity(model, attack),
    }
    if not is_identified(model, attack):  # only its answers tell it from other models of the same name
        identity["seen"] = hashlib.sha256(np.ascontiguousarray(observations.values[rows]).tobytes()).hexdigest()
    return "sha256:" + hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
