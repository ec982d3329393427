"""Single-file checkpoints on top of a model: diffusers' conversion, backwards."""

from __future__ import annotations

import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.overlays import (
    LORA_FILE,
    PICKLE,
    SD1,
    altered_pipeline,
    assert_same_model,
    epsilon,
    load_model,
    refusal,
    same,
    save_random_lora,
    save_replaced,
    weights_fetched,
)  # fmt: skip


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


@pytest.fixture(scope="module")
def checkpoint(base, tmp_path_factory):
    """A single file with other weights than the tiny SD1's, and the folder with the same weights."""
    folder, parts = tmp_path_factory.mktemp("checkpoint"), ("unet", "vae", "text_encoder")
    pipeline = altered_pipeline("sd1", *parts)
    save_file(original(pipeline) | {"model_ema.decay": torch.ones(1)}, folder / "any.safetensors")
    return folder / "any.safetensors", save_replaced(base("sd1"), folder / "folder", pipeline, *parts)


@pytest.fixture(scope="module")
def expected(checkpoint):
    """The model with the checkpoint's weights."""
    return load_model(checkpoint[1])


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_a_single_file_is_its_weights_in_diffusers_layout(base, alone, checkpoint, on_hub, loopback_hub, dtype):
    file, folder = checkpoint
    repo, other = on_hub(base("sd1")), on_hub({"deep/any.safetensors": file.read_bytes()})
    expected = load_model(folder, dtype=dtype)
    names = [f"{repo} + {file}", f"{repo} + {other}/deep/any.safetensors", f"{base('sd1')} + {file}"]
    for name in names if dtype == "float32" else names[:1]:
        model = load_model(name, dtype=dtype)
        assert_same_model(model, expected)
        assert {parameter.dtype for parameter in model.network.parameters()} == {model.dtype} and model.info.id == name
    assert weights_fetched(loopback_hub, repo) == []
    assert not same(alone("sd1"), epsilon(expected), 1e-2)


def test_a_single_file_alone_takes_the_configuration_of_its_origin(base, checkpoint, expected, tmp_path, on_hub, loopback_hub, capsys):
    file, folder = checkpoint
    before = len(loopback_hub.files_fetched(SD1))
    on_hub(base("sd1"), SD1)
    hub = on_hub({"any.safetensors": file.read_bytes()})
    for name, options in ((file, {}), (f"{hub}/any.safetensors", {"revision": "main"}), (f"{hub}/any.safetensors@main", {})):
        model = load_model(name, **options)
        assert_same_model(model, expected)
        assert model.info.id == f"{SD1} + {name}" and f"are taken from {SD1}" in capsys.readouterr().err
    assert not [path for path in loopback_hub.files_fetched(SD1)[before:] if path.endswith(".safetensors")]
    save_random_lora("sd1", {"unet": ["to_q"]}, tmp_path)
    assert torch.equal(epsilon(load_model(f"{file} + {tmp_path}")), epsilon(load_model(f"{folder} + {tmp_path}")))
    assert_same_model(load_model(f"{hub}/any.safetensors", trusted=False), expected)


def test_files_with_some_parts(base, checkpoint, tmp_path, on_hub, loopback_hub):
    file, folder = checkpoint
    weights = load_file(file)
    prefixes = {"unet": "model.diffusion_model.", "vae": "first_stage_model.", "text_encoder": "cond_stage_model."}
    for part, prefix in prefixes.items():
        # A VAE alone has no prefix.
        own = {key.removeprefix("first_stage_model."): value for key, value in weights.items() if key.startswith(prefix)}
        save_file(own, tmp_path / f"{part}.safetensors")
        if part == "text_encoder":
            continue  # alone it isn't recognised
        repo = on_hub(base("sd1"))
        expected = load_model(f"{base('sd1')} + {folder / part}")
        assert_same_model(load_model(f"{repo} + {tmp_path / part}.safetensors"), expected)
        assert len(weights_fetched(loopback_hub, repo)) == 2 and f"{part}/" not in str(weights_fetched(loopback_hub, repo))
    both = load_model(f"{base('sd1')} + {tmp_path / 'unet'}.safetensors + {tmp_path / 'vae'}.safetensors")
    assert_same_model(both, load_model(f"{base('sd1')} + {folder / 'unet'} + {folder / 'vae'}"))


def test_sdxl_in_one_file(base, tmp_path, on_hub, loopback_hub):
    parts = ("unet", "vae", "text_encoder", "text_encoder_2")
    pipeline, repo = altered_pipeline("sdxl", *parts), on_hub(base("sdxl"))
    save_file(original_xl(pipeline), tmp_path / "any.safetensors")
    assert_same_model(load_model(f"{repo} + {tmp_path}"), load_model(save_replaced(base("sdxl"), tmp_path / "whole", pipeline, *parts)))
    assert weights_fetched(loopback_hub, repo) == []


