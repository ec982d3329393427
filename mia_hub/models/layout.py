"""The layout of a repository, as diffusers saves it: recognised from its file list and model_index.json, before any weights are fetched."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mia_hub.errors import ModelError
from mia_hub.models.families.base import NetworkModel
from mia_hub.models.repository import ASK_OWNER, Folder

INDEX = "model_index.json"
NO_CODE = "mia_hub never runs code that comes with a model. Load it yourself and wrap it with mia_hub.wrap_denoiser."
AUDITED = (
    "which this version can't audit: it audits image models on pixels (DDPM, DDIM), on latents (LDM, DiT), from text (Stable Diffusion 1 "
    "and 2, SDXL, PixArt) and by flow matching (SD3, Flux, Sana), and no audio or video. Any other model can be wrapped with "
    "mia_hub.wrap_denoiser."
)
LIBRARIES = ("diffusers", "transformers")


@dataclass(frozen=True)
class Component:
    """One part of a model in its repository.

    Attributes:
        name: its name in model_index.json, such as "unet".
        library: "diffusers" or "transformers".
        class_name: its class there.
        folder: where its files lie, "" for the root.
        config: path of its configuration.
        weights: file patterns of its weights, none for a scheduler or a tokenizer.
        variant: name of the variant of its weights, such as "fp16" or "non_ema"; None for the plain ones.
        shard_index: path of the list of shards, if its weights are split into several files.
        several: whether its weights are there in more than one variant.
    """

    name: str
    library: str
    class_name: str
    folder: str
    config: str
    weights: tuple[str, ...] = ()
    variant: str | None = None
    shard_index: str = ""
    several: bool = False

    @property
    def patterns(self) -> list[str]:
        """File patterns of all files that the component needs."""
        if self.weights:
            return [self.config, *self.weights]
        return [self.config] if self.is_scheduler else [f"{self.folder}/*"]

    @property
    def is_scheduler(self) -> bool:
        return self.name == "scheduler"


def read_layout(
    repository: Folder, adapters: Sequence[type[NetworkModel]], *, half: bool = False
) -> tuple[type[NetworkModel], dict[str, Component]]:
    """The adapter for a repository, and the parts that it needs.

    Args:
        repository: opened; only model_index.json is read.
        adapters: the families that can be audited.
        half: whether to prefer weights stored in half precision, if there are both.

    Returns:
        ``(adapter, {name: Component})``.

    Raises:
        ModelError: with the reason, if it can't be audited or can't be loaded safely.
    """
    name = repository.name
    if INDEX not in repository.sizes:
        pickled = any(file.endswith((".ckpt", ".pt", ".pth")) for file in repository.sizes)
        kind = "pickled or single-file weights" if pickled else "no model_index.json"
        raise ModelError(
            f"{name} is not a diffusion model in diffusers' layout ({kind}). It needs a repository with model_index.json, such as "
            "'google/ddpm-cifar10-32'. A LoRA is given with its base, as 'base + lora'; a model in another format can be wrapped with "
            "mia_hub.wrap_denoiser."
        )
    index = repository.read_json(INDEX)
    pipeline = index.get("_class_name")
    if not isinstance(pipeline, str):
        raise ModelError(f"{name} needs code from its own repository (its pipeline); {NO_CODE}")
    listed = {key: value for key, value in index.items() if isinstance(value, list) and not key.startswith("_") and value[:1] != [None]}
    adapter = _adapter(pipeline, listed, adapters, name)
    parts = {key: value for key, value in listed.items() if key in adapter.components}
    missing = [part for part in adapter.components if part not in parts and part not in adapter.optional]
    if missing:
        raise ModelError(f"{name} is incomplete: as a {pipeline} it needs a {missing[0]}, which model_index.json doesn't list. {ASK_OWNER}")
    for key, value in parts.items():
        _check_part(key, value, adapter, pipeline, name)
    return adapter, {key: find_component(key, value[0], value[1], repository, half=half) for key, value in parts.items()}


def _check_part(key: str, value: list[Any], adapter: type[NetworkModel], pipeline: str, name: str) -> None:
    """Refuse a part of a class that the adapter can't use, or whose code is not in diffusers or transformers."""
    if len(value) != 2 or not all(isinstance(part, str) for part in value):
        raise ModelError(f"{name} is broken: model_index.json should give library and class of its {key}, not {value}. {ASK_OWNER}")
    library, class_name = value
    if library not in LIBRARIES:
        raise ModelError(f"{name} needs code from its own repository (its component {key!r}, from {library!r}); {NO_CODE}")
    accepted = adapter.components[key]
    if accepted and class_name.removesuffix("Fast") not in accepted:
        raise ModelError(f"{name} is a {pipeline} with a {class_name}, {AUDITED}")


