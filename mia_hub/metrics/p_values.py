"""From a score to an answer: conformal p-values against images known not to be in the training set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mia_hub.errors import MetricError
from mia_hub.metrics.expected_statistic import ExpectedStatistic
from mia_hub.scores import ScoreTable

# A p-value at or below it is called evidence; fixed once, for the app, the scripts and the command line.
ALPHA = 0.01
# Share of false discoveries tolerated among several images that are called evidence.
FALSE_DISCOVERY_RATE = 0.05
FEWEST_NULL = 20


@dataclass(frozen=True)
class Judged:
    """A score among those of images known *not* to be in the training set.

    Attributes:
        score: higher = more likely a member.
        p_value: conformal, in [1/(n+1), 1].
        share_below: share of the known images with a lower score.
        n: known images that it was compared with.
    """

    score: float
    p_value: float
    share_below: float
    n: int

    @classmethod
    def among(cls, score: float, null: np.ndarray) -> Judged:
        """``p = (1 + #{null ≥ score})/(n + 1)``: conformal, uniform or larger for a non-member of the same kind (Vovk et al. 2005).

        Raises:
            MetricError: for a score that is no number.
        """
        if not np.isfinite(score):
            raise MetricError(f"A p-value needs a finite score; got {score}.")
        reach, n = int((null >= score).sum()), len(null)
        return cls(float(score), (1 + reach) / (n + 1), (n - reach) / n, n)


def _null_rows(table_labels: np.ndarray) -> np.ndarray:
    rows = np.flatnonzero(table_labels == 0)
    if len(rows) < FEWEST_NULL:
        raise MetricError(
            f"{len(rows)} images known not to be in the training set are too few for a p-value; give at least {FEWEST_NULL}, better "
            f"{round(1 / ALPHA) - 1} or more."
        )
    return rows


@dataclass(frozen=True, eq=False)
class NullDistribution:
    """Scores of images known *not* to be in the training set, at one timestep. **Higher = more likely a member.**

    Attributes:
        scores: float64 ``[n]``.
        ids: content ids, in the order of ``scores``.
        timestep: at which they were taken.
    """

    scores: np.ndarray
    ids: tuple[str, ...]
    timestep: int

    @classmethod
    def from_table(cls, table: ScoreTable, timestep: int) -> NullDistribution:
        """From the non-members of a table.

        Raises:
            MetricError: with fewer than 20 of them.
        """
        rows = _null_rows(table.is_member)
        return cls(table.at(timestep)[rows], tuple(table.ids[row] for row in rows), timestep)

    def __len__(self) -> int:
        return len(self.scores)

    def judge(self, score: float, sample: str | None = None) -> Judged:
        """Where a score stands among the null's.

        Args:
            score: the image's score.
            sample: its content id; if it is itself among the null images, it is left out.
        """
        others = [known != sample for known in self.ids]
        return Judged.among(score, self.scores[others])

    def p_value(self, score: float, sample: str | None = None) -> float:
        """The p-value of `judge`."""
        return self.judge(score, sample).p_value


@dataclass(frozen=True, eq=False)
class ConditionalNull:
    """What a conditional attack saw of images known *not* to be in the training set; they are both what it is fitted on and compared with.

    For each image, what is expected at its difficulty is fitted on the null images *and the image*, so that all n + 1 are treated
    alike; hence the p-value is exactly as valid as without fitting (full conformal prediction, Vovk et al. 2005), and no null image is
    spent on the fit.

    Attributes:
        observed: float64 ``[n, 1 + F]``: the statistic and the difficulty, see `mia_hub.attacks.conditional.ConditionalAttack.features`.
        ids: content ids, n of them.
    """

    observed: np.ndarray
    ids: tuple[str, ...]

    @classmethod
    def from_observations(cls, ids: Sequence[str], is_member: np.ndarray, observed: np.ndarray) -> ConditionalNull:
        """From the non-members ``(is_member == 0)`` among images.

        Raises:
            MetricError: with fewer than 20 of them.
        """
        rows = _null_rows(is_member)
        return cls(observed[rows], tuple(ids[row] for row in rows))

    def __len__(self) -> int:
        return len(self.observed)

    def judge(self, observed: np.ndarray, sample: str | None = None) -> Judged:
        """As `NullDistribution.judge`, from what the attack saw of a image, ``[1 + F]``."""
        others = [known != sample for known in self.ids]
        everyone = np.vstack([self.observed[others], observed])
        deviation = ExpectedStatistic(everyone[:, 1:], everyone[:, 0]).deviation(everyone[:, 1:], everyone[:, 0])
        return Judged.among(-deviation[-1], -deviation[:-1])


def adjusted(p_values: Sequence[float]) -> np.ndarray:
    """q-values of images judged together, where a p-value above `ALPHA` counts as 1.

    Calling those with q ≤ `FALSE_DISCOVERY_RATE` is the step-up procedure with critical values min(k·q/m, `ALPHA`). It keeps the
    false-discovery rate (Blanchard & Roquain 2008), and being checked together with others, or with a copy of itself, never makes a
    image look more suspicious. (To demand p ≤ `ALPHA` only after the procedure would not keep the rate.)
    """
    p = np.asarray(p_values, dtype=np.float64)
    return benjamini_hochberg(np.where(p <= ALPHA, p, 1.0))


def benjamini_hochberg(p_values: Sequence[float]) -> np.ndarray:
    """Adjusted p-values (Benjamini & Hochberg 1995): calling those ≤ q keeps the expected share of false calls ≤ q.

    p-values against one null set depend on each other positively, under which the procedure stays valid (Bates et al. 2023).
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum.accumulate(scaled[::-1])[::-1].clip(max=1)
    return adjusted
