"""Options of a search for copies, with their defaults and their checks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict

from mia_hub.copying.embedders import Embedder
from mia_hub.copying.statistic import NEIGHBOURS
from mia_hub.errors import AttackError, MetricError, integer_at_least
from mia_hub.metrics.p_values import FALSE_DISCOVERY_RATE
from mia_hub.system.signatures import Default

IMAGES = 200
STEPS = 50


class CopyOptions(TypedDict, total=False):
    """Options of `mia_hub.find_copies`."""

    n: Annotated[int, Default(IMAGES)]
    generated: Annotated[Any, Default(None)]
    embedder: Annotated[str | Embedder, Default("pixels")]
    neighbours: Annotated[int, Default(NEIGHBOURS)]
    rate: Annotated[float, Default(FALSE_DISCOVERY_RATE)]
    steps: Annotated[int, Default(STEPS)]
    guidance: Annotated[float | None, Default(None)]
    prompts: Annotated[str | Sequence[Any], Default("captions")]
    limit: Annotated[int | None, Default(None)]
    image_column: Annotated[str | None, Default(None)]
    caption_column: Annotated[str | None, Default(None)]
    class_column: Annotated[str | None, Default(None)]
    seed: Annotated[int, Default(0)]
    batch_size: Annotated[int | None, Default(None)]
    device: Annotated[Any, Default(None)]
    dtype: Annotated[Any, Default(None)]
    revision: Annotated[str | None, Default(None)]
    folder: Annotated[str | Path | None, Default(None)]
    progress: Annotated[bool, Default(True)]


def check_options(options: CopyOptions) -> None:
    """Refuse options that no model and no images could make sense of.

    Raises:
        MiaHubError: with the reason.
    """
    integer_at_least("n, the number of images to generate,", options["n"], 1, AttackError)
    for name, least in (("neighbours", 2), ("steps", 1), ("seed", 0)):
        integer_at_least(name, options[name], least, AttackError)  # type: ignore[literal-required]
    for name in ("limit", "batch_size"):
        if options[name] is not None:  # type: ignore[literal-required]
            integer_at_least(name, options[name], 2 if name == "limit" else 1, AttackError)  # type: ignore[literal-required]
    rate = options["rate"]
    if not isinstance(rate, (int, float)) or not math.isfinite(rate) or not 0 < rate < 1:
        raise MetricError(f"The false-discovery rate must lie between 0 and 1, such as 0.05; got {rate!r}.")


def smallest_null(rate: float) -> int:
    """Return the number of non-members that a search takes at least: half of them serve as the null set of the control."""
    return 2 * max(2, math.ceil(1 / rate - 1e-9) - 1)
