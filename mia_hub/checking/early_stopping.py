"""When a image needs no further draws of SimA-MC: its verdict is reached, or can't be reached any more.

A image is looked at after some numbers of draws. Its p-value after each look compares the largest of its standardised scores so far with
the largest that each known non-member shows over *all* looks. The first is never above its own final value, so that the chance that a
non-member's p-value *ever* falls to α is at most α, whenever and for whatever reason one stops (a conformal version of Wald's
sequential test; the p-value is anytime-valid in the sense of Johari et al. 2022).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mia_hub.attacks.draw_by_draw import DrawByDraw
from mia_hub.attacks.sima import SimAMC
from mia_hub.checking.comparability import Comparability
from mia_hub.checking.image_answers import CANNOT_TELL, EVIDENCE, NOT_COMPARABLE
from mia_hub.errors import AttackError, MetricError
from mia_hub.images.image import InputImage
from mia_hub.images.sequences import Chosen
from mia_hub.images.sources import as_images
from mia_hub.metrics.p_values import ALPHA, FEWEST_NULL
from mia_hub.models.loading import load_model
from mia_hub.models.protocol import DiffusionModel
from mia_hub.splits.member_split import distinct
from mia_hub.splits.partition import calibration_mask

# Share of the non-members by which scores after different numbers of draws are made comparable; p-values come from the others.
STANDARDISED_BY = 0.2
FEWEST = math.ceil(FEWEST_NULL / (1 - STANDARDISED_BY))
# Share of images like the known non-members that may lose evidence which all draws would have given.
MISSED = 0.01


@dataclass(frozen=True, eq=False)
class EarlyStopping:
    """A rule to stop by, from known non-members that were given all draws. **Scores are higher when membership is more likely.**

    Attributes:
        looks: after how many draws a image is looked at, rising.
        centre, spread: float64 ``[K]``, by which a score after each look is standardised.
        null: float64 ``[n]``, each non-member's largest standardised score over all looks; rising.
        rise: float64 ``[K, K]``: by how much a score is expected to rise at most from one look to a later one; -inf elsewhere.
        alpha: of evidence.
    """

    looks: tuple[int, ...]
    centre: np.ndarray
    spread: np.ndarray
    null: np.ndarray
    rise: np.ndarray
    alpha: float = ALPHA

    @classmethod
    def fitted(
        cls, scores: np.ndarray, ids: Sequence[str], looks: Sequence[int], *, alpha: float = ALPHA, missed: float = MISSED
    ) -> EarlyStopping:
        """From the scores of known non-members.

        Args:
            scores: float64 ``[N, K]``, after each look.
            ids: their content ids, N different ones: a copy would make p-values too small.
            looks: K numbers of draws, rising.
            alpha: the largest p-value that is evidence.
            missed: the largest share of images like these, non-members, that may lose, by stopping, evidence that all draws would have
                given. Of members, whose scores may rise otherwise, more may lose theirs.

        Raises:
            MetricError: with fewer than 25 non-members, or where a score varies with no image.
        """
        _check_enough(len(ids))
        own = calibration_mask(ids, fraction=STANDARDISED_BY)
        centre, spread = scores[own].mean(0), scores[own].std(0, ddof=1)
        if not (spread > 0).all():
            raise MetricError("The known non-members all have the same score, so nothing can be compared with them.")
        path = (scores - centre) / spread
        null = np.sort(path[~own].max(1))
        return cls(tuple(looks), centre, spread, null, _highest_rise(scores, own, missed), alpha)

    def p_values(self, largest: np.ndarray) -> np.ndarray:
        """Conformal and anytime-valid, ``[N]``, of the largest standardised scores so far ``[N]``."""
        reach = len(self.null) - np.searchsorted(self.null, largest, side="left")
        return (1 + reach) / (len(self.null) + 1)

    @property
    def threshold(self) -> float:
        """The standardised score that is evidence; infinite where the non-members are too few for any."""
        allowed = math.floor(self.alpha * (len(self.null) + 1)) - 1
        return float(np.nextafter(self.null[-1 - allowed], np.inf)) if allowed >= 0 else math.inf

    def standardised(self, scores: np.ndarray, look: int | slice) -> np.ndarray:
        """Scores after a look, or after each of several, comparable over looks."""
        return (scores - self.centre[look]) / self.spread[look]

    def stop(self, scores: np.ndarray) -> np.ndarray:
        """Which images need no further draws, ``[N]``, from their scores so far ``[N, looks so far]``."""
        return self.verdicts(scores) != ""

    def verdicts(self, scores: np.ndarray) -> np.ndarray:
        """Verdicts ``[N]`` that further draws would not change, or "", from scores so far ``[N, looks so far]``."""
        look = scores.shape[1] - 1
        path = np.stack([self.standardised(scores[:, k], k) for k in range(look + 1)], 1)
        largest = path.max(1)
        last = look == len(self.looks) - 1
        # By the image's own score, not the standardised one: what more draws add is noise of theirs, while spreads shrink with it.
        reach = self.standardised(scores[:, [look]] + self.rise[look], slice(None)).max(1)
        hopeless = (np.maximum(largest, reach) < self.threshold) | (self.threshold == math.inf)
        return np.where(self.p_values(largest) <= self.alpha, EVIDENCE, np.where(hopeless | last, CANNOT_TELL, ""))


def _highest_rise(scores: np.ndarray, own: np.ndarray, missed: float) -> np.ndarray:
    """``[K, K]``: what the rises of a score from one look to later ones all stay below, but for a share of images like these.

    Args:
        scores: float64 ``[N, K]``, after each look.
        own: mask ``[N]`` of the images by which rises are made comparable.
        missed: the share.
    """
    n, k = scores.shape
    first, later = np.triu_indices(k, 1)
    found = np.full((k, k), -np.inf)
    rises = scores[:, later] - scores[:, first]
    centre, unit = rises[own].mean(0), np.maximum(rises[own].std(0, ddof=1), 1e-12)
    rank = math.ceil((1 - missed) * (n + 1))
    if rank > n:
        found[first, later] = np.inf
    elif len(first):
        found[first, later] = centre + unit * np.sort(((rises - centre) / unit).max(1))[rank - 1]
    return found


@dataclass(frozen=True)
class EarlyCheck:
    """The answer for one image.

    Attributes:
        id: content id of the image.
        verdict: "evidence", "cannot-tell", or "not-comparable" for a image of another kind than the known non-members; it isn't scored.
        p_value: conformal and anytime-valid, in (0, 1]; None where not comparable.
        score: the largest standardised score; higher = more likely a member; None where not comparable.
        draws: that it took.
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
        attack: with one timestep; its ``draws`` are the most that a image costs.
        looks: after how many draws a image is looked at; doubling from 2, by default.
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
        nonmembers,
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
            raise AttackError(f"Draws are saved at one timestep; got {attack.timesteps!r}.")
        self.model, self._scoring = load_model(model), {"batch_size": batch_size, "seed": seed, "progress": progress}
        self._attack = DrawByDraw(timesteps=attack.timesteps, attack=attack, looks=tuple(looks or doubling(attack.draws)))
        self._attack.check(self.model)
        references, _, _ = distinct(as_images(nonmembers))
        _check_enough(len(references))
        self.comparability = Comparability(references, self.model.info.picture_shape, progress=progress)
        found = self._attack.observe(self.model, references, **self._scoring)
        self.rule = EarlyStopping.fitted(found.values[:, :-1], found.ids, self._attack.looks, alpha=alpha, missed=missed)

    def check(self, images) -> list[EarlyCheck]:
        """Answers for images, each by itself: with many, some of those never used get evidence by chance.

        A non-member that the rule was made from is compared with itself, too.
        """
        inputs = as_images(images)
        alike = [self.comparability(image) for image in inputs]
        scored = iter(self._scored(Chosen(inputs, [row for row, ok in enumerate(alike) if ok])) if any(alike) else ())
        return [next(scored) if ok else EarlyCheck(image.id, NOT_COMPARABLE, None, None, 0) for image, ok in zip(inputs, alike)]

    def _scored(self, images: Sequence[InputImage]) -> list[EarlyCheck]:
        """Answers for images that can be compared."""
        found = replace(self._attack, stop=self.rule.stop).observe(self.model, images, **self._scoring)
        return [
            EarlyCheck(sample, *self._answer(values[:-1], int(values[-1])), int(values[-1]))
            for sample, values in zip(found.ids, found.values)
        ]

    def _answer(self, scores: np.ndarray, draws: int) -> tuple[str, float, float]:
        """Verdict, p-value and score of one image, from what was seen of it."""
        rule, seen = self.rule, self.rule.looks.index(draws) + 1
        largest = max(rule.standardised(scores[k], k) for k in range(seen))
        p_value = float(rule.p_values(np.array([largest]))[0])
        return EVIDENCE if p_value <= rule.alpha else CANNOT_TELL, p_value, float(largest)


def _check_enough(nonmembers: int) -> None:
    if nonmembers < FEWEST:
        raise MetricError(f"{nonmembers} different known non-members are too few to stop early by; at least {FEWEST} are needed.")


def doubling(draws: int) -> tuple[int, ...]:
    """2, 4, 8, … and at last the number of draws."""
    return (*(2**k for k in range(1, draws.bit_length()) if 2**k < draws), draws)