def _adapter(pipeline: str, listed: dict[str, Any], adapters: Sequence[type[NetworkModel]], name: str) -> type[NetworkModel]:
    """The adapter that knows a pipeline by its name, or else by its parts."""
    for adapter in adapters:
        if pipeline in adapter.pipelines:
            return adapter
    classes = {key: value[1] for key, value in listed.items() if len(value) == 2}
    for adapter in adapters:
        if set(listed) == set(adapter.components) and classes.get(adapter.denoiser) in adapter.components[adapter.denoiser]:
            return adapter
    raise ModelError(f"{name} is a {pipeline}, {AUDITED}")


def find_component(
    name: str, library: str, class_name: str, repository: Folder, *, half: bool = False, folder: str | None = None
) -> Component:
    """The component of a name, with the paths of its files.

    Args:
        name, library, class_name: see `Component`.
        repository: its files.
        half: see `read_layout`.
        folder: where they lie; by default a folder of the component's name, or the root.

    Raises:
        ModelError: if it has no configuration, or no weights that can be loaded safely.
    """
    if "Tokenizer" in class_name or name == "scheduler":
        config = "scheduler_config.json" if name == "scheduler" else "tokenizer_config.json"
        folder = _component_folder(name, config, repository)
        return Component(name, library, class_name, folder, f"{folder}/{config}".lstrip("/"))
    files = repository.sizes
    folder = _component_folder(name, "config.json", repository) if folder is None else folder
    prefix = f"{folder}/" if folder else ""
    stem = "diffusion_pytorch_model" if library == "diffusers" else "model"
    found = _variants(prefix, stem, repository)
    if found:
        variant = min(found, key=lambda each: _preference(each, half))
        return Component(
            name, library, class_name, folder, f"{prefix}config.json", *_weights(prefix + stem, variant), several=len(found) > 1
        )
    if any(file.startswith(prefix) and file.endswith((".bin", ".pt", ".ckpt")) for file in files):
        raise ModelError(
            f"{repository.name} has only pickled weights, which can run code when they are opened; mia_hub loads safetensors alone. "
            "Ask its owner to add safetensors (https://huggingface.co/spaces/safetensors/convert does it), or convert a copy you trust."
        )
    raise ModelError(f"{repository.name} has no weights: {stem}.safetensors is missing from its {folder or 'root'} folder. {ASK_OWNER}")


def _variants(prefix: str, stem: str, repository: Folder) -> set[str | None]:
    """The variants that a component's weights are there in; None stands for the plain ones."""
    pattern = re.compile(rf"{re.escape(prefix + stem)}(?:(?:\.([\w-]+))?\.safetensors|\.safetensors\.index(?:\.([\w-]+))?\.json)")
    matches = [match for file in repository.sizes if (match := pattern.fullmatch(file))]
    # A shard carries its number where a variant would stand.
    return {match[1] or match[2] for match in matches if not re.search(r"-\d+-of-\d+$", match[1] or "")}


def _preference(variant: str | None, half: bool) -> tuple[int, str]:
    """The place of a variant among those that there are: the plain one first, then more precise ones, then others by name.

    In half precision float16 comes before the plain one. Weights of the last step (non_ema) come after all averaged ones.
    """
    order = ("fp16", None, "bf16", "fp32", "ema") if half else (None, "fp32", "fp16", "bf16", "ema")
    last = variant is not None and variant.startswith(("non_ema", "no_ema", "non-ema", "no-ema"))
    return (len(order) + last if variant not in order else order.index(variant), variant or "")


def _weights(stem: str, variant: str | None) -> tuple[tuple[str, ...], str | None, str]:
    """File patterns of the weights of a variant, its name, and the path of its list of shards."""
    if variant is None:
        shards = f"{stem}.safetensors.index.json"
        return (f"{stem}.safetensors", f"{stem}-*-of-*.safetensors", shards), None, shards
    shards = f"{stem}.safetensors.index.{variant}.json"
    # Two conventions for the names of a variant's shards are in use.
    pieces = (f"{stem}.{variant}-*-of-*.safetensors", f"{stem}-*-of-*.{variant}.safetensors")
    return (f"{stem}.{variant}.safetensors", pieces[0], shards, pieces[1]), variant, shards


def _component_folder(component: str, config: str, repository: Folder) -> str:
    # Older repositories keep the files of a one-network pipeline in their root.
    for folder in (component, ""):
        if f"{folder}/{config}".lstrip("/") in repository.sizes:
            return folder
    raise ModelError(f"{repository.name} is incomplete: its {component} has no {config}. {ASK_OWNER}")


def check_shards(component: Component, repository: Folder) -> None:
    """Refuse a list of shards that names anything but safetensors beside it: diffusers opens any file that it names, pickled ones too.

    Raises:
        ModelError: if it does.
    """
    if component.shard_index not in repository.sizes:
        return
    shards = repository.read_json(component.shard_index).get("weight_map")
    names: set[Any] = set(shards.values()) if isinstance(shards, dict) else {None}
    if not all(isinstance(shard, str) and re.fullmatch(r"[\w.-]+\.safetensors", shard) for shard in names):
        file = component.shard_index.rpartition("/")[2]
        raise ModelError(
            f"{repository.name} is refused: {file} refers to weights that are not safetensors files in the same folder. {ASK_OWNER}"
        )
