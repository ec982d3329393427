"""The base of a model, what it was fine-tuned from: given by the user, lying under its LoRAs, or named on its card.

A reference denoiser, trained on other images of the kind, serves as a base, too.
"""

from __future__ import annotations

import copy
import sys
from contextlib import suppress
from typing import Any, cast

from mia_hub.errors import ModelError
from mia_hub.models.assembly import assemble
from mia_hub.models.conditions import resolved_conditions
from mia_hub.models.origin import NamedBase, Origin
from mia_hub.models.overlays.names import base_and_overlays
from mia_hub.models.precision import precision_of
from mia_hub.models.protocol import DiffusionModel
from mia_hub.models.repository import TRUSTED

GIVE_BASE = (
    "Give base=… (--base on the command line): the model that it was fine-tuned from, or a reference denoiser that was trained on other "
    "images of the kind."
)
# Share of √ᾱ by which the noise levels of a model and its base may differ at one timestep.
LARGEST_DIFFERENCE = 0.1


def loaded_base(model: DiffusionModel) -> DiffusionModel | None:
    """Return the base that is in memory; None if there is none."""
    base: DiffusionModel | None = getattr(model, "base", None)
    return base


def came_with_base(model: DiffusionModel) -> bool:
    """Return whether a model was loaded with its base: a given one, or that under its LoRAs; one that was fetched later doesn't count."""
    return loaded_base(model) is not None and not getattr(model, "base_was_fetched", False)


def base_available(model: DiffusionModel) -> bool:
    """Return whether a model has a base: a loaded one, or one that its name or its card states. Nothing but the card is fetched."""
    if loaded_base(model) is not None:
        return True
    with suppress(ModelError):
        return _named_base(model) is not None
    return False


def base_of(model: DiffusionModel) -> DiffusionModel:
    """Return the base of a model; one that its name or its card states is loaded now, and stays with the model.

    Raises:
        ModelError: if there is none, or it can't be loaded, or doesn't fit.
    """
    base = loaded_base(model)
    if base is not None:
        return base
    try:
        named = _named_base(model)
    except ModelError as error:
        raise ModelError(f"Whether the card of {model.info.id} names a base can't be read. {error} {GIVE_BASE}") from error
    if named is None:
        raise ModelError(f"The model {model.info.id} is to be compared with its base, and none is known. {GIVE_BASE}")
    print(f"Loading the base of {model.info.id}: {named.name}, {named.reason}.", file=sys.stderr)
    try:
        base = load_like(model, named)
    except ModelError as error:
        raise ModelError(
            f"The base of {model.info.id}, {named.name}, {named.reason}, can't be loaded. {error} Or give another base with base=… (--base "
            "on the command line)."
        ) from error
    check_base(model, base)
    cast(Any, model).base = base
    cast(Any, model).base_was_fetched = True
    # A model that is shared between threads shares its base, too.
    return loaded_base(model) or base


def with_base(model: DiffusionModel, base: Any) -> DiffusionModel:
    """Return a model, on the same weights, with a base.

    Args:
        model: any.
        base: a name that `mia_hub.load_model` takes, which is loaded on the model's device and in its precision; or a DiffusionModel.

    Raises:
        ModelError: if the base can't be loaded, or doesn't fit.
    """
    if not hasattr(base, "predict_noise"):
        if not isinstance(base, str) and not hasattr(base, "__fspath__"):
            raise ModelError(f"base must be a name that load_model takes, or a DiffusionModel; got {type(base).__name__}. {GIVE_BASE}")
        base = load_like(model, NamedBase(str(base), "as given"))
    check_base(model, base)
    based = copy.copy(model)
    cast(Any, based).base = base
    cast(Any, based).base_was_fetched = False
    return based


def _named_base(model: DiffusionModel) -> NamedBase | None:
    origin: Origin | None = getattr(model, "origin", None)
    return None if origin is None else origin.named_base()


