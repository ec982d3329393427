"""Keyword options that several public functions share, with their defaults."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict

from mia_hub.auditing.measurement import Selection
from mia_hub.system.signatures import Default


class QueryOptions(TypedDict, total=False):
    """Options of loading and querying a model; see `mia_hub.audit`."""

    batch_size: Annotated[int | None, Default(None)]
    seed: Annotated[int, Default(0)]
    device: Annotated[Any, Default(None)]
    dtype: Annotated[Any, Default(None)]
    revision: Annotated[str | None, Default(None)]
    base: Annotated[Any, Default(None)]
    reference_models: Annotated[Any, Default(None)]
    progress: Annotated[bool, Default(True)]


class AuditOptions(QueryOptions, total=False):
    """Options that `mia_hub.audit` and `mia_hub.compare` share; see `mia_hub.audit`."""

    selection: Annotated[Selection, Default("calibration")]
    fprs: Annotated[Sequence[float] | None, Default(None)]
    limit: Annotated[int | None, Default(None)]
    captions: Annotated[str, Default("split")]
    shift_check: Annotated[bool, Default(True)]
    folder: Annotated[str | Path | None, Default(None)]
