"""Figures with their uncertainty. No bare number is a result."""

from __future__ import annotations

from dataclasses import dataclass

from mia_hub.errors import MetricError
from mia_hub.rendering.numbers import percent_with_interval, with_interval


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval and the number of images behind it.

    Attributes:
        value: the figure, in [0, 1].
        low, high: its 95 % interval.
        n_members, n_nonmembers: the numbers of images that it was measured on.
    """

    value: float
    low: float
    high: float
    n_members: int
    n_nonmembers: int

    @property
    def n(self) -> int:
        """The number of images that it was measured on, of both kinds."""
        return self.n_members + self.n_nonmembers

    def __str__(self) -> str:
        return with_interval(self.value, self.low, self.high)

    def percent(self, rate: float = 0.01) -> str:
        """Return the figure in percent with its interval, "18.2 % [15.1, 21.6]"; ``rate``: false-positive rate that it belongs to."""
        return percent_with_interval(self.value, self.low, self.high, rate=rate)


class Rates(dict[float, Estimate]):
    """Figures by false-positive rate. A rate that wasn't measured raises an error that names the measured ones."""

    def __missing__(self, rate: float) -> Estimate:
        measured = ", ".join(f"{known:g}" for known in sorted(self, reverse=True)) or "none"
        raise MetricError(
            f"There is no figure at a false-positive rate of {rate}. Measured are: {measured}. A rate of 1/n needs at least n non-members; "
            "give other rates than 0.01 and 0.001 as fprs=(…)."
        )


@dataclass(frozen=True)
class TimestepRow:
    """The figures at one timestep.

    Attributes:
        timestep: the timestep.
        auc, asr: the figures.
        tpr_at_fpr: the true-positive rate by false-positive rate.
    """

    timestep: int
    auc: Estimate
    asr: Estimate
    tpr_at_fpr: dict[float, Estimate]

    def __post_init__(self) -> None:
        object.__setattr__(self, "tpr_at_fpr", Rates(self.tpr_at_fpr))
