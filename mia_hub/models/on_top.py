"""What lies on top of a model: a LoRA, a fine-tuned part, or a single-file checkpoint that brings its own weights.

Named after a plus sign: ``"stable-diffusion-v1-5/stable-diffusion-v1-5 + someone/their-lora"``. Each is a folder, a ``.safetensors`` file,
a Hub id, or a file or folder of a Hub repository (``owner/name/file.safetensors``, ``owner/name/unet``); on the Hub, ``@revision`` may
follow.
"""

from __future__ import annotations

import glob
import json
import math
import os
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from mia_hub.errors import ModelError, first_line
from mia_hub.models.components import broken_files, load_component, quiet, read_configs
from mia_hub.models.layout import INDEX, Component, check_shards, find_component
from mia_hub.models.network import NetworkModel
from mia_hub.models.repository import LARGEST_UNTRUSTED, Folder, HubRepository, open_repository

LORA_FILE = "pytorch_lora_weights.safetensors"
# peft's own files, as its fine-tuning examples save them.
PEFT_CONFIG, PEFT_PREFIX = "adapter_config.json", "base_model.model."
MERGE = "Merge it into the model with the tool that it was made with, and give the result."
PICKLED = (".ckpt", ".pt", ".pth", ".bin")
A = ".lora_A.weight"
# The first of the two matrices of a low-rank update, in the namings of peft, of kohya's scripts, and of older diffusers.
DOWN = re.compile(r"[._](lora_A|lora_down|lora\d?(_linear_layer)?\.down)\.")
ADAPTER_KEY = re.compile(rf"{DOWN.pattern}|[._](hada|lokr|oft|boft|lora)_|\.diff(_b)?$|dora_scale$")
CHECKPOINT_KEY = re.compile(
    r"^model\.diffusion_model\.|^double_blocks\.0\.|^joint_blocks\.0\.|^(first_stage_model\.|vae\.)?encoder\.down\.0\."
)
# Fine-tuning tools write this entry where the network predicts v though its family predicts ε.
V_PREDICTION = "v_pred"
# What a part takes from the others and gives to them. A fine-tuned part has these as the base's has.
INTERFACE = (
    "in_channels", "latent_channels", "scaling_factor", "shift_factor", "cross_attention_dim", "joint_attention_dim", "caption_channels",
    "pooled_projection_dim", "projection_class_embeddings_input_dim", "addition_embed_type", "class_embed_type", "encoder_hid_dim",
    "hidden_size", "d_model", "projection_dim", "vocab_size",
)  # fmt: skip


def split_name(name: str) -> list[str]:
    """``"base + top"`` to its names; the base comes first."""
    return [part.strip() for part in re.split(r"\s\+(?:\s|$)", name.strip())]


@dataclass
class Base:
    """What something is put on.

    Attributes:
        repository: its files.
        adapter: its family.
        components: the parts that it needs.
        configs: the configurations of those that are diffusers models.
        scheduler: its scheduler.
    """

    repository: Folder
    adapter: type[NetworkModel]
    components: dict[str, Component]
    configs: dict[str, Any]
    scheduler: Any

    @property
    def name(self) -> str:
        return self.repository.name

    @property
    def pipeline(self) -> type | None:
        """The class of diffusers that knows LoRAs and single files of this family; None where there is none."""
        import diffusers

        return getattr(diffusers, getattr(self.adapter, "pipeline_class", ""), None)

    def empty_denoiser(self):
        """The denoiser without memory for its weights: it tells what fits before any weights are fetched."""
        import diffusers
        import torch

        denoiser = self.adapter.denoiser
        with quiet(), torch.device("meta"):
            return getattr(diffusers, self.components[denoiser].class_name).from_config(self.configs[denoiser])


