"""From a name to a model: the embedded demo, a folder, or a Hub id pinned to a commit. safetensors only; no code is run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mia_hub.errors import ModelError, first_line
from mia_hub.system.processes import current_processes

if TYPE_CHECKING:
    import torch

    from mia_hub.models.protocol import DiffusionModel


def load_model(
    id_or_path: Any = "demo",
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    revision: str | None = None,
    size: int | None = None,
    latents: str | None = None,
    offload: str | None = None,
    base: Any = None,
    reference_models: Any = None,
    trusted: bool = True,
    largest: int | None = None,
) -> DiffusionModel:
    """Load a diffusion model, ready to be queried: on pixels, on latents, from text, by flow matching.

    Args:
        id_or_path: "demo" (the embedded model), a folder in diffusers' layout, a Hub id such as ``google/ddpm-cifar10-32`` or
            ``stable-diffusion-v1-5/stable-diffusion-v1-5``; one of these with overlays, as in ``"base + lora"``, where each name after a
            plus is a LoRA, a fine-tuned part, or a single-file checkpoint (see `mia_hub.models.overlays.names`); or a DiffusionModel,
            which is returned unchanged unless it is given a base or reference models.
        device: "cpu", "cuda", "mps"…; the best one present by default. If there are several of a kind, each process of a
            `mia_hub.system.processes.joined_processes` launch takes its own.
        dtype: "float32" (default), "float64", "bfloat16", "float16", or a torch dtype. Parts that overflow in float16 move to a wider
            precision, which results record (see `mia_hub.models.precision`).
        revision: branch, tag or commit on the Hub (of the base); resolved to a commit hash, which is recorded.
        size: side of the images in pixels; the model's own by default.
        latents: of a model on latents, "mode" (default) or "sample".
        offload: of a text-to-image model on an accelerator: "model" or "sequential", diffusers' own offloading for models that don't fit.
        base: for attacks that compare with it, what the model was fine-tuned from, or a reference denoiser trained on other images of the
            kind: any of the things that ``id_or_path`` can be. By default, the model under its LoRAs (they are switched off; nothing is
            loaded twice); and for a fine-tuned part or checkpoint the model before the plus, for any other model the ``base_model`` that
            its card names: these are loaded when an attack first needs them.
        reference_models: for attacks that compare with them ("lira", "rmia", "bavaria"), one or more models of the same kind that were
            trained on other images, such as reference denoisers: each any of the things that ``id_or_path`` can be. None by default.
        trusted: False for a name that comes from a stranger: then folders are refused, our own token is not used, and weights above
            2 GiB are not fetched.
        largest: a limit in bytes in place of these 2 GiB.

    Returns:
        A DiffusionModel.

    Raises:
        ModelError: if it can't be found or reached, is gated, is no model that can be audited, has only pickled weights, or needs
            code of its own; or if the base or a reference model doesn't fit.
    """
    if hasattr(id_or_path, "predict_noise"):
        without_effect = {"device": device, "dtype": dtype, "revision": revision, "size": size, "latents": latents, "offload": offload}
        for option, value in without_effect.items():
            if value is not None:
                raise ModelError(
                    f"{option}={value!r} has no effect on a model that is loaded already; set it when loading, or leave it out."
                )
        given: DiffusionModel = id_or_path
        return _compared(given, base, reference_models)
    from mia_hub.models.assembly import assemble
    from mia_hub.models.overlays.names import base_and_overlays
    from mia_hub.models.repository import LARGEST_UNTRUSTED, Access

    access = Access(trusted, LARGEST_UNTRUSTED if largest is None else largest)
    loaded = assemble(
        *base_and_overlays(str(id_or_path)),
        revision=revision,
        access=access,
        device=pick_device(device),
        dtype=pick_dtype(dtype),
        size=size,
        latents=latents,
        offload=offload,
    )
    return _compared(loaded, base, reference_models)


def _compared(model: DiffusionModel, base: Any, reference_models: Any) -> DiffusionModel:
    """Return the model with what it is to be compared with."""
    from mia_hub.models.bases import with_base
    from mia_hub.models.reference_models import with_reference_models

    model = model if base is None else with_base(model, base)
    return model if reference_models is None else with_reference_models(model, reference_models)


def pick_device(device: Any = None) -> torch.device:
    """A device from its name, or the best one present.

    Raises:
        ModelError: if there is no such device here.
    """
    import torch

    if device is None:
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        picked = torch.device(device)
        if picked.type == "cuda" and picked.index is None and current_processes().count > 1:
            picked = torch.device("cuda", current_processes().local_index % torch.cuda.device_count())
        torch.empty(0, device=picked)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ModelError(f"The device {device!r} is not available here ({first_line(error)}); try 'cpu'.") from error
    return picked


def pick_dtype(dtype: Any = None) -> torch.dtype:
    """A torch dtype from its name or itself; float32 by default.

    Raises:
        ModelError: if models can't compute in it.
    """
    import torch

    choices = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}
    picked = choices.get(str(dtype or "float32").removeprefix("torch."))
    if picked is None:
        raise ModelError(f"Unknown precision {dtype!r}; choose one of {', '.join(choices)}.")
    return picked
