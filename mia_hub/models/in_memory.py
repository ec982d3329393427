"""Models of parts at hand, such as a network in training: queried as they are now, and left as they were."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

from mia_hub.errors import ModelError
from mia_hub.models.families.base import NetworkModel
from mia_hub.models.families.registry import ADAPTERS
from mia_hub.models.protocol import DiffusionModel

ACCEPTED = (
    "Accepted are a diffusers pipeline; a UNet2DModel of pixels with its noise scheduler; and a DiffusionModel, such as "
    "mia_hub.wrap_denoiser makes of any function or module that predicts noise"
)


@contextmanager
def model_in_memory(model: Any, scheduler: Any = None, *, id: str = "in memory") -> Iterator[DiffusionModel]:
    """Yield a model of parts at hand, ready to be queried, and leave the parts as they were.

    Inside the block, the networks are in eval mode, outside of any autocast, in the precision of the denoiser. Afterwards, their training
    modes, weights (to the bit, on the same device, in the same precision), gradients and ``requires_grad`` are what they were, and so are
    the random states of Python, NumPy and torch.

    Args:
        model: a diffusers pipeline; a UNet2DModel, also wrapped by accelerate, DistributedDataParallel or torch.compile; or a
            DiffusionModel.
        scheduler: the noise scheduler of a network that is given alone.
        id: the name of the model in results.

    Raises:
        ModelError: for anything else, a model that can't be audited, or weights that are sharded among processes.
    """
    parts = {name: _unwrapped(part) for name, part in _parts_of(model, scheduler).items()}
    networks = [part for part in parts.values() if isinstance(part, torch.nn.Module)]
    _refuse_sharded(networks)
    parameter = next((p for network in networks for p in network.parameters()), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    with random_states_kept(device), torch.autocast(device.type, enabled=False), ExitStack() as stack:
        for network in networks:
            stack.enter_context(left_as_it_was(network))
            network.eval()
        yield model if hasattr(model, "predict_noise") else _adapted(model, parts, id)


def _parts_of(model: Any, scheduler: Any) -> dict[str, Any]:
    """Return the parts of a model by their names in a diffusers pipeline.

    Raises:
        ModelError: for anything that is no model, or a network without its scheduler.
    """
    if hasattr(model, "predict_noise"):
        return {"network": getattr(model, "network", None)}
    if isinstance(getattr(model, "components", None), dict):
        return dict(model.components)
    if isinstance(model, torch.nn.Module):
        kind = type(_unwrapped(model)).__name__
        if kind != "UNet2DModel":
            raise ModelError(f"A {kind} can't be queried by itself. {ACCEPTED}.")
        if scheduler is None:
            raise ModelError("A network that is given alone needs the noise scheduler that it is trained with; give it as scheduler=….")
        if not hasattr(scheduler, "config"):
            raise ModelError(f"scheduler must be a diffusers scheduler, such as a DDPMScheduler; got {scheduler!r:.80}.")
        return {"unet": model, "scheduler": scheduler}
    raise ModelError(f"{type(model).__name__} is no model that can be queried. {ACCEPTED}.")


def _adapted(model: Any, parts: dict[str, Any], id: str) -> NetworkModel:
    """Return the adapter of a pipeline's parts, or of a network and its scheduler.

    Raises:
        ModelError: if no family has such parts, or the model can't be audited.
    """
    kind = type(model).__name__
    for adapter in sorted(ADAPTERS, key=lambda adapter: kind not in adapter.pipelines):
        known = {name: part for name, part in parts.items() if name in adapter.components and part is not None}
        needed = adapter.components.keys() - adapter.optional
        named = kind in adapter.pipelines or adapter.components.keys() >= parts.keys()
        fits = all(not types or type(known[name]).__name__ in types for name, types in adapter.components.items() if name in known)
        if named and fits and needed <= known.keys():
            break
    else:
        raise ModelError(f"{kind} has the parts of no family that can be audited. {ACCEPTED}.")
    stated = {name: model.config[name] for name in adapter.stated if name in getattr(model, "config", {})}
    weights = next(known[adapter.denoiser].parameters())
    return adapter(**known, id=id, device=weights.device, dtype=weights.dtype, **stated)  # type: ignore[call-arg]  # each has its own parts


def _unwrapped(part: Any) -> Any:
    """Return the module inside the wrappers of data parallelism and torch.compile."""
    while isinstance(part, torch.nn.Module):
        compiled = getattr(part, "_orig_mod", None)
        parallel = isinstance(part, torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel)
        if compiled is None and not parallel:
            break
        part = part.module if compiled is None else compiled
    return part


def _refuse_sharded(networks: Iterable[torch.nn.Module]) -> None:
    """Refuse weights of which each process holds a part: this process alone can't query them.

    Raises:
        ModelError: with the next step.
    """
    for network in networks:
        if any(type(p).__name__ in ("DTensor", "FlatParameter") or hasattr(p, "ds_id") for p in network.parameters()):
            raise ModelError(
                f"The weights of this {type(network).__name__} are sharded among processes (FSDP or DeepSpeed ZeRO-3). Save a "
                "checkpoint, and audit that with mia_hub.audit."
            )


@contextmanager
def left_as_it_was(network: torch.nn.Module) -> Iterator[None]:
    """Give a network back its training modes, weights, buffers, gradients and ``requires_grad`` when the block ends.

    Weights that the block moves to another device or precision are not moved back: the tensors from before are put back. Inside the block,
    a forward pass that accelerate wrapped in its mixed precision is the network's own.
    """
    modules = list(network.modules())
    training = [module.training for module in modules]
    buffers = [dict(module._buffers) for module in modules]
    parameters = [(p, p.data, p.requires_grad, p.grad, None if p.grad is None else p.grad.data) for p in network.parameters(recurse=True)]
    wrapped = network.__dict__.get("forward") if "_original_forward" in network.__dict__ else None
    if wrapped is not None:
        network.forward = network.__dict__["_original_forward"]
    try:
        yield
    finally:
        if wrapped is not None:
            network.forward = wrapped
        for module, mode, kept in zip(modules, training, buffers):
            module.training = mode
            module._buffers.update(kept)
        for p, data, requires_grad, grad, gradient in parameters:
            p.data = data
            p.requires_grad_(requires_grad)
            p.grad = grad
            if grad is not None and gradient is not None:
                grad.data = gradient


@contextmanager
def random_states_kept(device: torch.device) -> Iterator[None]:
    """Give Python, NumPy and torch (on the CPU and on a CUDA device) back their random states when the block ends."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