@dataclass
class Top(ABC):
    """Something to be put on top of a base.

    Attributes:
        name: as it was given.
        repository: where it lies.
        path: its file in there, or its folder ("" for the root).
        revision: commit, or hash of the weights.
    """

    name: str
    repository: Folder
    path: str
    revision: str

    @abstractmethod
    def check(self, base: Base) -> None:
        """Refuses a base that it doesn't fit, as far as that can be told before the base's weights are fetched.

        Raises:
            ModelError: with the reason.
        """

    def configs(self, base: Base) -> dict[str, Any]:
        """The configurations of the diffusers models that it brings, where they aren't the base's."""
        return {}

    def replaces(self, base: Base) -> set[str]:
        """Parts of the base that need not be loaded."""
        return set()

    def load(self, base: Base, loaded: dict[str, Any], dtype) -> dict[str, Any]:
        """The parts that it brings; ``loaded`` are those of the base."""
        return {}

    def apply(self, base: Base, parts: dict[str, Any]) -> None:
        """Changes parts in place, once all are loaded."""
        return

    @property
    def file(self) -> Path:
        return self.repository.root / self.path

    @contextmanager
    def fitting(self, base: Base) -> Iterator[None]:
        """Within it, whatever another library says against putting it there becomes one clear message."""
        try:
            with quiet(), warnings.catch_warnings(action="ignore"):
                yield
        except Exception as error:  # of many kinds: peft's, diffusers', torch's
            why = first_line(error).partition(" If you want")[0][:300]
            raise self.misfit(base, "it lacks some weights" if "meta tensor" in why else why) from error

    @abstractmethod
    def misfit(self, base: Base, why: str) -> ModelError:
        """The error that it is for another base."""


