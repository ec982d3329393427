"""Tiny models in one file, under the names of their authors' layout: diffusers' conversion, backwards."""

from __future__ import annotations

import re

import torch


def renamed(weights: dict, prefix: str, rules: list[tuple[str, str]]) -> dict:
    """Weights under the names of the original layout; the first rules rename blocks, the last layers in a block."""
    original = {}
    for name, value in weights.items():
        for pattern, new in rules:
            name = re.sub(pattern, new, name)
        original[prefix + name] = value
    assert len(original) == len(weights)
    return original


DENOISER = "model.diffusion_model."
RESNET = [("norm1", "in_layers.0"), ("conv1", "in_layers.2"), ("time_emb_proj", "emb_layers.1"), ("norm2", "out_layers.0")]
RESNET += [("conv2", "out_layers.3"), ("conv_shortcut", "skip_connection")]
# Of two levels, with one resnet each on the way down and two on the way up.
UNET = [
    ("^time_embedding.linear_1", "time_embed.0"), ("^time_embedding.linear_2", "time_embed.2"), ("^conv_in", "input_blocks.0.0"),
    ("^conv_norm_out", "out.0"), ("^conv_out", "out.2"),
    *[(f"^down_blocks.{i}.{kind}.0", f"input_blocks.{2 * i + 1}.{k}") for i in (0, 1) for k, kind in enumerate(("resnets", "attentions"))],
    ("^down_blocks.0.downsamplers.0.conv", "input_blocks.2.0.op"),
    ("^mid_block.resnets.0", "middle_block.0"), ("^mid_block.attentions.0", "middle_block.1"), ("^mid_block.resnets.1", "middle_block.2"),
    *[
        (f"^up_blocks.{i}.{kind}.{j}", f"output_blocks.{2 * i + j}.{k}")
        for i in (0, 1) for j in (0, 1) for k, kind in enumerate(("resnets", "attentions"))
    ],
    ("^up_blocks.0.upsamplers.0.conv", "output_blocks.1.1.conv"),
    *[(rf"^((?:in|out)put_blocks\.\d\.0|middle_block\.[02])\.{old}", rf"\1.{new}") for old, new in RESNET],
]  # fmt: skip
VAE = [
    ("^(encoder|decoder).conv_norm_out", r"\1.norm_out"),
    (r"^encoder.down_blocks.(\d).resnets.(\d)", r"encoder.down.\1.block.\2"),
    (r"^encoder.down_blocks.(\d).downsamplers.0", r"encoder.down.\1.downsample"),
    *[(rf"^decoder.up_blocks.{i}.resnets.(\d)", rf"decoder.up.{1 - i}.block.\1") for i in (0, 1)],
    ("^decoder.up_blocks.0.upsamplers.0", "decoder.up.1.upsample"),
    (r"mid_block.resnets.0", "mid.block_1"), (r"mid_block.resnets.1", "mid.block_2"), ("conv_shortcut", "nin_shortcut"),
]  # fmt: skip


def original(pipeline) -> dict:
    """Stable Diffusion 1 in one dictionary."""
    weights = renamed(pipeline.unet.state_dict(), DENOISER, UNET)
    weights |= renamed(pipeline.vae.state_dict(), "first_stage_model.", VAE)
    return weights | renamed(pipeline.text_encoder.state_dict(), "cond_stage_model.transformer.text_model.", [])


