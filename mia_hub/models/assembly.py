"""A model from its parts: the repository recognised, its configurations checked, only then its weights fetched, and overlays put on."""

from __future__ import annotations

import copy
import inspect
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mia_hub.defaults import DEMO_FOLDER
from mia_hub.errors import ModelError
from mia_hub.models.components import load_component, quiet, read_configs
from mia_hub.models.families.base import NetworkModel
from mia_hub.models.families.registry import ADAPTERS
from mia_hub.models.layout import INDEX, Component, check_shards, read_layout
from mia_hub.models.origin import Origin
from mia_hub.models.overlays.checkpoint import Checkpoint
from mia_hub.models.overlays.lora import LoRA
from mia_hub.models.overlays.lora_switch import LoRASwitch
from mia_hub.models.overlays.names import PICKLED, open_overlay
from mia_hub.models.overlays.overlay import Base, Overlay
from mia_hub.models.precision import probe_precision
from mia_hub.models.repository import TRUSTED, Access, Folder, open_repository, refuse_revision
from mia_hub.models.training_marks import apply_marks, read_marks

if TYPE_CHECKING:
    import torch

MOST_OVERLAYS_UNTRUSTED = 2


@dataclass
class Plan:
    """A model that was recognised and checked, before its weights are read.

    Attributes:
        base: the model under the overlays; without any, the model itself.
        overlays: in the order that they were named in.
        needed: the parts of the base that no overlay replaces.
        options: of the adapter.
    """

    base: Base
    overlays: list[Overlay]
    needed: dict[str, Component]
    options: dict[str, Any]

    @property
    def revision(self) -> str:
        """The revision as results record it: the commits of base and overlays, or the hashes of their weights, which are then read."""
        return " + ".join([self._base_revision, *(overlay.revision for overlay in self.overlays)])

    @cached_property
    def _base_revision(self) -> str:
        repository = self.base.repository
        return repository.revision or repository.hash(weight_files(repository, self.needed, self.base.adapter.denoiser))

    @property
    def name(self) -> str:
        """The name as results record it: "base + overlay"."""
        return " + ".join([self.base.repository.name, *(overlay.name for overlay in self.overlays)])

    def without_loras(self) -> Plan:
        """The plan of the same model without its LoRAs, as far as its name and its revision are concerned."""
        plan = replace(self, overlays=[overlay for overlay in self.overlays if not isinstance(overlay, LoRA)])
        plan._base_revision = self._base_revision
        return plan


@quiet()
def assemble(
    base: str, *overlays: str, revision: str | None, access: Access, device: torch.device, dtype: torch.dtype, **options: Any
) -> NetworkModel:
    """Load a model with its overlays.

    Args:
        base, overlays: names, as `mia_hub.models.overlays.names.base_and_overlays` returns them.
        revision: branch, tag or commit of the base on the Hub.
        access: rights of the person who named the model.
        device, dtype: where and in which precision it computes.
        options: of the adapter; those that are None are left out.

    Raises:
        ModelError: as `mia_hub.load_model`.
    """
    plan = plan_model(base, overlays, revision=revision, access=access, device=device, half=dtype.itemsize == 2, **options)
    repository, adapter = plan.base.repository, plan.base.adapter
    for component in plan.needed.values():
        check_shards(component, repository)
    repository.fetch([INDEX, *(pattern for component in plan.needed.values() for pattern in component.patterns)])
    repository.remember(INDEX)
    parts = {
        name: load_component(repository.root, component, repository.name, dtype)
        for name, component in plan.needed.items()
        if not component.is_scheduler
    }
    parts["scheduler"] = _completed_scheduler(plan)
    for overlay in _in_order(plan.overlays):
        parts |= overlay.load(plan.base, parts, dtype)
    for overlay in _in_order(plan.overlays):
        overlay.apply(plan.base, parts)
    index = repository.read_json(INDEX)
    stated = {name: index[name] for name in adapter.stated if name in index}
    model = adapter(**parts, id=plan.name, revision=plan.revision, device=device, dtype=dtype, **stated, **plan.options)  # type: ignore[call-arg]  # each has its own parts
    probe_precision(model)
    loaded = {**plan.needed, **{name: part for overlay in plan.overlays for name, part in overlay.components(plan.base).items()}}
    if variants := {name: part.variant for name, part in sorted(loaded.items()) if part.variant and part.several}:
        # The commit alone doesn't say which one was loaded.
        model.info.settings["variants"] = variants
    set_options = {name: value for name, value in options.items() if value is not None}
    model.origin = Origin(repository, adapter.denoiser not in plan.needed, access, set_options)
    if any(isinstance(overlay, LoRA) for overlay in plan.overlays):
        model.base = _without_loras(model, plan, parts)
    return model


def _without_loras(model: NetworkModel, plan: Plan, parts: dict[str, Any]) -> NetworkModel:
    """The base under a model's LoRAs: the same weights, with the LoRAs switched off in each of its passes.

    It keeps the model's noise schedule and prediction type, in which a LoRA's file may complete what the files of its base leave open.
    """
    import torch

    switch, below = LoRASwitch([part for part in parts.values() if isinstance(part, torch.nn.Module)]), plan.without_loras()
    base = copy.copy(model)
    base.info = replace(model.info, id=below.name, revision=below.revision, settings=dict(model.info.settings))
    model.passes, base.passes = switch.on, switch.off
    return base


