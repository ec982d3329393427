"""Reference models: further models of the kind, trained on other images, that a model is compared with; always given by the user.

(A stored set of known non-members is called a reference, too: `mia_hub.references`. It has nothing to do with these.)
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from typing import Any, cast

from mia_hub.errors import ModelError
from mia_hub.models.bases import companion_record, is_same, load_like, unfit
from mia_hub.models.origin import NamedBase
from mia_hub.models.protocol import DiffusionModel

GIVE_REFERENCE_MODELS = (
    "Give reference_models=[…] (--reference-model on the command line, once for each): one or more models of the same kind that were "
    "trained on other images, such as reference denoisers ('mia-hub train-reference')."
)


def reference_models(model: DiffusionModel) -> tuple[DiffusionModel, ...]:
    """Return the reference models that a model was given; none by default."""
    given: tuple[DiffusionModel, ...] = getattr(model, "reference_models", ())
    return given


def with_reference_models(model: DiffusionModel, given: Any) -> DiffusionModel:
    """Return a model, on the same weights, with reference models.

    Args:
        model: any.
        given: one or more, each a name that `mia_hub.load_model` takes, which is loaded on the model's device and in its precision; or a
            DiffusionModel. Their order has no meaning: they are sorted by revision.

    Raises:
        ModelError: if one of them can't be loaded, doesn't fit, is the model itself, or is given twice; or if there is none.
    """
    loaded = [_loaded(model, each) for each in (given if isinstance(given, Sequence) and not _is_one(given) else [given])]
    if not loaded:
        raise ModelError(f"reference_models is empty. {GIVE_REFERENCE_MODELS}")
    for i, each in enumerate(loaded):
        problem = unfit(model, each)
        if problem:
            raise ModelError(f"{each.info.id} can't be a reference model of {model.info.id}: {problem}. {GIVE_REFERENCE_MODELS}")
        twin = next((other for other in loaded[:i] if is_same(other, each)), None)
        if twin is not None:
            raise ModelError(f"{each.info.id} and {twin.info.id} are one reference model; give each once.")
    compared = copy.copy(model)
    cast(Any, compared).reference_models = tuple(sorted(loaded, key=lambda each: each.info.revision or ""))
    return compared


def reference_model_records(model: DiffusionModel) -> list[dict[str, Any]]:
    """Return what results record of a model's reference models; see `mia_hub.models.bases.companion_record`."""
    return [companion_record(each) for each in reference_models(model)]


def _is_one(given: Any) -> bool:
    return isinstance(given, (str, os.PathLike)) or hasattr(given, "predict_noise")


def _loaded(model: DiffusionModel, given: Any) -> DiffusionModel:
    if hasattr(given, "predict_noise"):
        loaded: DiffusionModel = given
        return loaded
    if not isinstance(given, (str, os.PathLike)):
        raise ModelError(
            f"reference_models must be names that load_model takes, or DiffusionModels; got {type(given).__name__}. {GIVE_REFERENCE_MODELS}"
        )
    return load_like(model, NamedBase(str(given), "as given"))