SD3 = [
    ("^pos_embed.proj", "x_embedder.proj"), ("^pos_embed.pos_embed", "pos_embed"), ("time_text_embed.timestep_embedder", "t_embedder"),
    ("time_text_embed.text_embedder", "y_embedder"), (r"(t|y)_embedder.linear_1", r"\1_embedder.mlp.0"),
    (r"(t|y)_embedder.linear_2", r"\1_embedder.mlp.2"), ("^proj_out", "final_layer.linear"),
    ("^norm_out.linear", "final_layer.adaLN_modulation.1"), ("^transformer_blocks", "joint_blocks"),
    ("norm1_context.linear", "context_block.adaLN_modulation.1"), ("norm1.linear", "x_block.adaLN_modulation.1"),
    ("ff_context.net.0.proj", "context_block.mlp.fc1"), ("ff_context.net.2", "context_block.mlp.fc2"),
    ("ff.net.0.proj", "x_block.mlp.fc1"), ("ff.net.2", "x_block.mlp.fc2"), ("attn.to_out.0", "x_block.attn.proj"),
    ("attn.to_add_out", "context_block.attn.proj"), ("attn.(to_[qkv])", r"x_block.attn.\1"),
    ("attn.add_([qkv])_proj", r"context_block.attn.to_\1"),
]  # fmt: skip
# SDXL's attends in its lower level alone, and has a second text encoder in OpenCLIP's layout.
UNET_XL = [
    ("^add_embedding.linear_1", "label_emb.0.0"), ("^add_embedding.linear_2", "label_emb.0.2"),
    ("^up_blocks.0.upsamplers.0.conv", "output_blocks.1.2.conv"), *UNET,
]  # fmt: skip
OPEN_CLIP = [
    ("^text_model.final_layer_norm", "ln_final"), ("^text_model.encoder.layers", "transformer.resblocks"),
    ("layer_norm", "ln_"), ("fc1", "c_fc"), ("fc2", "c_proj"), ("self_attn", "attn"),
    ("^text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ("^text_model.embeddings.token_embedding", "token_embedding"),
    ("^text_projection.weight", "text_projection"),
]  # fmt: skip


def original_xl(pipeline) -> dict:
    """SDXL in one dictionary, where q, k and v are one in the second text encoder, and its projection is transposed."""
    weights = renamed(pipeline.unet.state_dict(), DENOISER, UNET_XL) | renamed(pipeline.vae.state_dict(), "first_stage_model.", VAE)
    weights |= renamed(pipeline.text_encoder.state_dict(), "conditioner.embedders.0.transformer.text_model.", [])
    second = renamed(pipeline.text_encoder_2.state_dict(), "conditioner.embedders.1.model.", OPEN_CLIP)
    for name in [name for name in second if ".q_proj." in name]:
        fused = torch.cat([second.pop(name.replace("q_proj", f"{which}_proj")) for which in "qkv"])
        second[name.replace("q_proj.", "in_proj_")] = fused
    projection = "conditioner.embedders.1.model.text_projection"
    return weights | second | {projection: second[projection].T.contiguous()}


def original_sd3(transformer) -> dict:
    """Its denoiser alone: q, k and v in one, and the last block's shift before its scale."""
    weights = renamed(transformer.state_dict(), "", SD3)
    for name in [name for name in weights if ".to_q." in name]:
        weights[name.replace("to_q", "qkv")] = torch.cat([weights.pop(name.replace("to_q", f"to_{which}")) for which in "qkv"])
    for name in [name for name in weights if name.startswith(("final_layer.adaLN", "joint_blocks.1.context_block.adaLN"))]:
        weights[name] = torch.cat(weights[name].chunk(2)[::-1])
    return weights


# The UNet of Stable Diffusion 2 whose shapes diffusers recognises it by: its upper level attends, with two resnets on the way down.
UNET_2 = [
    ("^time_embedding.linear_1", "time_embed.0"), ("^time_embedding.linear_2", "time_embed.2"), ("^conv_in", "input_blocks.0.0"),
    ("^conv_norm_out", "out.0"), ("^conv_out", "out.2"),
    *[
        (rf"^down_blocks.{i}.{kind}.{j}\b", f"input_blocks.{3 * i + j + 1}.{k}")
        for i in (0, 1) for j in (0, 1) for k, kind in enumerate(("resnets", "attentions"))
    ],
    ("^down_blocks.0.downsamplers.0.conv", "input_blocks.3.0.op"),
    ("^mid_block.resnets.0", "middle_block.0"), ("^mid_block.attentions.0", "middle_block.1"), ("^mid_block.resnets.1", "middle_block.2"),
    *[
        (rf"^up_blocks.{i}.{kind}.{j}\b", f"output_blocks.{3 * i + j}.{k}")
        for i in (0, 1) for j in (0, 1, 2) for k, kind in enumerate(("resnets", "attentions"))
    ],
    ("^up_blocks.0.upsamplers.0.conv", "output_blocks.2.1.conv"),
    *[(rf"^((?:in|out)put_blocks\.\d\.0|middle_block\.[02])\.{old}", rf"\1.{new}") for old, new in RESNET],
]  # fmt: skip


def original_2(pipeline) -> dict:
    """Stable Diffusion 2 in one dictionary, where q, k and v of the text encoder are one."""
    weights = renamed(pipeline.unet.state_dict(), DENOISER, UNET_2) | renamed(pipeline.vae.state_dict(), "first_stage_model.", VAE)
    text = {
        key if key.startswith("text_model.") else f"text_model.{key}": value for key, value in pipeline.text_encoder.state_dict().items()
    }
    rules = [rule for rule in OPEN_CLIP if "projection" not in rule[0]]
    text = renamed(text, "cond_stage_model.model.", rules)
    for name in [name for name in text if ".q_proj." in name]:
        fused = torch.cat([text.pop(name.replace("q_proj", f"{which}_proj")) for which in "qkv"])
        text[name.replace("q_proj.", "in_proj_")] = fused
    return weights | text