def load_like(model: DiffusionModel, named: NamedBase) -> DiffusionModel:
    """Load a base, or a reference model, with the options that the model was loaded with."""
    origin: Origin | None = getattr(model, "origin", None)
    access, options = (TRUSTED, {}) if origin is None else (origin.access, origin.options)
    names = base_and_overlays(named.name)
    return assemble(*names, revision=named.revision, access=access, device=model.device, dtype=model.dtype, **options)


def check_base(model: DiffusionModel, base: DiffusionModel) -> None:
    """Refuse a base that can't be queried with the same images, noise draws and timesteps as a model, or is that model.

    Raises:
        ModelError: with what differs.
    """
    problem = unfit(model, base)
    if problem:
        raise ModelError(f"{base.info.id} can't be the base of {model.info.id}: {problem}. {GIVE_BASE}")


def unfit(model: DiffusionModel, base: DiffusionModel) -> str:
    """Return why a model can't be queried as a base (or a reference model) of another is, as a clause about it; "" where it can."""
    own, other = model.info, base.info
    if is_same(model, base):
        return "it is that model itself"
    for what, ours, theirs in (
        ("takes images of the shape (channels, height, width) =", own.picture_shape, other.picture_shape),
        ("works on samples of the shape (channels, height, width) =", own.sample_shape, other.sample_shape),
        ("has a number of timesteps of", own.num_train_timesteps, other.num_train_timesteps),
        ("computes on the device", model.device.type, base.device.type),
    ):
        if ours != theirs:
            return f"it {what} {theirs}, and the model has {ours}"
    if own.conditioning == other.conditioning and own.num_classes != other.num_classes:
        return f"it is conditioned on {other.num_classes} classes, and the model on {own.num_classes}"
    difference = float((model.schedule.signals - base.schedule.signals).abs().max())
    if difference > LARGEST_DIFFERENCE:
        return f"its noise schedule is another one (at one timestep the image's share of the input differs by {difference:.2f})"
    if own.conditioning != other.conditioning:
        try:
            resolved_conditions(base, None, 1)
        except ModelError as error:
            return f"it is conditioned on what the model isn't ({error})"
    return ""


def is_same(model: DiffusionModel, base: DiffusionModel) -> bool:
    """Return whether two models are one: the same revision, or the same network."""
    if model is base or (model.info.revision is not None and model.info.revision == base.info.revision):
        return True
    parts = [(getattr(each, "fn", None), each.network, getattr(each, "passes", None)) for each in (model, base)]
    return parts[0] == parts[1] and any(part is not None for part in parts[0][:2])


def base_captions(model: DiffusionModel, base: DiffusionModel, captions: Any, n: int) -> Any:
    """Return what a base is conditioned on where the model is conditioned on some captions or classes.

    Args:
        captions: the model's, n of them, or None.
        n: number of images.

    Returns:
        The same captions where both are conditioned on the same kind of thing; else empty ones, or None for an unconditional base.
    """
    if model.info.conditioning == base.info.conditioning:
        return captions
    return resolved_conditions(base, None, n)[0]


def base_record(model: DiffusionModel) -> dict[str, Any]:
    """Return what results record of a model's base: id, revision (a commit, or a hash of the weights), precision, settings if any."""
    return companion_record(base_of(model))


def companion_record(companion: DiffusionModel) -> dict[str, Any]:
    """Return what results record of a model that another is compared with: id, revision, precision, settings if any."""
    record = {"id": companion.info.id, "revision": companion.info.revision, "precision": precision_of(companion)}
    return record | ({"settings": dict(companion.info.settings)} if companion.info.settings else {})


def shares_encoder(model: DiffusionModel, base: DiffusionModel) -> bool:
    """Return whether an image's latents for the model are those for its base, because one autoencoder made both."""
    vae = getattr(model, "vae", None)
    return vae is not None and vae is getattr(base, "vae", None) and model.info.settings == base.info.settings
