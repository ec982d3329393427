"""A null set some of which serves the fit and the others the comparison, so that its p-values can hold for this one set."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mia_hub.metrics.expected_statistic import ExpectedStatistic
from mia_hub.metrics.p_values import CriticalScore, Judgement


@dataclass(frozen=True, eq=False)
class SplitNull:
    """Observations of a conditional attack on non-members, some of which serve the fit, and the others the comparison.

    The expected statistic does not depend on the images that are compared (split conformal prediction, Papadopoulos et al. 2002; Lei et
    al. 2018). So there are p-values that hold for this null set (Bates et al. 2023), and nothing is fitted again for a new image.

    Attributes:
        fit_observed: float64 ``[m, 1 + F]``, what the expected statistic is fitted on.
        fit_ids: their content ids, m of them.
        observed: ``[n, 1 + F]``, what an image is compared with; other images than those of the fit.
        ids: their content ids, n of them, or beginnings of them, all of one length.
    """

    fit_observed: npt.NDArray[np.float64]
    fit_ids: tuple[str, ...]
    observed: npt.NDArray[Any]
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.observed)

    @cached_property
    def _fit(self) -> ExpectedStatistic:
        return ExpectedStatistic(self.fit_observed[:, 1:], self.fit_observed[:, 0])

    @cached_property
    def scores(self) -> npt.NDArray[np.float64]:
        """The null scores ``[n]``; higher = more likely a member."""
        return _deviations(self._fit, self.observed)

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {known: row for row, known in enumerate(self.ids)}

    def judge(self, observed: npt.NDArray[np.float64], sample: str | None = None) -> Judgement:
        """Compare an image with the null set as `NullDistribution.judge` does, by its observations ``[1 + F]``.

        An image on which the expected statistic was fitted is left out of the fit.
        """
        fit, scores = self._fit, self.scores
        row = None if sample is None or not self.ids else self._rows.get(sample[: len(self.ids[0])])
        if row is not None:
            scores = np.delete(scores, row)
        elif sample in self.fit_ids:
            others = self.fit_observed[[known != sample for known in self.fit_ids]]
            fit = ExpectedStatistic(others[:, 1:], others[:, 0])
            scores = _deviations(fit, self.observed)
        return Judgement.among(float(_deviations(fit, observed[None])[0]), scores)

    @property
    def critical(self) -> CriticalScore | None:
        """The score above which an image gets evidence, among `scores`; None where the null set is too small."""
        return CriticalScore.of(self.scores)


def _deviations(fit: ExpectedStatistic, observed: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return scores ``[n]`` of observations ``[n, 1 + F]``; higher = more likely a member."""
    observed = observed.astype(np.float64)
    return -fit.deviation(observed[:, 1:], observed[:, 0])
