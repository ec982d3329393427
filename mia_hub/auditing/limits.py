"""Limits on the figures of an audit, such as ``auc=.6``: what a release, a build or a training run must stay below."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mia_hub.auditing.measurement import DEFAULT_FPRS
from mia_hub.errors import MetricError
from mia_hub.rendering.numbers import share

if TYPE_CHECKING:
    from mia_hub.metrics.estimates import Estimate

ACCEPTED = (
    "Accepted are auc=LIMIT, asr=LIMIT and tpr@RATE=LIMIT, such as auc=.6 or tpr@.01=.05, where LIMIT lies in [0, 1) and RATE in (0, 1]"
)


class Figures(Protocol):
    """What has the figures that limits are set on, such as an AuditReport."""

    @property
    def auc(self) -> Estimate: ...
    @property
    def asr(self) -> Estimate: ...
    @property
    def tpr_at_fpr(self) -> dict[float, Estimate]: ...


@dataclass(frozen=True)
class Limit:
    """A limit on one figure.

    It is exceeded where the lower end of the figure's 95 % interval lies above it, so where the figure is surely above. If the value
    itself counted, half of all runs of a model at the limit would exceed it by chance alone; so it is at most one run in forty.

    Attributes:
        figure: "auc", "asr" or "tpr".
        limit: in [0, 1).
        rate: the false-positive rate of "tpr"; None for other figures.
    """

    figure: str
    limit: float
    rate: float | None = None

    @classmethod
    def parse(cls, text: str) -> Limit:
        """Return the limit that a text such as "auc=.6" or "tpr@.01=.05" stands for.

        Raises:
            MetricError: for any other text, which names what is accepted.
        """
        name, equals, value = str(text).replace(" ", "").partition("=")
        figure, at, rate = name.partition("@")
        number, fpr = _number(value), _number(rate)
        known = (figure in ("auc", "asr") and not at) or (figure == "tpr" and fpr is not None and 0 < fpr <= 1)
        if not equals or not known or number is None or not 0 <= number < 1:
            raise MetricError(f"{text!r} is no limit. {ACCEPTED}.")
        return cls(figure, number, fpr if at else None)

    def __str__(self) -> str:
        return f"{self.figure}{'' if self.rate is None else f'@{self.rate:g}'}={self.limit:g}"

    @property
    def name(self) -> str:
        """The figure in words."""
        return self.figure.upper() if self.rate is None else f"TPR at {share(self.rate)} false positives"

    def of(self, figures: Figures) -> Estimate:
        """Return the figure that the limit is set on."""
        if self.rate is not None:
            return figures.tpr_at_fpr[self.rate]
        return figures.auc if self.figure == "auc" else figures.asr

    def excess(self, figures: Figures) -> str | None:
        """Return a clause that says by what the limit is exceeded; None where it is not."""
        estimate = self.of(figures)
        if not estimate.low > self.limit:
            return None
        return f"{self.name} {estimate} is above the limit {self.limit:g}, and so is the lower end of its interval"


def parse_limits(texts: str | Iterable[str], rates: Sequence[float] | None = None) -> tuple[Limit, ...]:
    """Return the limits that texts stand for.

    Args:
        texts: such as ``["auc=.6", "tpr@.01=.05"]``, or one of them.
        rates: the false-positive rates that are measured; `DEFAULT_FPRS` by default.

    Raises:
        MetricError: for a text of another form, two limits on one figure, or a rate that is not measured.
    """
    limits = [Limit.parse(text) for text in ([texts] if isinstance(texts, str) else texts)]
    measured = DEFAULT_FPRS if rates is None else rates
    for i, limit in enumerate(limits):
        if any((limit.figure, limit.rate) == (other.figure, other.rate) for other in limits[:i]):
            raise MetricError(f"There are two limits on the {limit.name}; give one.")
        if limit.rate is not None and limit.rate not in measured:
            known = ", ".join(f"{rate:g}" for rate in measured) or "none"
            raise MetricError(
                f"{limit} needs the figure at a false-positive rate of {limit.rate:g}, and measured are {known}. Add that rate."
            )
    return tuple(limits)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
