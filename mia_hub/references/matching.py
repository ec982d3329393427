"""Is a reference about the model at hand?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mia_hub.attacks.identity import model_identity
from mia_hub.errors import ModelError
from mia_hub.models.bases import base_of, base_record
from mia_hub.models.precision import match_precision, precision_of
from mia_hub.models.protocol import DiffusionModel


def mismatch(stored: Mapping[str, Any], schedule: str, precision: str, model: DiffusionModel, *, adapt: bool = True) -> str:
    """Return why a reference is not about a model, as a sentence with the next step; "" where it is.

    Args:
        stored: `mia_hub.ModelInfo.to_dict` of the reference's model.
        schedule: hash of its noise schedule; "" where it isn't known.
        precision: in which the reference was computed.
        model: the model at hand.
        adapt: brings a model whose parts can overflow to the reference's precision.
    """
    needed, stored_base = model.info.to_dict(), stored.get("base")
    stored = {field: value for field, value in stored.items() if field != "base"}
    # The same weights may lie in another folder.
    ignored = {"id"} if stored.get("revision") and stored.get("revision") == needed.get("revision") else set()
    for field in sorted({*stored, *needed} - ignored):
        if stored.get(field) != needed.get(field):
            return (
                f"The reference is of the model {stored.get('id')} with {field} = {stored.get(field)!r}, and the model at hand is "
                f"{needed['id']} with {field} = {needed.get(field)!r}. Load that model and revision, or build a reference of this one."
            )
    if schedule and schedule != model_identity(model)["schedule"]:
        return (
            f"The reference is of the model {stored['id']} with another noise schedule. Build a reference of this model, with "
            "'mia-hub reference build'."
        )
    if not (match_precision(model, precision) if adapt else precision == precision_of(model)):
        wanted = precision.partition(" ")[0]
        if wanted == precision_of(model).partition(" ")[0]:
            return (
                f"The reference was computed in {precision}, and by now parts of the model {needed['id']} compute in a wider one "
                f"({precision_of(model)}), since they overflowed. Load the model in float32, and build a reference in that."
            )
        return (
            f"The reference was computed in {precision}, and the model {needed['id']} computes in {precision_of(model)} here. Load it with "
            f"dtype={wanted!r}, or build a reference in this precision."
        )
    return "" if stored_base is None else _base_mismatch(stored_base, model, adapt=adapt)


def _base_mismatch(stored: Mapping[str, Any], model: DiffusionModel, *, adapt: bool) -> str:
    """Return why the base that a reference was computed with is not that of a model; "" where it is.

    Args:
        stored: as `mia_hub.models.bases.base_record` gave it then.
        model, adapt: as for `mismatch`.
    """
    wanted = f"{stored.get('id')} at {stored.get('revision')} in {stored.get('precision')}"
    try:
        base = base_of(model)
    except ModelError as error:
        return f"The reference compares the model with its base {wanted}. {error}"
    if adapt:
        match_precision(base, str(stored.get("precision")))
    record = base_record(model)
    if {**record, "id": None} == {**stored, "id": None} and record["revision"] is not None:
        return ""
    return (
        f"The reference compares the model with its base {wanted}, and the base at hand is {record['id']} at {record['revision']} in "
        f"{record['precision']}. Give that base with base=… (--base on the command line), or build a reference with this one."
    )
