"""Bands of known images' scores over the timesteps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

BAND_QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class Band:
    """5 %, 50 % and 95 % quantiles of known images' scores at each timestep. **Higher = more likely a member.**

    Attributes:
        low, middle, high: the quantiles, one per timestep.
        n: number of images.
    """

    low: tuple[float, ...]
    middle: tuple[float, ...]
    high: tuple[float, ...]
    n: int

    @classmethod
    def of(cls, scores: npt.NDArray[np.float64]) -> Band | None:
        """Return the band of scores ``[n, T]``; None without any."""
        if not len(scores):
            return None
        low, middle, high = (tuple(map(float, row)) for row in np.quantile(scores, BAND_QUANTILES, axis=0))
        return cls(low, middle, high, len(scores))

    @classmethod
    def from_dict(cls, values: dict[str, Any] | None) -> Band | None:
        """Return the band from its JSON form; None from None."""
        return None if values is None else cls(tuple(values["low"]), tuple(values["middle"]), tuple(values["high"]), values["n"])
