"""How much a reference can show, in words."""

from __future__ import annotations

from mia_hub.metrics.estimates import Estimate
from mia_hub.metrics.p_values import ALPHA, ENOUGH_NULL, CriticalScore
from mia_hub.rendering.numbers import p_text, percent_with_interval

POWER_UNKNOWN = "Power unknown: no members of the training set are known, so nobody can say how many training images would get evidence."


def power_text(power: Estimate | None, critical: CriticalScore | None) -> str:
    """Return how many training images a reference recognises; where that is unknown, the smallest effect that it could show.

    Args:
        power: share of known members that reach p ≤ `ALPHA`; None where no members are known.
        critical: of the null set; None where it is too small for evidence.
    """
    if power is None:
        return f"{POWER_UNKNOWN} {smallest_effect_text(critical)}"
    recognised = percent_with_interval(power.value, power.low, power.high)
    return f"Of {power.n_members:,} known training images, {recognised} get evidence (p ≤ {p_text(ALPHA)}; the interval holds with 95 %)."


def smallest_effect_text(critical: CriticalScore | None) -> str:
    """Return the smallest effect that a null set could show, in sentences.

    Args:
        critical: of the null set; None where it is too small for evidence.
    """
    if critical is None:
        return f"No effect is large enough to show: evidence (p ≤ {p_text(ALPHA)}) takes {ENOUGH_NULL} or more non-members."
    others = f"all but {critical.n_above:,} of the {critical.n:,}" if critical.n_above else f"all {critical.n:,}"
    return (
        f"The smallest effect that could show: evidence (p ≤ {p_text(ALPHA)}) takes a score above those of {others} non-members. "
        f"Membership must lift the score of an image that would otherwise be average by more than {critical.deviations:.1f} standard "
        "deviations of the non-members' scores."
    )
