"""Names in LoRA files, brought to those that diffusers reads: without peft's wrappers and adapter names, and with dots again."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from mia_hub.errors import ModelError
from mia_hub.models.overlays.overlay import Base

PEFT_PREFIX = "base_model.model."
# The first of the two matrices of a low-rank update, in the namings of peft, of kohya's scripts, and of older diffusers.
DOWN = re.compile(r"[._](lora_A|lora_down|lora\d?(_linear_layer)?\.down)\.")
# peft may write the name of the adapter into that of each matrix, as in "to_q.lora_A.default.weight".
ADAPTER = re.compile(r"\.(lora_A|lora_B|lora_magnitude_vector)\.(?!weight$|bias$)([^.]+)(?=\.(?:weight|bias)$|$)")
# Those of kohya's scripts and of OneTrainer; "transformer" is followed by diffusers' own names.
UNDERSCORED = re.compile(r"lora_(unet|transformer|te\d?)_(.*)")

# ComfyUI's, of a UNet.
ORIGINAL = re.compile(r"diffusion_model\.(.+)\.(?:lora_(A|B|down|up)\.weight|alpha)")


def plain_names(weights: dict[str, Any], base: Base, folder: str, name: str) -> dict[str, Any]:
    """The weights of a LoRA under names that diffusers reads.

    Args:
        weights: as they are stored.
        base: what the LoRA goes on.
        folder: name of the folder that the file lies in, which may be that of a text encoder.
        name: of the LoRA, for messages.

    Raises:
        ModelError: if it holds several adapters.
        ValueError: if it names a layer that the base doesn't have.
    """
    adapters = {match[2] for key in weights if (match := ADAPTER.search(key))}
    if len(adapters) > 1:
        raise ModelError(
            f"{name} holds several adapters ({', '.join(sorted(adapters))}). Save one of them in a file of its own, and name that."
        )
    dotted = _dotted(base) if any(key.startswith("lora_transformer_") for key in weights) else {}
    return {_plain(ADAPTER.sub(r".\1", key), base, folder, dotted): value for key, value in weights.items()}


def part_and_module(stem: str, base: Base) -> tuple[str, str]:
    """The part of the base that an update belongs to, and its layer there; names without a part are the denoiser's."""
    denoiser = base.adapter.denoiser
    if match := UNDERSCORED.fullmatch(stem):
        kind = match[1]
        number = kind.removeprefix("te") if kind.startswith("te") else ""
        part = denoiser if not kind.startswith("te") else "text_encoder" if number in ("", "1") else f"text_encoder_{number}"
        return part, match[2]
    part, _, module = stem.partition(".")
    return (part, module) if part in base.components else (denoiser, stem.removeprefix("diffusion_model."))


def _plain(key: str, base: Base, folder: str, dotted: dict[str, str]) -> str:
    denoiser = base.adapter.denoiser
    if key.endswith(".lora_magnitude_vector.weight"):
        key = key.removesuffix(".weight")
    if PEFT_PREFIX in key:
        key = key.replace(PEFT_PREFIX, "", 1)
        if key.partition(".")[0] not in base.components:
            text = key.startswith("text_model.")
            part = (
                folder if folder in base.components and text == folder.startswith("text_encoder") else "text_encoder" if text else denoiser
            )
            key = f"{part}.{key}"
    if match := ORIGINAL.fullmatch(key) if denoiser == "unet" else None:
        # diffusers knows the blocks of the original layout in kohya's naming alone.
        endings = {"A": "lora_down.weight", "down": "lora_down.weight", "B": "lora_up.weight", "up": "lora_up.weight", None: "alpha"}
        return f"lora_unet_{match[1].replace('.', '_')}.{endings[match[2]]}"
    stem, _, rest = key.partition(".")
    if dotted and (match := UNDERSCORED.fullmatch(stem)):
        part, module = part_and_module(stem, base)
        layer = dotted.get(module) if part == denoiser else _dotted_text(module)
        if layer is None or part not in base.components:
            raise ValueError(f"it has an update for {stem}, a layer that this model lacks")
        return f"{part}.{layer}.{rest.replace('lora_down', 'lora_A').replace('lora_up', 'lora_B')}"
    return key


def _dotted_text(module: str) -> str | None:
    """The layer of a CLIP or T5 text encoder, by its name with underscores; None if there is no such."""
    if match := re.fullmatch(r"(?:text_model_)?encoder_layers_(\d+)_(self_attn|mlp)_(\w+)", module):
        return f"text_model.encoder.layers.{match[1]}.{match[2]}.{match[3]}"
    if match := re.fullmatch(r"encoder_block_(\d+)_layer_(\d+)_(SelfAttention|DenseReluDense)_(\w+)", module):
        return f"encoder.block.{match[1]}.layer.{match[2]}.{match[3]}.{match[4]}"
    return module if module == "text_projection" else None


def _dotted(base: Base) -> dict[str, str]:
    """The layers of the denoiser, by their names with underscores."""
    names: Iterable[str] = (name for name, _ in base.empty_denoiser().named_modules())
    return {name.replace(".", "_"): name for name in names}
