"""Puts a model together: a repository recognised, its configurations checked, only then its weights fetched, and what lies on top of it."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mia_hub.defaults import DEMO_FOLDER
from mia_hub.errors import ModelError
from mia_hub.models.components import load_component, load_scheduler, quiet, read_configs
from mia_hub.models.families.flow import Flux, Sana, StableDiffusion3
from mia_hub.models.families.latent import DiT, LatentUNetModel
from mia_hub.models.families.pixel import PixelModel
from mia_hub.models.families.text_to_image import PixArt, PixArtSigma, StableDiffusion, StableDiffusionXL
from mia_hub.models.layout import INDEX, Component, check_shards, read_layout
from mia_hub.models.network import NetworkModel
from mia_hub.models.overlays.checkpoint import Checkpoint
from mia_hub.models.overlays.lora import LoRA
from mia_hub.models.overlays.on_top import PICKLED, open_top
from mia_hub.models.overlays.top import Base, Top
from mia_hub.models.repository import LARGEST_UNTRUSTED, Folder, HubRepository, no_revision, open_repository

ADAPTERS: tuple[type[NetworkModel], ...] = (
    PixelModel, LatentUNetModel, DiT, StableDiffusion, StableDiffusionXL, PixArt, PixArtSigma, StableDiffusion3, Flux, Sana,
)  # fmt: skip

MOST_UNTRUSTED = 2


@dataclass
class Plan:
    """A model that was recognised and checked, before its weights are read.

    Attributes:
        on: what things are put on; without any, the model itself.
        tops: what is put there, as named.
        needed: the parts of `on` that nothing replaces.
        options: of the adapter.
    """

    on: Base
    tops: list[Top]
    needed: dict[str, Component]
    options: dict[str, Any]

    @property
    def ordered(self) -> list[Top]:
        """LoRAs come last, whatever their place, since they change what the others bring."""
        return sorted(self.tops, key=lambda top: isinstance(top, LoRA))

    @property
    def revision(self) -> str:
        """As results record it: of each the commit, or the hash of its weights, which must be here then."""
        own = self.on.repository
        files = weight_files(own, self.needed, self.on.adapter.denoiser)
        return " + ".join([own.revision or own.hash(files), *(top.revision for top in self.tops)])


def assemble(
    base: str,
    tops: Sequence[str],
    *,
    revision: str | None,
    trusted: bool,
    device,
    dtype,
    largest: int = LARGEST_UNTRUSTED,
    **options: Any,
) -> NetworkModel:
    """The model of a name, with what lies on top of it.

    Args:
        base, tops: the names, as `mia_hub.models.overlays.on_top.split_name` gives them.
        revision, trusted, largest: as for `mia_hub.load_model`.
        device, dtype: as torch has them.
        options: of the adapter; those that are None are left out.

    Raises:
        ModelError: as `mia_hub.load_model`.
    """
    whence = {"revision": revision, "trusted": trusted, "largest": largest}
    plan = planned(base, tops, **whence, device=device, half=dtype.itemsize == 2, **options)
    on, repository = plan.on, plan.on.repository
    for component in plan.needed.values():
        check_shards(component, repository)
    repository.fetch([INDEX, *(pattern for component in plan.needed.values() for pattern in component.patterns)])
    if isinstance(repository, HubRepository):
        repository.remember(INDEX)
    parts = {
        name: load_scheduler(repository, component)
        if component.is_scheduler
        else load_component(repository.root, component, repository.name, dtype)
        for name, component in plan.needed.items()
    }
    for top in plan.ordered:
        parts |= top.load(on, parts, dtype)
    for top in plan.ordered:
        top.apply(on, parts)
    index = repository.read_json(INDEX)
    stated = {name: index[name] for name in on.adapter.stated if name in index}
    names = " + ".join([repository.name, *(top.name for top in plan.tops)])
    with quiet():
        return on.adapter(**parts, id=names, revision=plan.revision, device=device, dtype=dtype, **stated, **plan.options)


def planned(
    base: str,
    tops: Sequence[str],
    *,
    revision: str | None = None,
    trusted: bool = True,
    largest: int = LARGEST_UNTRUSTED,
    device=None,
    half: bool = False,
    **options: Any,
) -> Plan:
    """The model of a name, recognised and checked by its configurations; of weights on the Hub none are fetched but those of LoRAs.

    Args:
        half: whether weights stored in half precision are preferred where there are both.
        base, tops, revision, trusted, largest, device, options: as for `assemble`.

    Raises:
        ModelError: as `mia_hub.load_model`.
    """
    if not trusted and len(tops) > MOST_UNTRUSTED:
        # Each may be as large as a stranger's model may.
        raise ModelError(f"At most {MOST_UNTRUSTED} things can be put on a model here; name fewer after plus signs.")
    whence = {"trusted": trusted, "largest": largest}
    tops = [open_top(name, **whence) for name in tops]
    if _is_file(base, trusted):
        # A checkpoint alone: what it was made from lends its configuration.
        checkpoint = open_top(base, revision, **whence)
        if not isinstance(checkpoint, Checkpoint):
            raise ModelError(f"{base} goes on top of a model; name its base as well, as 'base + {base}'.")
        repository, tops = open_lender(checkpoint, **whence), [checkpoint, *tops]
    else:
        repository = open_base(base, revision, trusted, largest)
    adapter, components = read_layout(repository, ADAPTERS, half=half)
    options = _accepted(adapter, repository.name, options)
    repository.fetch([INDEX, *(c.config for c in components.values())])
    configs, scheduler = read_configs(repository, components)
    plan = Plan(Base(repository, adapter, components, configs, scheduler), tops, {}, options)
    replaced: dict[str, Top] = {}
    for top in plan.ordered:
        top.check(plan.on)
        configs |= top.configs(plan.on)
        for name in top.replaces(plan.on):
            if name in replaced:
                raise ModelError(f"{replaced[name].name} and {top.name} both bring a {name}; name one of them.")
            replaced[name] = top
    adapter.check(configs, scheduler, repository.name, device=device, **options)
    plan.needed = {name: component for name, component in components.items() if name not in replaced}
    return plan


def _is_file(base: str, trusted: bool) -> bool:
    """Whether a name stands for one file, here or on the Hub."""
    return base.partition("@")[0].endswith((".safetensors", *PICKLED)) or (trusted and os.path.isfile(base))


def open_lender(checkpoint: Checkpoint, **whence: Any) -> Folder:
    """The repository on the Hub of what a checkpoint seems to be made from.

    Raises:
        ModelError: if it can't be had, or the checkpoint is of a part alone.
    """
    base = checkpoint.made_from
    print(f"Configuration and tokenizers of {checkpoint.name} are taken from {base}.", file=sys.stderr)
    try:
        return open_repository(base, **whence)
    except ModelError as error:
        raise ModelError(
            f"{checkpoint.name} seems to be made from {base}, which can't be had. {error} Or name another base, as "
            f"'base + {checkpoint.name}'."
        ) from error


def open_base(name: str, revision: str | None, trusted: bool, largest: int = LARGEST_UNTRUSTED) -> Folder:
    """The repository of a base: the embedded demo, a folder, or a Hub id.

    Raises:
        ModelError: if there is none of that name.
    """

    if name != "demo":
        return open_repository(name, revision, trusted=trusted, largest=largest)
    no_revision(revision, name)
    return Folder(DEMO_FOLDER / "model", "demo")


def weight_files(repository: Folder, components: dict[str, Component], denoiser: str) -> list[str]:
    """The files of weights, the denoiser's first."""
    ordered = sorted(components.values(), key=lambda component: (component.name != denoiser, component.name))
    return [path for component in ordered for path in repository.matching(component.weights)]


def _accepted(adapter: type[NetworkModel], name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options that the adapter knows; one that it would ignore is an error."""
    known = {parameter for cls in adapter.__mro__ if cls is not object for parameter in inspect.signature(cls.__init__).parameters}
    given = {option: value for option, value in options.items() if value is not None}
    for option, value in given.items():
        if option not in known:
            raise ModelError(f"{option}={value!r} has no effect on {name}, which has no such choice; leave it out.")
    return given
