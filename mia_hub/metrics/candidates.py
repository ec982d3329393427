"""The tail-normalised maximum: one p-value for an image of which several altered copies were judged.

Each candidate k, a copy that may be nearer to what was trained on, has its own score S_k. The largest one is compared with the largest
one of every null image, in units of each candidate's own tail, so that no candidate wins merely because its scores vary more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mia_hub.metrics.expected_statistic import ExpectedStatistic
from mia_hub.metrics.p_values import CriticalScore, Judgement, null_rows

# Where the tail of a candidate's scores begins.
TAIL = 0.9
# With fewer null images too few of them lie in the tail of a candidate for its mean excess, and the first candidate alone is judged.
FEWEST_FOR_CANDIDATES = 500
# The first candidate: the image itself.
AS_IT_IS = "as it is"

Scores = npt.NDArray[np.float64]


class TailMaximum:
    """T = max over S_k > u_k of log w_k + (S_k - u_k)/m_k, where u_k is the 90 % quantile of S_k and m_k the mean excess above it.

    Of an image with no S_k > u_k it is max (S_k - u_k)/m_k ≤ 0, which lies below all others and keeps the images in order.

    Args:
        scores: ``[n, K]``, of the images that u and m are taken from.
        weights: K numbers > 0; only their ratios matter.
    """

    def __init__(self, scores: Scores, weights: Sequence[float]):
        w = np.asarray(weights, dtype=np.float64)
        self._bonus = np.log(w / w.min())
        self._begin = np.quantile(scores, TAIL, axis=0)
        excess = (scores - self._begin).clip(0)
        count = (excess > 0).sum(axis=0)
        # A candidate whose scores are all equal has no tail.
        self._mean_excess = np.where(count > 0, excess.sum(axis=0) / count.clip(1), 1.0)

    def __call__(self, scores: Scores) -> tuple[Scores, npt.NDArray[np.int64]]:
        """Return T ``[m]`` and the candidate that it is of ``[m]``, for scores ``[m, K]``; higher = more likely a member."""
        excess = (scores - self._begin) / self._mean_excess
        within = np.where(excess > 0, excess + self._bonus, -np.inf)
        value = np.where((excess > 0).any(axis=1, keepdims=True), within, excess)
        winner = value.argmax(axis=1)
        return value[np.arange(len(value)), winner], winner


@dataclass(frozen=True)
class CandidateJudgement(Judgement):
    """A judgement of the most suspicious candidate.

    Attributes:
        candidate: its number.
        searched: whether all candidates were compared, or the first alone, because there were too few null images.
    """

    candidate: int = 0
    searched: bool = False


@dataclass(frozen=True, eq=False)
class CandidatesNull:
    """Observations of several candidates of images known *not* to be in the training set.

    For each image, everything is fitted on the null set *and the image*: the expected statistics of all candidates, the quantiles and the
    mean excesses. All n + 1 are treated alike, and so the p-value is exactly as valid as without a fit (full conformal prediction, Vovk et
    al. 2005), whatever the candidates are.

    Attributes:
        observed: float64 ``[n, K, 1 + F]``: of each candidate, the statistic and the difficulty.
        ids: content ids, n of them.
        weights: of the candidates, K of them.
    """

    observed: npt.NDArray[np.float64]
    ids: tuple[str, ...]
    weights: tuple[float, ...]

    @classmethod
    def from_observations(
        cls, ids: Sequence[str], is_member: npt.NDArray[Any], observed: npt.NDArray[Any], weights: Sequence[float]
    ) -> CandidatesNull:
        """Return the null set of the non-members ``(is_member == 0)`` among images.

        Args:
            ids: content ids, N of them.
            is_member: ``[N]``.
            observed: ``[N, K, 1 + F]``, or ``[N, K·(1 + F)]`` as they are stored.
            weights: of the K candidates.

        Raises:
            MetricError: with fewer than 20 of them.
        """
        rows = null_rows(is_member)
        return cls(observed[rows].reshape(len(rows), len(weights), -1), tuple(ids[row] for row in rows), tuple(weights))

    def __len__(self) -> int:
        return len(self.observed)

    def judge(self, observed: npt.NDArray[np.float64], sample: str | None = None) -> CandidateJudgement:
        """Compare an image with the null set, by its observations ``[K, 1 + F]``, or ``[K·(1 + F)]`` as they are stored.

        Args:
            observed: of the image.
            sample: the image's content id; the image is left out of the null set if it is part of it.
        """
        null = self.observed[[known != sample for known in self.ids]]
        searched = len(null) >= FEWEST_FOR_CANDIDATES
        values, winners = self._compared(np.concatenate([null, observed.reshape(1, *self.observed.shape[1:])]), searched)
        judged = Judgement.among(values[-1], values[:-1], fixed=False)
        return CandidateJudgement(**vars(judged), candidate=int(winners[-1]), searched=searched)

    @cached_property
    def scores(self) -> Scores:
        """The null scores ``[n]``; see `mia_hub.metrics.p_values.ConditionalNull.scores`."""
        return self._compared(self.observed, len(self) >= FEWEST_FOR_CANDIDATES, form_of=len(self) + 1)[0]

    @property
    def critical(self) -> CriticalScore | None:
        """The score above which an image gets evidence, among `scores`; None where the null set is too small."""
        return CriticalScore.of(self.scores)

    def _compared(
        self, everyone: npt.NDArray[np.float64], searched: bool, form_of: int | None = None
    ) -> tuple[Scores, npt.NDArray[np.int64]]:
        """Return the score of each of m images ``[m, K, 1 + F]``, and its best candidate; a permutation of the images permutes both.

        Args:
            everyone: the observations, by which all images are fitted alike.
            searched: whether all candidates are compared, or the first alone.
            form_of: see `mia_hub.metrics.expected_statistic.ExpectedStatistic`.
        """
        if not searched:
            return candidate_scores(everyone[:, :1], form_of=form_of)[:, 0], np.zeros(len(everyone), np.int64)
        scores = candidate_scores(everyone, form_of=form_of)
        return TailMaximum(scores, self.weights)(scores)


def candidate_scores(
    fitted_on: npt.NDArray[np.float64], observed: npt.NDArray[np.float64] | None = None, *, form_of: int | None = None
) -> Scores:
    """Return S_k = -(q - μ_k)/σ_k, ``[m, K]``, of observations ``[m, K, 1 + F]``, with μ and σ fitted on others ``[n, K, 1 + F]``.

    Args:
        fitted_on: the others.
        observed: the observations; None for those that the fit is on.
        form_of: see `mia_hub.metrics.expected_statistic.ExpectedStatistic`.
    """
    columns = []
    for k in range(fitted_on.shape[1]):
        fit = ExpectedStatistic(fitted_on[:, k, 1:], fitted_on[:, k, 0], form_of=form_of)
        columns.append(-fit.own_deviation if observed is None else -fit.deviation(observed[:, k, 1:], observed[:, k, 0]))
    return np.stack(columns, axis=1)
