"""Attacks that are fitted on images of known membership, and the rule that none scores what it was fitted on."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from mia_hub.attacks.base import Attack, Observations
from mia_hub.attacks.delegating import DeclaredBy
from mia_hub.attacks.progress import model_identity
from mia_hub.attacks.querying import QueriedModel
from mia_hub.errors import AttackError
from mia_hub.models.conditions import resolved_conditions
from mia_hub.models.noise import SampleNoise
from mia_hub.scores import UNKNOWN
from mia_hub.splits.member_split import captions_hash, split_hash
from mia_hub.splits.partition import calibration_part, folds

FOLDS = 5
FEWEST_PER_CLASS = 10

# What a fit returns: features [n, …] to scores float64 [n, T], higher = more likely a member.
Scorer = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class TrainedAttack(Attack):
    """An attack that learns from known images how to turn what the model shows of an image into a score.

    `score` needs labels. What is learnt is learnt on the calibration part alone (`mia_hub.splits.partition`, the part on which an
    audit chooses its timestep): images outside it are scored by what was fitted on all of it, images in it are scored by what was fitted
    on the other folds of it. So no image is scored by anything that has seen it, and no label outside the calibration part is used.

    To score images of unknown membership, `fit` it first.

    Attributes:
        learns_from: "both" members and non-members, or "nonmembers" alone.
    """

    needs_training: ClassVar[bool] = True
    learns_from: ClassVar[Literal["both", "nonmembers"]] = "both"

    @abstractmethod
    def features(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        """What the attack sees of each image, ``[N, …]``; the arguments are those of `Attack.statistic`."""

    @abstractmethod
    def learn(self, features: np.ndarray, is_member: np.ndarray, seed: int) -> Scorer:
        """Fits on some images.

        Args:
            features: ``[n, …]``.
            is_member: ``[n]``, 1 or 0; only 0 for an attack that learns from non-members.
            seed: of whatever is drawn.
        """

    def learn_images(self, features: np.ndarray, ids: Sequence[str], is_member: np.ndarray, seed: int) -> Scorer:
        """`learn`, for an attack that must know which rows are copies of one image, as one that fits parts of its own must."""
        return self.learn(features, is_member, seed)

    def learn_from(self, rows: np.ndarray, observed: np.ndarray, ids: Sequence[str], is_member: np.ndarray, seed: int) -> Scorer:
        """Fits on those of some rows, a mask ``[n]``, whose label the attack learns from."""
        rows = rows & self._learnable(is_member)
        return self.learn_images(observed[rows], [sample for sample, use in zip(ids, rows) if use], is_member[rows], seed)

    def statistic(self, model, x0, cond, noise) -> torch.Tensor:
        return self.features(model, x0, cond, noise)

    def check_labels(self, is_member: np.ndarray) -> None:
        self._refuse_few(is_member, 2 * FEWEST_PER_CLASS, ", which is fitted on one half of them and reported on the other")

    def _refuse_few(self, is_member: np.ndarray, fewest: int, why: str) -> None:
        counts = self._class_counts(is_member)
        if min(counts.values()) == 0:
            missing = " and ".join(what for what, n in counts.items() if not n)
            raise AttackError(
                f"The attack {self.name!r} is fitted on known {' and '.join(counts)}, and its calibration part has no {missing}: give "
                "is_member=…, 1 or 0 per image, or fit the attack beforehand with attack.fit(model, images, is_member)."
            )
        if min(counts.values()) < fewest:
            found = " and ".join(f"{n} {what}" for what, n in counts.items())
            raise AttackError(f"{found} are too few for the attack {self.name!r}{why}: {fewest} of each are needed at least.")

    def _class_counts(self, is_member: np.ndarray) -> dict[str, int]:
        counts = {"members": int((is_member == 1).sum()), "non-members": int((is_member == 0).sum())}
        return counts if self.learns_from == "both" else {"non-members": counts["non-members"]}

    def _learnable(self, is_member: np.ndarray) -> np.ndarray:
        return np.isin(is_member, (0, 1) if self.learns_from == "both" else (0,))

    def conclude(self, observed: np.ndarray, ids: Sequence[str], is_member: np.ndarray, seed: int) -> np.ndarray:
        calibration = calibration_part(ids, is_member, seed=seed)
        scorer = self.learn_from(calibration, observed, ids, is_member, seed)
        scores = np.empty((len(ids), len(self.columns)))
        scores[~calibration] = scorer(observed[~calibration])
        own = [sample for sample, inside in zip(ids, calibration) if inside]
        scores[calibration] = self.cross_fitted(observed[calibration], own, is_member[calibration], seed)
        return scores

    def cross_fitted(self, observed: np.ndarray, ids: Sequence[str], is_member: np.ndarray, seed: int) -> np.ndarray:
        """Scores ``[n, T]``, each by what was fitted on the folds that the image isn't in; copies of an image share a fold."""
        scores = np.empty((len(ids), len(self.columns)))
        fold = folds(ids, is_member, FOLDS, seed=seed)
        for k in range(FOLDS):
            judged = fold == k
            if judged.any():
                scores[judged] = self.learn_from(~judged, observed, ids, is_member, seed)(observed[judged])
        return scores

    def fit(self, model, images, is_member=None, *, captions=None, batch_size: int | None = None, seed: int = 0, progress: bool = True):
        """Fits on all the given images, to score others.

        Args:
            model, images, captions, batch_size, seed, progress: as for `score`.
            is_member: 1 or 0 per image; may be left out for an attack that learns from non-members, when all images are such.

        Returns:
            A `FittedAttack`.

        Raises:
            AttackError: with too few images of either kind.
        """
        if is_member is None and self.learns_from == "nonmembers":
            is_member = np.zeros(len(images), np.int8)
        self._refuse_few(np.full(len(images), UNKNOWN) if is_member is None else np.asarray(is_member), FEWEST_PER_CLASS, "")
        found = self.observe(model, images, captions=captions, batch_size=batch_size, seed=seed, is_member=is_member, progress=progress)
        learnable = self._learnable(found.is_member)
        used = [sample for sample, use in zip(found.ids, learnable) if use]
        scorer = self.learn_images(found.values[learnable], used, found.is_member[learnable], seed)
        return FittedAttack(
            timesteps=self.timesteps,
            attack=self,
            fitted_on=_fit_hash(model, found, learnable, captions),
            scorer=scorer,
            seen=frozenset(used),
        )


