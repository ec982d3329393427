"""Conformal p-values of scores against a null set: images known not to be in the training set.

Sources:
    Vovk, Gammerman & Shafer 2005, "Algorithmic Learning in a Random World": conformal p-values, and full conformal prediction, in which
    the score function is fitted on the known examples and the new one together.
    Papadopoulos, Proedrou, Vovk & Gammerman 2002; Lei, G'Sell, Rinaldo, Tibshirani & Wasserman 2018: split (inductive) conformal
    prediction, in which it is fitted on other examples.
    Benjamini & Hochberg 1995: the step-up procedure, for independent p-values; Benjamini & Yekutieli 2001: for positively dependent ones
    (PRDS); Bates et al. 2023: split conformal p-values against one null set are so. Blanchard & Roquain 2008: other critical values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mia_hub.errors import MetricError
from mia_hub.metrics.calibration_conditional import holds_for_reference
from mia_hub.metrics.expected_statistic import ExpectedStatistic
from mia_hub.scores import ScoreTable

# A p-value at or below it is evidence; the same for the app, the scripts and the command line.
ALPHA = 0.01
# With fewer known non-members, no p-value can fall to `ALPHA`.
ENOUGH_NULL = round(1 / ALPHA) - 1
# Tolerated share of false discoveries, where several images are checked together.
FALSE_DISCOVERY_RATE = 0.05
FEWEST_NULL = 20
# What a p-value holds for: this reference, with 95 % confidence, or the average over references.
Calibration = Literal["conditional", "marginal"]
CONDITIONAL: Calibration = "conditional"
MARGINAL: Calibration = "marginal"


@dataclass(frozen=True)
class Judgement:
    """A score compared with the null set: the scores of images known *not* to be in the training set.

    Attributes:
        score: higher = more likely a member.
        p_marginal: conformal p-value in [1/(n+1), 1], which holds on average over references.
        p_conditional: p-value that holds for this reference with 95 % confidence (`mia_hub.metrics.calibration_conditional`); None where
            the score function was fitted on the null set, so that there is none.
        share_below: share of the null set with a lower score.
        n: size of the null set.
        calibration: which of the two p-values decides.
    """

    score: float
    p_marginal: float
    p_conditional: float | None
    share_below: float
    n: int
    calibration: Calibration = MARGINAL

    @property
    def p_value(self) -> float:
        """The p-value that decides."""
        if self.calibration == MARGINAL:
            return self.p_marginal
        assert self.p_conditional is not None, "this null set has no p-values that hold for it alone"
        return self.p_conditional

    @classmethod
    def among(cls, score: float, null: npt.NDArray[np.float64], *, fixed: bool = True) -> Judgement:
        """Compare a score with the null scores ``[n]``: ``p = (1 + #{null ≥ score})/(n + 1)``, uniform or larger for a non-member of the
        same kind, on average over null sets (Vovk et al. 2005).

        Args:
            fixed: whether the score function is the same whatever the null images and the image are.

        Raises:
            MetricError: for a score that is not finite.
        """
        if not np.isfinite(score):
            raise MetricError(f"A p-value needs a finite score; got {score}.")
        reach, n = int((null >= score).sum()), len(null)
        p = (1 + reach) / (n + 1)
        return cls(float(score), p, holds_for_reference(p, n) if fixed else None, (n - reach) / n, n)


def null_rows(is_member: npt.NDArray[Any]) -> list[int]:
    """Return the rows of the non-members, whose label is 0.

    Raises:
        MetricError: if they are fewer than `FEWEST_NULL`.
    """
    rows: list[int] = np.flatnonzero(is_member == 0).tolist()
    if len(rows) < FEWEST_NULL:
        raise MetricError(
            f"{len(rows)} images known not to be in the training set are too few for a p-value; give at least {FEWEST_NULL}, better "
            f"{ENOUGH_NULL} or more."
        )
    return rows


@dataclass(frozen=True)
class CriticalScore:
    """The score above which an image that is checked by itself gets evidence, p ≤ `ALPHA`: the smallest effect that a null set can show.

    It is a property of this null set, and not an estimate for other ones. It is exact where the score function doesn't depend on the image;
    where that is fitted with each image anew (`ConditionalNull`), it is that of the fit without one, which an image moves a little.

    Attributes:
        score: an image's score must lie above it. Higher = more likely a member.
        deviations: how far it lies above the mean of the null scores, in their standard deviations.
        n_above: how many null scores may nevertheless be as high as the image's, or higher: ⌊`ALPHA`·(n + 1)⌋ - 1
            for p-values that hold on average over references.
        n: size of the null set.
    """

    score: float
    deviations: float
    n_above: int
    n: int

    @classmethod
    def of(cls, null: npt.NDArray[np.float64], calibration: Calibration = MARGINAL) -> CriticalScore | None:
        """Return the critical score of null scores ``[n]``; None with fewer than `ENOUGH_NULL`, where no score gets evidence.

        Args:
            null: the scores.
            calibration: of the p-values that decide.
        """
        n = len(null)
        # The comparison that p-values are judged by, so that no rounding tells the two apart.
        p_values = ((1 + reach) / (n + 1) for reach in range(n))
        decide = (holds_for_reference(p, n) if calibration == CONDITIONAL else p for p in p_values)
        allowed = sum(1 for _ in takewhile(lambda p: p <= ALPHA, decide))
        if not allowed:
            return None
        score, differ = float(np.sort(null)[-allowed]), bool((null != null[0]).any())
        return cls(score, float((score - np.mean(null)) / np.std(null)) if differ else 0.0, allowed - 1, n)


@dataclass(frozen=True, eq=False)
class NullDistribution:
    """Scores of images known *not* to be in the training set, at one timestep. **Higher = more likely a member.**

    Attributes:
        scores: float64 ``[n]``.
        ids: content ids, in the order of ``scores``.
        timestep: the timestep of the scores.
    """

    scores: npt.NDArray[np.float64]
    ids: tuple[str, ...]
    timestep: int

    @classmethod
    def from_table(cls, table: ScoreTable, timestep: int) -> NullDistribution:
        """Return the null distribution of a table's non-members.

        Raises:
            MetricError: with fewer than 20 of them.
        """
        rows = null_rows(table.is_member)
        return cls(table.at(timestep)[rows], tuple(table.ids[row] for row in rows), timestep)

    def __len__(self) -> int:
        return len(self.scores)

    def judge(self, score: float, sample: str | None = None) -> Judgement:
        """Compare an image's score with the null set.

        Args:
            score: the image's score.
            sample: the image's content id; the image is left out of the null set if it is part of it.
        """
        others = [known != sample for known in self.ids]
        return Judgement.among(score, self.scores[others])

    @property
    def critical(self) -> CriticalScore | None:
        """The score above which an image gets evidence; None where the null set is too small."""
        return CriticalScore.of(self.scores)

    def p_value(self, score: float, sample: str | None = None) -> float:
        """Return the p-value of `judge`."""
        return self.judge(score, sample).p_value


@dataclass(frozen=True, eq=False)
class ConditionalNull:
    """Observations of a conditional attack on images known *not* to be in the training set, which serve both the fit and the comparison.

    For each image, the expected statistic is fitted on the null set *and the image*, so that all n + 1 are treated alike; hence the
    p-value is exactly as valid as without a fit, on average over null sets (full conformal prediction, Vovk et al. 2005), and no null
    image is spent on the fit. For p-values that hold for one null set, see `mia_hub.metrics.split_null.SplitNull`.

    Attributes:
        observed: float64 ``[n, 1 + F]``: the statistic and the difficulty, see `mia_hub.attacks.conditional.ConditionalAttack.features`.
        ids: content ids, n of them.
    """

    observed: npt.NDArray[np.float64]
    ids: tuple[str, ...]

    @classmethod
    def from_observations(cls, ids: Sequence[str], is_member: npt.NDArray[Any], observed: npt.NDArray[Any]) -> ConditionalNull:
        """Return the null set of the non-members ``(is_member == 0)`` among images.

        Args:
            ids: content ids, N of them.
            is_member: ``[N]``.
            observed: ``[N, 1 + F]``.

        Raises:
            MetricError: with fewer than 20 of them.
        """
        rows = null_rows(is_member)
        return cls(observed[rows], tuple(ids[row] for row in rows))

    def __len__(self) -> int:
        return len(self.observed)

    def judge(self, observed: npt.NDArray[np.float64], sample: str | None = None) -> Judgement:
        """Compare an image with the null set as `NullDistribution.judge` does, by its observations ``[1 + F]``."""
        others = [known != sample for known in self.ids]
        everyone = np.vstack([self.observed[others], observed])
        deviation = ExpectedStatistic(everyone[:, 1:], everyone[:, 0]).own_deviation
        return Judgement.among(-deviation[-1], -deviation[:-1], fixed=False)

    @cached_property
    def scores(self) -> npt.NDArray[np.float64]:
        """The null scores ``[n]``, as `judge` compares each of them with the others.

        For a new image they are fitted again, with the image, which moves them a little; here without one, in the form of that fit.
        """
        return -ExpectedStatistic(self.observed[:, 1:], self.observed[:, 0], form_of=len(self) + 1).own_deviation

    @property
    def critical(self) -> CriticalScore | None:
        """The score above which an image gets evidence, among `scores`; None where the null set is too small."""
        return CriticalScore.of(self.scores)


def adjusted(p_values: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return the q-values of images that are checked together, where a p-value above `ALPHA` counts as 1.

    Calling those with q ≤ `FALSE_DISCOVERY_RATE` is the step-up procedure with critical values min(k·q/m, `ALPHA`). It controls the
    false-discovery rate (Blanchard & Roquain 2008), and an image never looks more suspicious because it is checked together with others,
    or with a copy of itself. (To demand p ≤ `ALPHA` only after the procedure would not control the rate.)

    The q-values are those of Benjamini & Hochberg (1995). Their procedure controls the rate for p-values that depend on each other
    positively (PRDS; Benjamini & Yekutieli 2001), as split conformal p-values against one null set do (Bates et al. 2023). p-values that
    hold for one reference are independent, given the reference, for images drawn independently; so the rate holds for that reference,
    too, with 95 % confidence. For full conformal p-values, as of `ConditionalNull`, nobody has proven it.
    """
    from scipy.stats import false_discovery_control  # slow to import

    p = np.asarray(p_values, dtype=np.float64)
    return np.asarray(false_discovery_control(np.where(p <= ALPHA, p, 1.0)))