class LoRA(Top):
    """Low-rank updates (Hu et al. 2022, arXiv 2106.09685) of the denoiser and, perhaps, of text encoders.

    They are not fused into the weights: in half precision small ones would be lost to rounding.
    """

    def check(self, base):
        if not hasattr(base.pipeline, "load_lora_weights"):
            raise ModelError(
                f"{self.name} is a LoRA, and diffusers puts none on {base.name}, a model of the kind {base.adapter.__name__}. Audit that "
                "model alone, or a copy that the LoRA was merged into."
            )
        from diffusers.utils.state_dict_utils import StateDictType, convert_state_dict_to_peft, convert_unet_state_dict_to_peft

        weights, denoiser = self._read(base), base.adapter.denoiser
        with self.fitting(base):
            options = {"unet_config": base.configs[denoiser]} if denoiser == "unet" else {}
            found = base.pipeline.lora_state_dict(dict(weights), **options)
        found = found[0] if isinstance(found, tuple) else found
        self._updates = {}
        for key, value in found.items():
            # Names that diffusers leaves without their part are the denoiser's.
            part, _, name = key.partition(".") if key.partition(".")[0] in base.components else (denoiser, "", key)
            self._updates.setdefault(part, {})[name] = value
        for part, own in self._updates.items():
            # To peft's names; each function passes over what it doesn't know.
            own = own if part == denoiser else convert_state_dict_to_peft(own, StateDictType.DIFFUSERS_OLD)
            self._updates[part] = convert_unet_state_dict_to_peft(own)
        if not math.isclose(sum(map(_energy, self._updates.values())), _energy(weights), rel_tol=1e-9):
            raise ModelError(f"{self.name} would be put on {base.name} in part only: diffusers drops some of its updates. {MERGE}")
        if denoiser in self._updates:
            self._put(base.empty_denoiser(), denoiser, base)

    def apply(self, base, parts):
        for name in self._updates:
            self._put(parts[name], name, base)

    def _put(self, module, part: str, base: Base) -> None:
        """Puts its updates on one part.

        Raises:
            ModelError: if they don't all have a place there, of the same shape.
        """
        from peft import LoraConfig, inject_adapter_in_model
        from peft.utils import set_peft_model_state_dict

        own, name, before = self._updates[part], f"lora{len(getattr(module, 'peft_config', {}))}", _size(module.parameters())
        if not hasattr(module, "text_model"):
            # transformers 5 has dropped this level of names.
            own = {key.removeprefix("text_model."): value for key, value in own.items()}
        ranks = {f"^{key.removesuffix(A)}": len(value) for key, value in own.items() if key.endswith(A)}
        config = LoraConfig(
            target_modules=[layer.removeprefix("^") for layer in ranks],
            rank_pattern=ranks,
            alpha_pattern=ranks,
            use_dora=any(key.endswith("lora_magnitude_vector") for key in own),
            lora_bias=any(key.endswith("lora_B.bias") for key in own),
        )
        with self.fitting(base):
            inject_adapter_in_model(config, module, name, low_cpu_mem_usage=True, state_dict=own)
            set_peft_model_state_dict(module, own, name, low_cpu_mem_usage=True)
        placed, given = _size(module.parameters()) - before, _size(own.values())
        if placed != given:
            raise self.misfit(base, f"of its {given:,} numbers for the {part} {placed:,} have a place")
        for layer in module.modules():
            if adapters := list(getattr(layer, "lora_A", ())):
                layer.set_adapter(adapters)  # peft had left the newest alone at work

    def _read(self, base: Base) -> dict[str, Any]:
        """Its weights, with the scale of each update multiplied in.

        The scale (alpha / rank) stands in the file, one per update or one for all, and diffusers gets some mixtures wrong. Nor does it get
        to see the file's own settings: peft would import modules that they name.

        Raises:
            ModelError: if it holds anything else than low-rank updates.
        """
        import torch
        from safetensors import safe_open

        with broken_files(self.name), safe_open(self.file, "pt") as file:
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            settings = json.loads((file.metadata() or {}).get("lora_adapter_metadata", "{}"))
        config = _beside(self.path)
        if config in self.repository.sizes and any(key.startswith(PEFT_PREFIX) for key in weights):
            denoiser = base.adapter.denoiser
            weights = {f"{denoiser}.{key.removeprefix(PEFT_PREFIX)}": value for key, value in weights.items()}
            settings = {f"{denoiser}.{key}": value for key, value in self.repository.read_json(config).items()}
        found = {}
        for key, down in weights.items():
            if not (match := DOWN.search(key)):
                continue
            up, stem = _up(key), key[: match.start()]
            if up not in weights:
                raise ModelError(f"{self.name} is broken: it has {key}, and no {up}. Download it again, or ask its owner to repair it.")
            with broken_files(self.name):
                alpha = weights.get(f"{stem}.alpha")
                scale = _scale(settings, stem, len(down)) if alpha is None else float(alpha) / len(down)
            # Half of it to each side, so that neither becomes too small for half precision.
            wide = torch.promote_types(down.dtype, torch.float32) if down.dtype.itemsize > 1 else torch.float32
            root = abs(scale) ** 0.5
            found[key], found[up] = down.to(wide) * root, weights[up].to(wide) * math.copysign(root, scale)
            for other, factor in ((f"{up.removesuffix('weight')}bias", scale), (f"{stem}.lora_magnitude_vector", 1)):
                found |= {other: weights[other].to(wide) * factor} if other in weights else {}
        other = [key for key, value in weights.items() if key not in found and not key.endswith(".alpha") and value.float().any()]
        if other or not found:
            raise ModelError(
                f"{self.name} holds something else than low-rank updates (such as {min(other, default='nothing')}), which diffusers "
                f"doesn't put on {base.name}. {MERGE}"
            )
        strength = _energy(found)
        if not math.isfinite(strength) or strength == 0:
            raise ModelError(f"{self.name} {'is broken: it has NaN or infinity' if strength else 'changes nothing: its updates are zero'}.")
        return found

    def misfit(self, base, why):
        return ModelError(
            f"{self.name} can't be put on {base.name}: it is a LoRA for another base, or broken ({why}). Its page says which model it was "
            "trained on; name that one before the plus."
        )