def test_a_transformer_alone(base, alone, tmp_path):
    """Of SD3. (Of Flux diffusers reads no tiny one: its conversion has the width of the real one, 3072, written in.)"""
    pipeline = altered_pipeline("sd3", "transformer")
    save_file(original_sd3(pipeline.transformer), tmp_path / "sd3.safetensors")
    expected = load_model(save_replaced(base("sd3"), tmp_path / "whole", pipeline, "transformer"))
    assert_same_model(load_model(f"{base('sd3')} + {tmp_path / 'sd3.safetensors'}"), expected)
    assert not same(alone("sd3"), epsilon(expected), 1e-2)


def without(*parts):
    return lambda tensors: {key: value for key, value in tensors.items() if not any(part in key for part in parts)}


OTHER_MODEL = ("as its base: it was made from another model, or is incomplete", "as 'base + ")
CLIP, INPUT = "cond_stage_model.transformer.text_model.", "input_blocks.0.0.weight"
NO_CHECKPOINT = {
    "a layer missing": ("sd1", without("middle_block.1.proj_in"), (*OTHER_MODEL, "its denoiser has")),
    "a layer more": ("sd1", lambda weights: weights | {f"{DENOISER}label_emb.weight": torch.ones(3)}, (*OTHER_MODEL, "its denoiser has")),
    "that predicts v": ("sd1", lambda weights: weights | {"v_pred": torch.ones(0)}, ("states that its denoiser predicts v", "Name a base")),
    "SD1's on SD2": ("sd2", dict, (*OTHER_MODEL, "its denoiser has")),
    "SD1's on SDXL": ("sdxl", dict, (*OTHER_MODEL, "its denoiser has")),
    "SD1's on Flux": ("flux-dev", dict, (*OTHER_MODEL, "its denoiser has")),
    "SD1's on Sana": ("sana", dict, ("diffusers reads none for", "Give the model in diffusers' layout")),
    "of another shape": (
        "sd1",
        lambda weights: weights | {f"{DENOISER}{INPUT}": weights[f"{DENOISER}{INPUT}"].transpose(0, 1)},
        (*OTHER_MODEL, "conv_in.weight expected shape"),
    ),
    "half a VAE": ("sd1", without("first_stage_model.decoder.conv_out"), (*OTHER_MODEL, "lacks")),
    "half a text encoder": ("sd1", without(f"{CLIP}final_layer_norm"), (*OTHER_MODEL, "lacks")),
    "no positions": ("sd1", without(f"{CLIP}embeddings.position_embedding"), OTHER_MODEL),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_CHECKPOINT)
def test_a_checkpoint_that_doesnt_fit_is_refused(base, checkpoint, tmp_path, on_hub, loopback_hub, case):
    name, change, says = NO_CHECKPOINT[case]
    file, repo = tmp_path / "any.safetensors", on_hub(base(name))
    save_file({key: value.contiguous() for key, value in change(load_file(checkpoint[0])).items()}, file)
    for where in (repo, base(name)):
        message = refusal(f"{where} + {file}")
        for phrase in (str(file), str(where), *says):
            assert phrase in message, message
    assert weights_fetched(loopback_hub, repo) == []


def test_what_can_not_stand_alone(base, checkpoint, tmp_path, on_hub):
    without_base = refusal(checkpoint[0])
    assert f"{checkpoint[0]} seems to be made from {SD1}, which can't be loaded. The Hub has no model" in without_base
    assert f"Or name another base, as 'base + {checkpoint[0]}'" in without_base
    weights = load_file(checkpoint[0])
    save_file(
        {key.removeprefix("first_stage_model."): value for key, value in weights.items() if "first" in key}, tmp_path / "vae.safetensors"
    )
    save_random_lora("sd1", {"unet": ["to_q"]}, tmp_path)
    (tmp_path / "a.ckpt").write_bytes(b"pickle")
    hub = on_hub({"a.ckpt": b"pickle", LORA_FILE: (tmp_path / LORA_FILE).read_bytes()})
    for name, says in {
        tmp_path / "vae.safetensors": ("holds no denoiser", f"name its base as well, as 'base + {tmp_path / 'vae.safetensors'}'"),
        tmp_path / LORA_FILE: ("goes on top of a model; name its base as well, as 'base + ",),
        f"{hub}/{LORA_FILE}": ("goes on top of a model",),
        tmp_path / "a.ckpt": PICKLE,
        f"{hub}/a.ckpt": PICKLE,
        f"{base('sd1')} + {tmp_path / 'a.ckpt'}": PICKLE,
        f"{base('sd1')} + {hub}/a.ckpt": PICKLE,
        tmp_path / "none.safetensors": ("There is no model",),
    }.items():
        message = refusal(name)
        for phrase in says:
            assert phrase in message, message