def _completed_scheduler(plan: Plan) -> Any:
    """The scheduler, completed by what the denoiser's own files state, which are there now."""
    scheduler, denoiser, repository = plan.base.scheduler, plan.base.adapter.denoiser, plan.base.repository
    files = repository.matching(plan.needed[denoiser].weights) if denoiser in plan.needed else []
    for file in files:
        if file.endswith(".safetensors"):
            scheduler = apply_marks(scheduler, read_marks(repository.root / file, f"{repository.name}/{file}"), repository.name)
    return scheduler


def plan_model(
    base: str,
    overlays: Sequence[str] = (),
    *,
    revision: str | None = None,
    access: Access = TRUSTED,
    device: torch.device | None = None,
    half: bool = False,
    **options: Any,
) -> Plan:
    """Recognise a model and check its configurations; of weights on the Hub, only those of LoRAs and checkpoints are fetched.

    Args:
        half: whether to prefer weights stored in half precision, if there are both.
        base, overlays, revision, access, device, options: as for `assemble`.

    Raises:
        ModelError: as `mia_hub.load_model`.
    """
    refuse_many_overlays(overlays, access)
    opened = [open_overlay(name, access=access) for name in overlays]
    if _is_file(base, access):
        # A checkpoint alone: the model that it was made from lends its configuration.
        checkpoint = open_overlay(base, revision, access)
        if not isinstance(checkpoint, Checkpoint):
            raise ModelError(f"{base} goes on top of a model; name its base as well, as 'base + {base}'.")
        repository, opened = open_origin(checkpoint, access), [checkpoint, *opened]
    else:
        repository = open_base(base, revision, access)
    adapter, components = read_layout(repository, ADAPTERS, half=half)
    options = _options_of(adapter, repository.name, options)
    repository.fetch([INDEX, *(component.config for component in components.values())])
    configs, scheduler = read_configs(repository, components)
    plan = Plan(Base(repository, adapter, components, configs, scheduler), opened, {}, options)
    replaced = _check_overlays(plan)
    adapter.check(configs, plan.base.scheduler, repository.name, device=device, **options)
    plan.needed = {name: component for name, component in components.items() if name not in replaced}
    return plan


def refuse_many_overlays(overlays: Sequence[str], access: Access) -> None:
    """Refuse more overlays of a stranger than are loaded: each may be as large as a stranger's model may.

    Raises:
        ModelError: if there are too many.
    """
    if not access.trusted and len(overlays) > MOST_OVERLAYS_UNTRUSTED:
        raise ModelError(f"At most {MOST_OVERLAYS_UNTRUSTED} things can be put on a model here; name fewer after plus signs.")


def _in_order(overlays: Sequence[Overlay]) -> list[Overlay]:
    """Overlays in the order in which they are put on: LoRAs come last, since they change what the others bring."""
    return sorted(overlays, key=lambda overlay: isinstance(overlay, LoRA))


def _check_overlays(plan: Plan) -> set[str]:
    """Refuse overlays that don't fit, and add their configurations to those of the base; returns the parts that they replace."""
    replaced: dict[str, Overlay] = {}
    for overlay in _in_order(plan.overlays):
        overlay.check(plan.base)
        if marks := overlay.marks(plan.base):
            replaces_denoiser = plan.base.adapter.denoiser in overlay.replaces(plan.base)
            plan.base.scheduler = apply_marks(plan.base.scheduler, marks, plan.base.name, replaces_denoiser=replaces_denoiser)
        plan.base.configs |= overlay.configs(plan.base)
        for name in overlay.replaces(plan.base):
            if name in replaced:
                raise ModelError(f"{replaced[name].name} and {overlay.name} both bring a {name}; name one of them.")
            replaced[name] = overlay
    return set(replaced)


def _is_file(base: str, access: Access) -> bool:
    """Whether a name stands for one file, on this machine or on the Hub."""
    return base.partition("@")[0].endswith((".safetensors", *PICKLED)) or (access.trusted and os.path.isfile(base))


def open_origin(checkpoint: Checkpoint, access: Access) -> Folder:
    """The repository on the Hub of the model that a checkpoint was made from, as far as its weights tell.

    Raises:
        ModelError: if there is none, or the checkpoint is of a part alone.
    """
    origin = checkpoint.made_from
    print(f"Configuration and tokenizers of {checkpoint.name} are taken from {origin}.", file=sys.stderr)
    try:
        return open_repository(origin, access=access)
    except ModelError as error:
        raise ModelError(
            f"{checkpoint.name} seems to be made from {origin}, which can't be loaded. {error} Or name another base, as "
            f"'base + {checkpoint.name}'."
        ) from error


def open_base(name: str, revision: str | None, access: Access) -> Folder:
    """The repository of a base: the embedded demo, a folder, or a Hub id.

    Raises:
        ModelError: if there is none of that name.
    """
    if name != "demo":
        return open_repository(name, revision, access)
    refuse_revision(revision, name)
    return Folder(DEMO_FOLDER / "model", "demo")


def weight_files(repository: Folder, components: dict[str, Component], denoiser: str) -> list[str]:
    """The files of weights, the denoiser's first."""
    ordered = sorted(components.values(), key=lambda component: (component.name != denoiser, component.name))
    return [path for component in ordered for path in repository.matching(component.weights)]


def _options_of(adapter: type[NetworkModel], name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options that are set; one that the adapter doesn't know is an error, since it would have no effect."""
    known = {parameter for cls in adapter.__mro__ if cls is not object for parameter in inspect.signature(cls).parameters}
    chosen = {option: value for option, value in options.items() if value is not None}
    for option, value in chosen.items():
        if option not in known:
            raise ModelError(f"{option}={value!r} has no effect on {name}, which has no such choice; leave it out.")
    return chosen
