"""The options that `mia_hub.Checker` and the functions around it share, declared once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, TypeAlias, TypedDict

from mia_hub.auditing.options import QueryOptions
from mia_hub.system.signatures import Default

# What a model is conditioned on: one text for all images, or a text or a class index per image; None for neither.
CaptionsOrClasses: TypeAlias = str | Sequence[Any] | None


class CheckerOptions(QueryOptions, total=False):
    """Options of `mia_hub.Checker`, which documents them."""

    nonmembers: Annotated[Any, Default(None)]
    nonmember_captions: Annotated[CaptionsOrClasses, Default(None)]


class ScoringOptions(TypedDict):
    """Options of scoring besides the model, the attack and the images."""

    batch_size: int | None
    seed: int
