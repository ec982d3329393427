"""SimA-MC with no more draws than an answer needs: stop when the verdict is reached, or can't be reached any more.

An image is looked at after some numbers of draws. Its p-value after each look compares the largest of its standardised scores so far with
the largest that each known non-member shows over *all* looks. The first is never above its own final value, so the chance that a
non-member's p-value *ever* falls to α is at most α, whenever and for whatever reason one stops (a conformal version of Wald's
sequential test; the p-value is anytime-valid in the sense of Johari et al. 2022).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mia_hub.attacks.draw_by_draw import DrawByDraw
from mia_hub.attacks.sima import SimAMC
from mia_hub.checking.verdicts import CANNOT_TELL, EVIDENCE, NOT_COMPARABLE
from mia_hub.errors import AttackError, MetricError
from mia_hub.images.image import InputImage
from mia_hub.images.sequences import SelectedSequence
from mia_hub.images.sources import as_images
from mia_hub.metrics.p_values import ALPHA, FEWEST_NULL
from mia_hub.models.loading import load_model
from mia_hub.models.protocol import DiffusionModel
from mia_hub.references.comparability import Comparability
from mia_hub.references.options import ScoringOptions
from mia_hub.splits.member_split import distinct
from mia_hub.splits.partition import calibration_mask

# Share of the non-members that makes scores after different numbers of draws comparable; p-values come from the others.
STANDARDISED_BY = 0.2
FEWEST_TO_STOP_BY = math.ceil(FEWEST_NULL / (1 - STANDARDISED_BY))
# Share of images like the known non-members that may lose evidence which all draws would have given.
MISSED = 0.01

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class EarlyStopping:
    """A rule for when to stop, from known non-members that were given all draws. **Higher score = more likely a member.**

    Attributes:
        looks: numbers of draws after which an image is looked at, rising; K of them.
        centre, spread: float64 ``[K]``, by which a score after each look is standardised.
        null: float64 ``[n]``, each non-member's largest standardised score over all looks; rising.
        rise: float64 ``[K, K]``: by how much a score is expected to rise at most from one look to a later one; -inf elsewhere.
        alpha: the largest p-value that is evidence.
    """

    looks: tuple[int, ...]
    centre: Floats
    spread: Floats
    null: Floats
    rise: Floats
    alpha: float = ALPHA

    @classmethod
    def fitted(
        cls, scores: Floats, ids: Sequence[str], looks: Sequence[int], *, alpha: float = ALPHA, missed: float = MISSED
    ) -> EarlyStopping:
        """Fit a rule to the scores of known non-members.

        Args:
            scores: float64 ``[N, K]``, after each look.
            ids: their content ids, N different ones: a copy would make p-values too small.
            looks: K numbers of draws, rising.
            alpha: the largest p-value that is evidence.
            missed: the largest share of images like these, non-members, that may lose, by stopping, evidence that all draws would have
                given. Of members, whose scores may rise otherwise, more may lose theirs.

        Raises:
            MetricError: with fewer than 25 non-members, or where all images have the same score.
        """
        _check_enough(len(ids))
        own = calibration_mask(ids, fraction=STANDARDISED_BY)
        centre, spread = scores[own].mean(0), scores[own].std(0, ddof=1)
        if not (spread > 0).all():
            raise MetricError("The known non-members all have the same score, so nothing can be compared with them.")
        path = (scores - centre) / spread
        null = np.sort(path[~own].max(1))
        return cls(tuple(looks), centre, spread, null, _highest_rise(scores, own, missed), alpha)

    def p_values(self, largest: Floats) -> Floats:
        """Return conformal, anytime-valid p-values ``[N]`` of the largest standardised scores so far ``[N]``."""
        reach = len(self.null) - np.searchsorted(self.null, largest, side="left")
        p: Floats = (1 + reach) / (len(self.null) + 1)
        return p

    @property
    def threshold(self) -> float:
        """The standardised score that is evidence; infinite where the non-members are too few for any."""
        allowed = math.floor(self.alpha * (len(self.null) + 1)) - 1
        return float(np.nextafter(self.null[-1 - allowed], np.inf)) if allowed >= 0 else math.inf

    def standardised(self, scores: Floats, look: int | slice) -> Floats:
        """Return scores after a look, or after each of several, that are comparable over looks."""
        standardised: Floats = (scores - self.centre[look]) / self.spread[look]
        return standardised

    def stop(self, scores: Floats) -> npt.NDArray[np.bool_]:
        """Return which images need no further draws, ``[N]``, from their scores so far ``[N, looks so far]``."""
        return np.asarray(self.verdicts(scores) != "")

    def verdicts(self, scores: Floats) -> npt.NDArray[np.str_]:
        """Return verdicts ``[N]`` that further draws would not change, or "", from scores so far ``[N, looks so far]``."""
        look = scores.shape[1] - 1
        path = np.stack([self.standardised(scores[:, k], k) for k in range(look + 1)], 1)
        largest = path.max(1)
        is_last = look == len(self.looks) - 1
        # By the image's own score, not the standardised one: further draws add noise to the score, while the spread shrinks with it.
        reach = self.standardised(scores[:, [look]] + self.rise[look], slice(None)).max(1)
        hopeless = (np.maximum(largest, reach) < self.threshold) | (self.threshold == math.inf)
        return np.where(self.p_values(largest) <= self.alpha, EVIDENCE, np.where(hopeless | is_last, CANNOT_TELL, ""))


def _highest_rise(scores: Floats, own: npt.NDArray[np.bool_], missed: float) -> Floats:
    """Return ``[K, K]``, a bound on the rise of a score from one look to a later one, for all but a share of images like these.

    Args:
        scores: float64 ``[N, K]``, after each look.
        own: mask ``[N]`` of the images that make rises comparable.
        missed: the share.
    """
    n, k = scores.shape
    first, later = np.triu_indices(k, 1)
    highest = np.full((k, k), -np.inf)
    rises = scores[:, later] - scores[:, first]
    centre, unit = rises[own].mean(0), np.maximum(rises[own].std(0, ddof=1), 1e-12)
    rank = math.ceil((1 - missed) * (n + 1))
    if rank > n:
        highest[first, later] = np.inf
    elif len(first):
        highest[first, later] = centre + unit * np.sort(((rises - centre) / unit).max(1))[rank - 1]
    return highest


@dataclass(frozen=True)
class EarlyCheck:
    """The answer for one image.

    Attributes:
        id: content id of the image.
        verdict: "evidence", "cannot-tell", or "not-comparable" for an image of another kind than the known non-members; it isn't scored.
        p_value: conformal and anytime-valid, in (0, 1]; None where not comparable.
        score: the largest standardised score; higher = more likely a member; None where not comparable.
        draws: number of draws that it took.
    """

    id: str
    verdict: str
    p_value: float | None
    score: float | None
    draws: int


class EarlyChecker:
    """Answers "was this image in the training set?" by SimA-MC with no more draws than the answer needs.

    Args:
        model: a DiffusionModel, or what `mia_hub.load_model` takes.
        nonmembers: at least 25 different images that are certainly not in the training set, of the same kind as those to be checked;
            125 or more, for evidence at p ≤ .01. They are given all draws, once; copies count once.
        attack: with one timestep; its ``draws`` are the most that an image costs.
        looks: numbers of draws after which an image is looked at; doubling from 2, by default.
        alpha, missed: see `EarlyStopping.fitted`.
        batch_size, seed: as for `mia_hub.Attack.score`.
        progress: shows progress bars.

    Raises:
        AttackError: for more than one timestep.
        MetricError: with fewer than 25 different non-members.
    """

    def __init__(
        self,
        model: str | DiffusionModel,
        nonmembers: Any,
        attack: SimAMC,
        *,
        looks: Sequence[int] | None = None,
        alpha: float = ALPHA,
        missed: float = MISSED,
        batch_size: int | None = None,
        seed: int = 0,
        progress: bool = True,
    ):
        if len(attack.timesteps) != 1:
            raise AttackError(f"Early stopping saves draws at one timestep; got {attack.timesteps!r}. Give the attack one timestep.")
        self.model: DiffusionModel = load_model(model)
        self._scoring: ScoringOptions = {"batch_size": batch_size, "seed": seed}
        self._progress = progress
        self._attack = DrawByDraw(timesteps=attack.timesteps, attack=attack, looks=tuple(looks or doubling(attack.draws)))
        self._attack.check(self.model)
        references, _, _ = distinct(as_images(nonmembers))
        _check_enough(len(references))
        self.comparability = Comparability.fitted(references, self.model.info.picture_shape, progress=progress)
        observed = self._attack.observe(self.model, references, progress=progress, **self._scoring)
        self.rule = EarlyStopping.fitted(observed.values[:, :-1], observed.ids, self._attack.looks, alpha=alpha, missed=missed)

    def check(self, images: Any) -> list[EarlyCheck]:
        """Return one answer per image, each by itself: among many images, some that were never used get evidence by chance.

        A non-member that the rule was made from is compared with itself, too.

        Args:
            images: anything `mia_hub.images.sources.as_images` takes.

        Raises:
            ImageError: for an image that can't be read.
        """
        inputs = as_images(images)
        comparable = [self.comparability(image) for image in inputs]
        answers = iter(self._answers(SelectedSequence(inputs, np.flatnonzero(comparable).tolist())) if any(comparable) else ())
        return [next(answers) if ok else EarlyCheck(image.id, NOT_COMPARABLE, None, None, 0) for image, ok in zip(inputs, comparable)]

    def _answers(self, images: Sequence[InputImage]) -> list[EarlyCheck]:
        """Return answers for comparable images."""
        attack = replace(self._attack, stop=self.rule.stop)
        observed = attack.observe(self.model, images, progress=self._progress, **self._scoring)
        return [self._answer(sample, values[:-1], int(values[-1])) for sample, values in zip(observed.ids, observed.values)]

    def _answer(self, sample: str, scores: Floats, draws: int) -> EarlyCheck:
        """Return the answer for one image, from its scores ``[K]`` after each look."""
        rule = self.rule
        largest = max(float(rule.standardised(scores[k], k)) for k in range(rule.looks.index(draws) + 1))
        p_value = float(rule.p_values(np.array([largest]))[0])
        return EarlyCheck(sample, EVIDENCE if p_value <= rule.alpha else CANNOT_TELL, p_value, largest, draws)


def _check_enough(n_nonmembers: int) -> None:
    if n_nonmembers < FEWEST_TO_STOP_BY:
        raise MetricError(
            f"{n_nonmembers} different known non-members are too few for early stopping; at least {FEWEST_TO_STOP_BY} are needed."
        )


def doubling(draws: int) -> tuple[int, ...]:
    """Return 2, 4, 8, … and at last the number of draws."""
    return (*(2**k for k in range(1, draws.bit_length()) if 2**k < draws), draws)
