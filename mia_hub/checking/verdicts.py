"""The verdicts that an answer can have, and the rules that give them."""

from __future__ import annotations

from mia_hub.metrics.p_values import ALPHA, FALSE_DISCOVERY_RATE

EVIDENCE, CANNOT_TELL, NOT_COMPARABLE, NO_NULL = "evidence", "cannot-tell", "not-comparable", "no-null"


def verdict_of(p_value: float, q_value: float | None) -> str:
    """Return the verdict on one image.

    Args:
        p_value: of the image.
        q_value: for one of several images checked together, its p-value adjusted for them (`mia_hub.metrics.p_values.adjusted`); it decides
            then.
    """
    small = p_value <= ALPHA if q_value is None else q_value <= FALSE_DISCOVERY_RATE
    return EVIDENCE if small else CANNOT_TELL


def set_verdict_of(p_value: float) -> str:
    """Return the verdict on a set of images."""
    return EVIDENCE if p_value <= ALPHA else CANNOT_TELL
