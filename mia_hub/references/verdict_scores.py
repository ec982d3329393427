"""The scores that verdicts are made of: how those of known images are distributed, for a plot beside an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 40


@dataclass(frozen=True)
class VerdictScores:
    """Histograms of the verdict's own scores of known images. **Higher = more likely a member.**

    Attributes:
        edges: of the bins, B + 1 of them, increasing.
        nonmembers: number of known non-members in each bin, B of them: the null set.
        members: number of known members in each bin; None where none are known.
        critical: the score above which an image gets evidence; None where the null set is too small.
    """

    edges: tuple[float, ...]
    nonmembers: tuple[int, ...]
    members: tuple[int, ...] | None
    critical: float | None

    @classmethod
    def of(
        cls, nonmembers: npt.NDArray[np.float64], members: npt.NDArray[np.float64] | None = None, critical: float | None = None
    ) -> VerdictScores:
        """Return the histograms of scores ``[n]`` of non-members and ``[m]`` of members (there may be none), in bins of one width."""
        members = None if members is None or not len(members) else members
        everyone = nonmembers if members is None else np.concatenate([nonmembers, members])
        edges = np.histogram_bin_edges(everyone, bins=BINS)
        counts = [None if scores is None else tuple(np.histogram(scores, edges)[0].tolist()) for scores in (nonmembers, members)]
        return cls(tuple(edges.tolist()), counts[0] or (), counts[1], critical)

    @classmethod
    def from_dict(cls, values: dict[str, Any] | None) -> VerdictScores | None:
        """Return the histograms from their JSON form; None from None."""
        if values is None:
            return None
        edges, nonmembers, members = (None if values[key] is None else tuple(values[key]) for key in ("edges", "nonmembers", "members"))
        return cls(edges or (), nonmembers or (), members, values["critical"])
