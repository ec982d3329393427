"""The null sets of a reference: what its p-values are computed from, for either calibration."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mia_hub.metrics.calibration_conditional import smallest
from mia_hub.metrics.candidates import CandidatesNull
from mia_hub.metrics.p_values import (
    ALPHA,
    CONDITIONAL,
    FEWEST_NULL,
    MARGINAL,
    Calibration,
    ConditionalNull,
    Judgement,
    NullDistribution,
)
from mia_hub.metrics.split_null import SplitNull
from mia_hub.splits.partition import calibration_mask

# Share of the non-members that the expected statistic is fitted on where the others are compared with, and the fewest of them.
FIT_SHARE = 0.25
FEWEST_TO_FIT = 50
NullSet = NullDistribution | ConditionalNull | CandidatesNull | SplitNull


@dataclass(frozen=True, eq=False)
class FurtherNonmembers:
    """Non-members that nothing is known of but what the attack of the verdicts observed.

    Attributes:
        ids: the beginnings of their content ids, all of one length.
        observations: ``[n, 1 + F]``.
    """

    ids: tuple[str, ...]
    observations: npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class NullSets:
    """What an image is compared with.

    Attributes:
        marginal: for p-values that hold on average over references.
        conditional: for those that hold for this reference, under a score function that doesn't depend on it; None with too few images.
    """

    marginal: NullSet
    conditional: NullDistribution | SplitNull | None

    @classmethod
    def of(cls, null: NullDistribution | ConditionalNull | CandidatesNull, further: FurtherNonmembers | None = None) -> NullSets:
        """Return the null sets that one of them makes.

        Scores that need no fit are compared as they are. For a conditional attack, p-values of the first kind are fitted on all images
        (`ConditionalNull`). Those of the second kind are fitted on a part of them, drawn by a hash of their ids, and compared with the
        others; or fitted on all of them, and compared with the further ones, which then serve both kinds.

        Args:
            null: of the non-members, as `mia_hub.references.verdict_attack.null_set` returns it.
            further: more of them, of a conditional attack.
        """
        if isinstance(null, NullDistribution):
            return cls(null, null)
        if isinstance(null, CandidatesNull):
            return cls(null, None)
        if further is not None:
            both = SplitNull(null.observed, null.ids, further.observations, further.ids)
            return cls(both, both)
        fitted = calibration_mask(null.ids, fraction=FIT_SHARE)
        if fitted.sum() < FEWEST_TO_FIT or (~fitted).sum() < FEWEST_NULL:
            return cls(null, None)
        (fit_ids, fit_observed), (ids, observed) = (
            (tuple(null.ids[row] for row in rows.tolist()), null.observed[rows]) for rows in map(np.flatnonzero, (fitted, ~fitted))
        )
        return cls(null, SplitNull(fit_observed, fit_ids, observed, ids))

    @property
    def can_hold_for_the_reference(self) -> bool:
        """Whether a p-value that holds for this reference can fall to `ALPHA`."""
        return self.conditional is not None and smallest(len(self.conditional)) <= ALPHA

    def deciding(self, calibration: Calibration) -> NullSet:
        """Return the null set of the p-values that decide."""
        if calibration == MARGINAL:
            return self.marginal
        assert self.conditional is not None, "Reference.calibrated refuses it"
        return self.conditional

    def judge(self, observed: npt.NDArray[np.float64], sample: str | None, calibration: Calibration) -> Judgement:
        """Return both p-values of an image; see `mia_hub.references.reference.Reference.judge`."""
        judged = self.deciding(calibration).judge(observed, sample)  # type: ignore[arg-type]  # a score, or observations
        if calibration == CONDITIONAL:
            return replace(judged, calibration=CONDITIONAL)
        if judged.p_conditional is None and self.conditional is not None:
            beside = self.conditional.judge(observed, sample)  # type: ignore[arg-type]
            return replace(judged, p_conditional=beside.p_conditional)
        return judged