class Part(Top):
    """One part, fully fine-tuned, that takes the place of the base's, such as a DreamBooth UNet or a better autoencoder."""

    def check(self, base):
        component = self._component(base)
        check_shards(component, self.repository)
        if component.library == "diffusers":
            own, there = self.configs(base)[component.name], base.configs[component.name]
        else:
            own, there = self.repository.read_json(component.config), base.repository.read_json(base.components[component.name].config)
        for field in INTERFACE:
            if field in own and field in there and own[field] != there[field]:
                raise self.misfit(base, f"its {field} is {own[field]}, and the base's is {there[field]}")

    def misfit(self, base, why):
        return ModelError(
            f"{self.name} is no {self._component(base).name} for {base.name}: {why}. Name the base that it was fine-tuned from."
        )

    def configs(self, base):
        component = self._component(base)
        return read_configs(self.repository, {component.name: component})[0]

    def replaces(self, base):
        return {self._component(base).name}

    def load(self, base, loaded, dtype):
        component = self._component(base)
        folder = self.repository.fetch(component.patterns)
        _remember(self.repository, component.config)
        return {component.name: load_component(folder, component, self.name, dtype)}

    def _component(self, base: Base) -> Component:
        """Which part of the base it is, by its class; where several have it, by the name of its folder."""
        config = self.repository.read_json(f"{self.path}/config.json".lstrip("/"))
        own = config.get("_class_name") or next(iter(config.get("architectures") or []), None)
        parts = {name: part for name, part in base.components.items() if part.weights}
        fitting = [part for part in parts.values() if own in (base.adapter.components[part.name] or (part.class_name,))]
        if not fitting:
            has = ", ".join(f"{part.class_name} ({name})" for name, part in sorted(parts.items()))
            raise ModelError(f"{self.name} holds {f'a {own}' if own else 'no part'} that {base.name} has; that has a {has}.")
        folder = Path(self.path or self.name).resolve().name
        named = [part for part in fitting if part.name == folder] or fitting
        if len(named) > 1:
            names = " or ".join(part.name for part in named)
            raise ModelError(f"{self.name} could be the {names} of {base.name}. Put it in a folder of that name.")
        return find_component(named[0].name, named[0].library, own, self.repository, folder=self.path)


class Checkpoint(Top):
    """Weights in one safetensors file, as the models' authors and most fine-tuning tools write them: of all parts, or of some."""

    # Where the weights of each part stand in such files. T5 is called the same wherever it comes.
    PREFIXES: ClassVar[dict[str, tuple[str, ...]]] = {
        "vae": ("first_stage_model.", "vae.", "encoder.", "decoder.", "quant_conv.", "post_quant_conv."),
        "text_encoder": ("cond_stage_model.", "conditioner.embedders.0.", "text_encoders.clip_l."),
        "text_encoder_2": ("conditioner.embedders.1.", "text_encoders.clip_g."),
        "t5": ("text_encoders.t5xxl.",),
    }
    WHOLE, DENOISER_ALONE = "model.diffusion_model.", ("double_blocks.", "single_blocks.", "joint_blocks.")

    def check(self, base):
        if not hasattr(base.pipeline, "from_single_file"):
            raise ModelError(
                f"{self.name} is a single-file checkpoint, and diffusers reads none for {base.name}, a model of the kind "
                f"{base.adapter.__name__}. Give the model in diffusers' layout."
            )
        if not self._denoiser:
            return
        if V_PREDICTION in self._shapes and base.scheduler.config.get("prediction_type") != "v_prediction":
            raise ModelError(
                f"{self.name} says that its denoiser predicts v, and that of {base.name} doesn't. Name a base that does, as "
                f"'base + {self.name}'; it may be a copy of {base.name} with another scheduler_config.json."
            )
        given = sum(math.prod(self._shapes[key]) for key in self._denoiser)
        there = _size(base.empty_denoiser().state_dict().values())
        if given != there:
            raise self.misfit(base, f"its denoiser has {given:,} weights, and that of {base.name} has {there:,}")

    def replaces(self, base):
        found = {base.adapter.denoiser} if self._denoiser else set()
        for name, component in base.components.items():
            prefixes = self.PREFIXES.get("t5" if "T5EncoderModel" in component.class_name else name)
            if prefixes and any(key.startswith(prefixes) for key in self._shapes):
                found.add(name)
        return found

    def load(self, base, loaded, dtype):
        import inspect

        wanted = self.replaces(base)
        others = {name: loaded.get(name) for name in ("safety_checker", "feature_extractor", "image_encoder", *base.components)}
        accepted = inspect.signature(base.pipeline.__init__).parameters
        with self.fitting(base):
            pipeline = base.pipeline.from_single_file(
                str(self.file),
                config=str(base.repository.root),
                torch_dtype=dtype,
                local_files_only=True,
                **{name: part for name, part in others.items() if name in accepted and name not in wanted},
            )
        found = {name: getattr(pipeline, name) for name in wanted}
        for name, part in found.items():
            if left := [key for key, value in part.named_parameters() if value.is_meta]:
                raise self.misfit(base, f"it lacks weights of the {name}, such as {left[0]}")
        return found

    @property
    def made_from(self) -> str:
        """The Hub id of its base, as diffusers tells by the weights.

        Raises:
            ModelError: if it is a part alone.
        """
        import torch
        from diffusers.loaders.single_file_utils import fetch_diffusers_config

        if not self._denoiser:
            raise ModelError(f"{self.name} holds no denoiser; name its base as well, as 'base + {self.name}'.")
        with broken_files(self.name), quiet():
            weights = {key: torch.empty(shape, device="meta") for key, shape in self._shapes.items()}
            return fetch_diffusers_config(weights)["pretrained_model_name_or_path"]

    @cached_property
    def _shapes(self) -> dict[str, list[int]]:
        return _shapes(self.file, self.name)

    @cached_property
    def _denoiser(self) -> list[str]:
        """The names of the denoiser's weights."""
        if whole := [key for key in self._shapes if key.startswith(self.WHOLE)]:
            return whole
        alone = any(key.startswith(self.DENOISER_ALONE) for key in self._shapes)
        others = tuple(prefix for prefixes in self.PREFIXES.values() for prefix in prefixes)
        return [key for key in self._shapes if alone and not key.startswith(others)]

    def misfit(self, base, why):
        return ModelError(
            f"{self.name} can't be loaded with {base.name} as its base: it was made from another model, or is incomplete ({why}). Name the "
            f"base that it was made from, as 'base + {self.name}'."
        )


