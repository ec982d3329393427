"""Is a reference about the model at hand?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mia_hub.attacks.identity import model_identity
from mia_hub.errors import ModelError
from mia_hub.models.bases import base_of, base_record
from mia_hub.models.precision import match_precision, precision_of
from mia_hub.models.protocol import DiffusionModel
from mia_hub.models.reference_models import reference_model_records, reference_models


def mismatch(stored: Mapping[str, Any], schedule: str, precision: str, model: DiffusionModel, *, adapt: bool = True) -> str:
    """Return why a reference is not about a model, as a sentence with the next step; "" where it is.

    Args:
        stored: `mia_hub.ModelInfo.to_dict` of the reference's model.
        schedule: hash of its noise schedule; "" where it isn't known.
        precision: in which the reference was computed.
        model: the model at hand.
        adapt: brings a model whose parts can overflow to the reference's precision.
    """
    needed, stored_base, stored_reference_models = model.info.to_dict(), stored.get("base"), stored.get("reference_models")
    stored = {field: value for field, value in stored.items() if field not in ("base", "reference_models")}
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
    problem = "" if stored_base is None else _base_mismatch(stored_base, model, adapt=adapt)
    if problem or stored_reference_models is None:
        return problem
    return _reference_models_mismatch(stored_reference_models, model, adapt=adapt)


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


def _reference_models_mismatch(stored: Sequence[Mapping[str, Any]], model: DiffusionModel, *, adapt: bool) -> str:
    """Return why the reference models that a reference was computed with are not those of a model; "" where they are.

    Args:
        stored: as `mia_hub.models.reference_models.reference_model_records` gave it then.
        model, adapt: as for `mismatch`.
    """
    own = reference_models(model)
    if adapt and len(own) == len(stored):
        for other, then in zip(own, stored):
            match_precision(other, str(then.get("precision")))
    records = reference_model_records(model)
    alike = [{**record, "id": None} for record in records] == [{**record, "id": None} for record in stored]
    if alike and all(record["revision"] is not None for record in records):
        return ""
    wanted, given = (", ".join(f"{each.get('id')} at {each.get('revision')}" for each in side) for side in (stored, records))
    return (
        f"The reference compares the model with the reference models {wanted}, and those at hand are {given or 'none'}. Give the former, "
        "with reference_models=[…] (--reference-model on the command line), or build a reference with the latter."
    )
