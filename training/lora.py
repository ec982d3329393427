"""Low-rank updates (LoRA, arXiv 2106.09685) of the attention projections of a UNet that the recipes fine-tune."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

LAYERS = ("to_q", "to_k", "to_v", "to_out.0")


def add_lora(unet, rank: int) -> None:
    """Freeze a UNet and add trainable low-rank updates to it, which change nothing yet. Their scale is 1."""
    from peft import LoraConfig, inject_adapter_in_model

    unet.requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=list(LAYERS)), unet)


def merged(unet):
    """Return a copy of a UNet with its updates added to its weights, in the layout that it had without them."""
    from peft.tuners.lora import LoraLayer

    copy = deepcopy(unet)
    for name, layer in list(copy.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge()
            copy.set_submodule(name, layer.get_base_layer())
    return copy


def save_lora(unet, folder: Path) -> None:
    """Write the updates alone, as ``pytorch_lora_weights.safetensors``."""
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import get_peft_model_state_dict

    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=convert_state_dict_to_diffusers(get_peft_model_state_dict(unet)))
