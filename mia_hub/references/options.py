"""Options of scoring known images and new ones alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, TypedDict

# What a model is conditioned on: one text for all images, or a text or a class index per image; None for neither.
CaptionsOrClasses: TypeAlias = str | Sequence[Any] | None


class ScoringOptions(TypedDict):
    """Options of scoring besides the model, the attack and the images."""

    batch_size: int | None
    seed: int
