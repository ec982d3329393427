"""From a name to a model: the embedded demo, a folder, or a Hub id pinned to a commit. safetensors only; no code is run."""

from __future__ import annotations

from mia_hub.errors import ModelError, first_line
from mia_hub.system.processes import current


def load_model(
    id_or_path="demo",
    *,
    device=None,
    dtype=None,
    revision: str | None = None,
    size: int | None = None,
    latents: str | None = None,
    offload: str | None = None,
    trusted: bool = True,
    largest: int | None = None,
):
    """Loads a diffusion model, ready to be queried: on pixels, on latents, from text, by flow matching.

    Args:
        id_or_path: "demo" (the embedded model), a folder in diffusers' layout, a Hub id such as ``google/ddpm-cifar10-32`` or
            ``stable-diffusion-v1-5/stable-diffusion-v1-5``; one of these with something on top, as in ``"base + lora"``, where what stands
            after the plus is a LoRA, a fine-tuned part, or a single-file checkpoint (see `mia_hub.models.overlays`); or a DiffusionModel,
            which is returned as it is.
        device: "cpu", "cuda", "mps"…; the best one present by default. Of several like it, each of the processes of one
            `mia_hub.system.processes.joined` launch takes its own.
        dtype: "float32" (default), "float64", "bfloat16", "float16", or a torch dtype. Parts that overflow in float16 are moved to a wider
            precision, which results record. With "auto" the denoiser runs in the way that a short trial found fastest on this device among
            those that agree with float32 (see `mia_hub.models.tuning`); the trial is made once, and its choice is recorded.
        revision: branch, tag or commit on the Hub (of the base); resolved to a commit hash, which is recorded.
        size: side of the images in pixels, where it isn't the model's own.
        latents: of a model on latents, "mode" (default) or "sample".
        offload: of a text-to-image model on an accelerator: "model" or "sequential", diffusers' own offloading for models that don't fit.
        trusted: False for a name that comes from a stranger: then folders are refused, our own token is not used, and weights above
            2 GiB are not fetched.
        largest: another limit than these 2 GiB, in bytes.

    Returns:
        A DiffusionModel.

    Raises:
        ModelError: if it can't be found or reached, is gated, is no model that can be audited, has only pickled weights, or needs
            code of its own.
    """
    if hasattr(id_or_path, "predict_noise"):
        given = {"device": device, "dtype": dtype, "revision": revision, "size": size, "latents": latents, "offload": offload}
        for option, value in given.items():
            if value is not None:
                raise ModelError(
                    f"{option}={value!r} has no effect on a model that is loaded already; set it when loading, or leave it out."
                )
        return id_or_path
    from mia_hub.models.assembly import assemble
    from mia_hub.models.overlays.on_top import split_name

    base, *tops = split_name(str(id_or_path))
    auto = dtype == "auto"
    if auto and offload is not None:
        raise ModelError("dtype='auto' can't be tried on a model that is offloaded; name a precision, such as 'bfloat16'.")
    device, dtype = pick_device(device), pick_dtype(None if auto else dtype)
    options = {"size": size, "latents": latents, "offload": offload}
    whence = {"revision": revision, "trusted": trusted} | ({} if largest is None else {"largest": largest})
    model = assemble(base, tops, **whence, device=device, dtype=dtype, **options)
    if auto:
        from mia_hub.models.tuning import tune

        tune(model)
    return model


def pick_device(device=None):
    """The asked device, or the best one present.

    Raises:
        ModelError: if the asked device isn't there.
    """
    import torch

    if device is None:
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        found = torch.device(device)
        if found.type == "cuda" and found.index is None and current().count > 1:
            found = torch.device("cuda", current().local_index % torch.cuda.device_count())
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ModelError(f"The device {device!r} is not available here ({first_line(error)}); try 'cpu'.") from error
    return found


def pick_dtype(dtype=None):
    """A torch dtype from its name or itself; float32 by default."""
    import torch

    choices = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}
    found = choices.get(str(dtype or "float32").removeprefix("torch."))
    if found is None:
        raise ModelError(f"Unknown precision {dtype!r}; choose one of {', '.join(choices)}, or auto.")
    return found
