"""Overlays on tiny pipelines: LoRAs of random weights as tools write them, altered parts, and models with the same weights merged."""

from __future__ import annotations

import copy
import json
import re
import shutil
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
import torch
from diffusers.training_utils import _collate_lora_metadata
from peft import LoraConfig, inject_adapter_in_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from support import tiny_pipelines

import mia_hub.models.loading as loading
from mia_hub.errors import ModelError

CAPTIONS, T = ["a red cat", "a photo of the house"], torch.tensor([30, 499])
LORA_FILE, RANK = "pytorch_lora_weights.safetensors", 4
SD1 = "stable-diffusion-v1-5/stable-diffusion-v1-5"


def load_model(name, *, device="cpu", **options):
    """Load on the CPU; Flux for small images, since no configuration states how small those of the tiny ones are."""
    return loading.load_model(str(name), device=device, **({"size": 16} if "flux" in str(name) else {}), **options)


def epsilon(model) -> torch.Tensor:
    x = torch.randn(2, *model.info.sample_shape, generator=torch.Generator().manual_seed(1))
    return model.predict_noise(x, T, model.condition(CAPTIONS if model.info.conditioning == "text" else None))


def same(actual, expected, tolerance=1e-5) -> bool:
    return (actual.double() - expected.double()).abs().max() <= tolerance * expected.abs().max()


def refusal(name, **options) -> str:
    with pytest.raises(ModelError) as error:
        load_model(name, **options)
    return str(error.value)


def weights_fetched(hub, repo_id) -> list[str]:
    return sorted(path for path in hub.files_fetched(repo_id) if path.endswith((".safetensors", ".bin", ".ckpt")))


@cache
def _unchanged(name: str):
    """A tiny pipeline to look at or to copy; built once."""
    return tiny_pipelines.build(name)


def random_updates(name: str, patterns: dict[str, str]) -> dict:
    """Low-rank updates ``{part: {module: (A, B, scale)}}`` of the modules of a tiny pipeline whose names match; their scales differ."""
    pipeline, generator, updates = _unchanged(name), torch.Generator().manual_seed(2), {}
    for part, pattern in patterns.items():
        updates[part] = {}
        for module, layer in getattr(pipeline, part).named_modules():
            if re.search(pattern, module) and hasattr(layer, "weight"):
                outputs, inputs, *kernel = layer.weight.shape
                a = torch.randn(RANK, inputs, *kernel, generator=generator) / inputs**0.5
                b = torch.randn(outputs, RANK, *[1] * len(kernel), generator=generator) / 4
                updates[part][module] = (a, b, 2.0 if "attn" in module else -0.25)
        assert updates[part]
    return updates


def merged_weight(weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scale: float) -> torch.Tensor:
    """W + scale·B·A, in the precision of W."""
    return weight + (scale * b.to(weight.dtype).flatten(1) @ a.to(weight.dtype).flatten(1)).reshape(weight.shape)


@contextmanager
def other_weights(model, change, *all_names):
    """Context in which a loaded model has ``change(weight, *values)`` in place of each weight of ``{part: {module: values}}``."""
    changed = []
    try:
        for part, modules in [item for names in all_names for item in names.items()]:
            # Its pipeline is there for captions; the denoiser stands apart.
            module_of = (model.network if part in ("unet", "transformer") else getattr(model.pipeline, part)).get_submodule
            for name, values in modules.items():
                weight = module_of(name).weight
                changed.append((weight, weight.data))
                weight.data = change(weight.data, *values)
        yield model
    finally:
        for weight, before in reversed(changed):
            weight.data = before


# Layers with a LoRA, by part, in each family.
LORA_LAYERS = {
    "sd1": {"unet": ["to_q", "conv1"], "text_encoder": ["q_proj", "fc1"]},
    "sd2": {"unet": ["to_k", "proj_in"]},
    "sdxl": {"unet": ["to_v", "ff.net.2", "add_embedding.linear_1"], "text_encoder": ["k_proj"], "text_encoder_2": ["fc2"]},
    "sd3": {"transformer": ["to_q", "add_k_proj"], "text_encoder": ["v_proj"], "text_encoder_2": ["q_proj"]},
    "flux-dev": {"transformer": ["to_q", "proj_mlp", "x_embedder"], "text_encoder": ["out_proj"]},
    "flux-schnell": {"transformer": ["to_out.0", "norm.linear"]},
    "sana": {"transformer": ["to_q", "linear_1"]},
}


def save_random_lora(name: str, targets: dict[str, list[str]], folder: Path, *, seed=0, settings=True, **config) -> dict:
    """Saves a LoRA of random weights as it is after training, with peft and the pipeline's own method; returns its updates.

    Without settings in the file, its scale is 1.
    """
    pipeline = _unchanged(name)
    parts = {part: copy.deepcopy(getattr(pipeline, part)) for part in targets}
    config = {"r": RANK, "lora_alpha": 2 * RANK if settings else RANK, "init_lora_weights": False} | config
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for part, module in parts.items():
            inject_adapter_in_model(LoraConfig(target_modules=targets[part], **config), module)
    layers = {f"{part}_lora_layers": get_peft_model_state_dict(module) for part, module in parts.items()}
    pipeline.save_lora_weights(folder, **layers, **(_collate_lora_metadata(parts) if settings else {}))
    with_lora = {part: {key: layer for key, layer in module.named_modules() if hasattr(layer, "lora_A")} for part, module in parts.items()}
    return {
        part: {key: (e.lora_A["default"].weight.data, e.lora_B["default"].weight.data, e.scaling["default"]) for key, e in layers.items()}
        for part, layers in with_lora.items()
    }


