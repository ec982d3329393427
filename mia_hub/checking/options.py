"""The options that `mia_hub.Checker` and the functions around it share, declared once."""

from __future__ import annotations

from typing import Annotated, Any

from mia_hub.auditing.options import QueryOptions
from mia_hub.metrics.p_values import Calibration
from mia_hub.references.options import CaptionsOrClasses
from mia_hub.system.signatures import Default


class CheckerOptions(QueryOptions, total=False):
    """Options of `mia_hub.Checker`, which documents them."""

    nonmembers: Annotated[Any, Default(None)]
    nonmember_captions: Annotated[CaptionsOrClasses, Default(None)]
    reference: Annotated[Any, Default(None)]
    keep: Annotated[bool, Default(True)]
    copies: Annotated[bool, Default(False)]
    calibration: Annotated[Calibration | None, Default(None)]