def open_top(name: str, revision: str | None = None, *, trusted: bool = True, largest: int = LARGEST_UNTRUSTED) -> Top:
    """Recognises what a name stands for; what must be seen to tell is fetched.

    Args:
        name: as after the plus sign.
        revision: of a repository on the Hub, where the name gives none.
        trusted, largest: as for `mia_hub.load_model`.

    Raises:
        ModelError: if it can't be found, or is nothing that goes on top of a model.
    """
    if not name:
        raise ModelError("Nothing stands after a plus sign; name a LoRA, a fine-tuned part or a checkpoint there, or leave the sign out.")
    if trusted and os.path.isfile(name):
        if revision is not None:
            raise ModelError(f"revision={revision!r} is for models on the Hub; {name} is a local one and has none. Leave it out.")
        repository, path = _OneFile(Path(name).absolute(), name), os.path.basename(name)
    else:
        address, _, asked = (name, "", "") if trusted and os.path.isdir(name) else name.partition("@")
        inside = re.fullmatch(r"(\w[\w.-]*/[\w.-]+)/(.+?)/?", address)
        repository = open_repository(inside[1] if inside else address, asked or revision, trusted=trusted, largest=largest)
        path = inside[2] if inside else _found(repository, name)
    if path in repository.sizes:
        return _file(repository, path, name)
    config = f"{path}/config.json".lstrip("/")
    if config not in repository.sizes:
        raise ModelError(f"{repository.name} has no file or part {path}; it has {', '.join(sorted(repository.sizes)[:10])}.")
    weights = [file for file in sorted(repository.sizes) if file.startswith(f"{path}/".lstrip("/")) and file.endswith(".safetensors")]
    return Part(name, repository, path, repository.revision or repository.hash(weights))


class _OneFile(Folder):
    """A file, and peft's configuration beside it; what else lies in its folder may be much, and is not looked at."""

    def __init__(self, file: Path, name: str):
        self.root, self.name, self.revision = file.parent, name, None
        self.sizes = {path.name: path.stat().st_size for path in (file, file.with_name(PEFT_CONFIG)) if path.is_file()}