def save_files(files: dict, folder: Path) -> Path:
    """Writes tensors (with or without metadata), JSON, or bytes; returns the folder."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            (folder / path).write_bytes(content)
        elif path.endswith(".json"):
            (folder / path).write_text(json.dumps(content))
        else:
            tensors, metadata = content if isinstance(content, tuple) else (content, None)
            save_file({key: tensor.clone().contiguous() for key, tensor in tensors.items()}, folder / path, metadata=metadata)
    return folder


# Each naming writes updates as files.


def kohya(updates):
    unet, several = "lora_unet_", "text_encoder_2" in updates
    prefixes = {
        "unet": unet,
        "transformer": unet,
        "text_encoder": f"lora_te{'1' if several else ''}_text_model_",
        "text_encoder_2": "lora_te2_",
    }
    tensors = {}
    for part, modules in updates.items():
        for module, (a, b, scale) in modules.items():
            stem = prefixes[part] + module.replace(".", "_")
            tensors |= {f"{stem}.lora_down.weight": a, f"{stem}.lora_up.weight": b, f"{stem}.alpha": torch.tensor(scale * len(a))}
    return {"any.safetensors": tensors}


def kohya_in_half(updates):
    return {"any.safetensors": {key: tensor.half() for key, tensor in kohya(updates)["any.safetensors"].items()}}


def kohya_on_original_blocks(updates):
    (names,) = kohya(updates).values()
    return {"any.safetensors": {key.replace("down_blocks_1_attentions_0", "input_blocks_3_1"): tensor for key, tensor in names.items()}}


def plain(style, up, prefix="{part}.", text="text_model."):
    """Namings without a scale, which is multiplied into B."""

    def write(updates):
        tensors = {}
        for part, modules in updates.items():
            for module, (a, b, scale) in modules.items():
                name = style(prefix.format(part=part) + (text if part == "text_encoder" else "") + module, part)
                tensors |= {name: a, name.replace("lora_A", "lora_B").replace(*up): b * scale}
        return {LORA_FILE: tensors}

    return write


UP = (".down.", ".up.")
LAYERS = plain(lambda name, part: f"{name}.lora{'_linear_layer' if part == 'text_encoder' else ''}.down.weight", UP)
PROCESSORS = (lambda name, _: re.sub(r"\.to_(q|k|v|out)(\.0)?$", r".processor.to_\1_lora.down.weight", name), UP)


def with_settings(updates):
    """One scale for all, except those of the patterns, as diffusers writes it."""
    (modules,) = updates.values()
    alphas = {f"^{module}" if i % 2 else module: scale * RANK for i, (module, (*_, scale)) in enumerate(modules.items())}
    settings = {"unet.r": RANK, "unet.lora_alpha": 7, "unet.alpha_pattern": alphas}
    tensors = {f"unet.{module}.lora_{m}.weight": t for module, ab in modules.items() for m, t in zip("AB", ab[:2])}
    return {LORA_FILE: (tensors, {"lora_adapter_metadata": json.dumps(settings)})}


def by_peft(updates):
    """peft's own folder; rank-stabilised, so that alpha is divided by the root of the rank."""
    (modules,) = updates.values()
    tensors = {f"base_model.model.{module}.lora_{m}.weight": t for module, ab in modules.items() for m, t in zip("AB", ab[:2])}
    alphas = {module: scale * RANK**0.5 for module, (*_, scale) in modules.items()}
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 1, "use_rslora": True, "alpha_pattern": alphas}
    return {"adapter_model.safetensors": tensors, "adapter_config.json": config}


def flux_by_kohya(updates):
    """Fused: one update for q, k and v."""
    modules = updates["transformer"]
    block, a = "transformer_blocks.0.attn.to_", modules["transformer_blocks.0.attn.to_q"][0]
    for name in "kv":
        modules[block + name] = (a, *modules[block + name][1:])
    fused = {"double_blocks_0_img_attn_qkv": (a, torch.cat([modules[block + name][1] for name in "qkv"]), modules[f"{block}q"][2])}
    return kohya({"transformer": fused | {"img_in": modules["x_embedder"]}})


def peft_names(updates, prefix="{part}.", adapter="", text="text_model.", alphas=False):
    """Of peft's naming; the scale multiplied into B, or in entries of their own."""
    tensors = {}
    for part, modules in updates.items():
        for module, (a, b, scale) in modules.items():
            stem = prefix.format(part=part) + (text if part == "text_encoder" else "") + module
            tensors |= {f"{stem}.lora_A{adapter}.weight": a, f"{stem}.lora_B{adapter}.weight": b if alphas else b * scale}
            tensors |= {f"{stem}.alpha": torch.tensor(scale * len(a))} if alphas else {}
    return tensors