@dataclass(frozen=True, kw_only=True)
class FittedAttack(DeclaredBy, Attack):
    """A `TrainedAttack` with what it has learnt; it refuses to score the images that it was fitted on.

    Attributes:
        attack: the trained attack.
        fitted_on: hash of all that the fit depends on: images and labels, captions, model, precision and seed.
    """

    attack: TrainedAttack
    fitted_on: str
    scorer: Scorer = field(repr=False, compare=False)
    seen: frozenset[str] = field(repr=False)

    @property
    def base(self) -> TrainedAttack:
        return self.attack

    def at(self, timestep: int) -> Attack:
        return self

    def check(self, model, captions=None) -> None:
        self.attack.check(model, captions)

    def statistic(self, model, x0, cond, noise) -> torch.Tensor:
        known = self.seen.intersection(noise.ids)
        if known:
            raise AttackError(
                f"{len(known)} of these images are among those that the attack {self.attack.name!r} was fitted on; it would recognise its "
                "own training part. Leave them out, or call score with is_member on the unfitted attack, which cross-fits."
            )
        return self.attack.features(model, x0, cond, noise)

    def conclude(self, observed, ids, is_member, seed) -> np.ndarray:
        return self.scorer(observed)


def _fit_hash(model, found: Observations, learnable: np.ndarray, captions) -> str:
    """``sha256:…`` over what a fit depends on.

    Args:
        model: with which it was observed.
        found: what was seen of the images.
        learnable: bool ``[N]``, those that were learnt from.
        captions: as given to `TrainedAttack.fit`.
    """
    rows = np.flatnonzero(learnable)
    ids, (told, _) = [found.ids[row] for row in rows], resolved_conditions(model, captions, len(found.ids))
    identity = {
        "pictures": split_hash(ids, found.is_member[rows]),
        "captions": None if told is None else captions_hash(ids, (told[row] for row in rows)),
        "seed": found.seed,
        **model_identity(model),
    }
    if model.info.revision is None:  # it can only be told from its namesakes by what it answers
        identity["seen"] = hashlib.sha256(np.ascontiguousarray(found.values[rows]).tobytes()).hexdigest()
    return "sha256:" + hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def auc_of(scores: np.ndarray, is_member: np.ndarray) -> float:
    """The share of pairs in which the member scores higher, ties by half, from the sum of the members' ranks (Mann & Whitney 1947)."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    members = is_member == 1
    m, n = int(members.sum()), int((~members).sum())
    return float((ranks[members].sum() - m * (m + 1) / 2) / (m * n))