def _file(repository: Folder, path: str, name: str) -> Top:
    """A LoRA or a checkpoint, by the names of its weights."""
    if not path.endswith(".safetensors"):
        raise ModelError(
            f"{name} is no safetensors file; pickled weights can run code when they are opened, and are not read. Convert a copy that you "
            "trust."
        )
    repository.fetch([glob.escape(path)])
    _remember(repository, path)
    keys = _shapes(repository.root / path, name)
    kind = LoRA if any(ADAPTER_KEY.search(key) for key in keys) else Checkpoint if any(CHECKPOINT_KEY.search(key) for key in keys) else None
    if kind is None:
        raise ModelError(
            f"{name} is neither a LoRA nor a checkpoint in its authors' layout: its weights have names such as "
            f"{min(keys, default='(none)')!r}. A part in diffusers' layout is given as its folder, with config.json."
        )
    own = [path, *([config] if (config := _beside(path)) in repository.sizes else [])]
    return kind(name, repository, path, repository.revision or repository.hash(own))


def _found(repository: Folder, name: str) -> str:
    """Path of the one file of weights in the root of a repository, or of the one folder that holds a part in diffusers' layout."""
    files = [path for path in repository.sizes if path.endswith(".safetensors") and "/" not in path]
    if INDEX in repository.sizes:
        raise ModelError(f"{name} is a whole model; give it alone, not on top of another, or one part of it, such as {name}/unet.")
    if LORA_FILE in files:
        return LORA_FILE
    parts = [path.rpartition("/")[0] for path in repository.sizes if re.fullmatch(r"([^/]+/)?config\.json", path)]
    if len(parts) == 1:
        return parts[0]
    if len(files) == 1 and not parts:
        return files[0]
    if parts or files:
        these = sorted(parts) or sorted(files)
        raise ModelError(f"{name} holds {len(these)} {'parts' if parts else 'files of weights'}; name one, such as {name}/{these[0]}.")
    if any(path.endswith(PICKLED) for path in repository.sizes):
        raise ModelError(f"{name} has only pickled weights, which can run code when they are opened; mia_hub loads safetensors alone.")
    raise ModelError(f"{name} has neither a safetensors file nor a part in diffusers' layout, so it can't go on top of a model.")


def _beside(path: str) -> str:
    """Path of peft's configuration in the folder of a file."""
    return f"{path.rpartition('/')[0]}/{PEFT_CONFIG}".lstrip("/")


def _remember(repository: Folder, path: str) -> None:
    if isinstance(repository, HubRepository):
        repository.remember(path)


def _shapes(path: Path, name: str) -> dict[str, list[int]]:
    """Names and shapes of the weights in a safetensors file; only its header is read."""
    from safetensors import safe_open

    with broken_files(name), safe_open(path, "pt") as file:
        return {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118


def _up(down: str) -> str:
    """The name of the second matrix of an update, from that of the first."""
    match = DOWN.search(down)
    return down[: match.start()] + match[0].replace("lora_A", "lora_B").replace("down", "up") + down[match.end() :]


def _scale(settings: dict[str, Any], stem: str, rank: int) -> float:
    """The scale of an update by the file's settings, ``{"unet.lora_alpha": 8, …}``; 1 where they don't say.

    Raises:
        ValueError: if they can't be followed.
    """
    part, _, module = stem.partition(".")
    own = {key.partition(".")[2]: value for key, value in settings.items() if key.partition(".")[0] == part}
    alpha = own.get("lora_alpha")
    if alpha is None:
        return 1.0
    if str(own.get("init_lora_weights")).partition("_")[0] in ("pissa", "olora", "corda", "loftq", "lora"):
        raise ValueError(f"it needs other base weights: init_lora_weights is {own['init_lora_weights']!r}")
    for pattern, value in (own.get("alpha_pattern") or {}).items():
        if not re.fullmatch(r"\^?[\w.]+", pattern):
            raise ValueError(f"its alpha_pattern {pattern!r} is no plain name")
        if module == pattern.removeprefix("^") or module.endswith(f".{pattern}"):
            alpha = value
            break
    return float(alpha) / (rank**0.5 if own.get("use_rslora") else rank)


def _energy(weights: dict[str, Any]) -> float:
    """Σ ‖B·A‖² over the updates among some weights: what splitting, joining, and renaming them leaves as it is."""
    total = 0.0
    for key, value in weights.items():
        if DOWN.search(key):
            down, up = value.double().flatten(1), weights[_up(key)].double().flatten(1)
            total += float(((down @ down.T) * (up.T @ up)).sum())
    return total


def _size(tensors: Iterable[Any]) -> int:
    return sum(tensor.numel() for tensor in tensors)