def by_name(**options):
    return lambda updates: {"any.safetensors": peft_names(updates, **options)}


def by_comfy(updates):
    names = peft_names(updates, prefix="diffusion_model.", alphas=True)
    return {"any.safetensors": {key.replace("down_blocks.1.attentions.0", "input_blocks.3.1"): tensor for key, tensor in names.items()}}


def by_one_trainer(updates):
    names = kohya({"unet" if part == "transformer" else part: modules for part, modules in updates.items()})["any.safetensors"]
    return {
        "any.safetensors": {
            re.sub("^lora_te_", "lora_te1_", key.replace("unet", "transformer").replace("text_model_text_", "text_")): t
            for key, t in names.items()
        }
    }


def a_text_encoders(updates):
    """peft's own folder of a text encoder."""
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK}
    return {"adapter_model.safetensors": peft_names(updates, prefix="base_model.model."), "adapter_config.json": config}


ATTENTION = r"attn\d\.to_(q|out\.0)$"
NAMINGS = {
    "kohya": ("sd1", {"unet": r"to_q$|conv1|proj_in|time_emb_proj|conv_in", "text_encoder": "fc1|q_proj"}, kohya),
    "kohya, half precision": ("sd1", {"unet": r"to_q$|conv1"}, kohya_in_half),
    "kohya, two text encoders": ("sdxl", {"text_encoder": "q_proj|fc1", "text_encoder_2": "out_proj|fc2|text_projection"}, kohya),
    "kohya, original blocks": ("sdxl", {"unet": r"down_blocks.1.attentions.0.*to_v$"}, kohya_on_original_blocks),
    "diffusers, by layer": ("sd1", {"unet": r"to_v$|ff.net.2|conv2", "text_encoder": "k_proj|fc2"}, LAYERS),
    "diffusers, by processor": ("sd1", {"unet": ATTENTION}, plain(*PROCESSORS)),
    "diffusers, UNet alone": ("sd1", {"unet": ATTENTION}, plain(*PROCESSORS, prefix="")),
    "settings in the file": ("sd2", {"unet": r"to_q$|conv1"}, with_settings),
    "peft": ("sdxl", {"unet": r"to_q$|conv1"}, by_peft),
    "peft, adapter's name": ("sd1", {"unet": r"to_q$|conv1"}, by_name(adapter=".default", alphas=True)),
    "peft, another name": ("sd1", {"unet": r"to_q$", "text_encoder": "fc1"}, by_name(adapter=".default_0", alphas=True)),
    "peft's wrapper outside": ("sd1", {"unet": r"to_q$"}, by_name(prefix="base_model.model.{part}.", alphas=True)),
    "peft's wrapper inside": ("sd1", {"unet": r"to_q$"}, by_name(prefix="{part}.base_model.model.", alphas=True)),
    "peft's wrapper alone": ("sd1", {"unet": r"to_q$"}, by_name(prefix="base_model.model.", alphas=True)),
    "peft, a text encoder": ("sd1", {"text_encoder": "fc1|q_proj"}, a_text_encoders),
    "ComfyUI, original blocks": ("sdxl", {"unet": r"down_blocks.1.attentions.0.*to_v$"}, by_comfy),
    "OneTrainer, Flux": ("flux-dev", {"transformer": r"attn.to_[qk]$|proj_mlp", "text_encoder": "fc1"}, by_one_trainer),
    "OneTrainer, SD3": ("sd3", {"transformer": r"attn.to_[qk]$", "text_encoder": "q_proj"}, by_one_trainer),
    "kohya, Flux": ("flux-dev", {"transformer": r"^transformer_blocks.0.attn.to_[qkv]$|^x_embedder$"}, flux_by_kohya),
}


def altered_pipeline(name: str, *parts: str):
    """The tiny pipeline with other weights in some parts."""
    pipeline = tiny_pipelines.build(name)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        for parameter in [parameter for part in parts for parameter in getattr(pipeline, part).parameters()]:
            parameter.data += 0.2 * parameter.std(correction=0) * torch.randn_like(parameter)
    return pipeline


def save_replaced(base: Path, folder: Path, pipeline, *parts: str) -> Path:
    """Saves a base with some parts of a pipeline in place of its own; returns its folder."""
    shutil.copytree(base, folder)
    for part in parts:
        getattr(pipeline, part).save_pretrained(folder / part)
    return folder


def assert_same_model(actual, expected):
    images = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(epsilon(actual), epsilon(expected)) and torch.equal(actual.encode(images), expected.encode(images))


def files(**contents):
    """A change that writes files, whose names have "__" in place of each dot."""
    return lambda folder: save_files({path.replace("__", "."): content for path, content in contents.items()}, folder)


def part_of(name, part):
    def save(folder):
        getattr(tiny_pipelines.build(name), part).save_pretrained(folder)

    return save


def two_parts(folder):
    for part in ("unet", "vae"):
        part_of("sd1", part)(folder / part)


PICKLE = ("pickled weights", "can run code")
