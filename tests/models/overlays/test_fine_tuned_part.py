"""One fine-tuned part in place of the base's."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import tiny_pipelines
from support.model_folders import DROP, change_json
from support.overlays import (
    PICKLE,
    altered_pipeline,
    assert_same_model,
    epsilon,
    files,
    load_model,
    part_of,
    refusal,
    same,
    save_replaced,
    two_parts,
    weights_fetched,
)  # fmt: skip


@pytest.mark.parametrize(
    "name, part, where",
    [
        ("sd1", "unet", "root"),
        ("sd1", "unet", "folder"),
        ("sd1", "unet", "of a whole model"),
        ("sd1", "vae", "folder"),
        ("sd1", "text_encoder", "root"),
        ("sd3", "text_encoder_2", "folder"),  # there are two of its class, distinguished by their folders
        ("flux-dev", "transformer", "root"),
        ("ddpm", "unet", "of a whole model"),
    ],
)
def test_a_part_takes_the_place_of_the_bases(base, alone, tmp_path, on_hub, loopback_hub, name, part, where):
    whole = save_replaced(base(name), tmp_path / f"{name}-whole", altered_pipeline(name, part), part)
    repo = on_hub(base(name))
    if where == "root":
        overlay = on_hub(whole / part)
    else:
        shutil.copytree(whole / part, tmp_path / "overlay" / part)
        overlay = on_hub(tmp_path / "overlay") if where == "folder" else f"{on_hub(whole)}/{part}"
    model, expected = load_model(f"{repo} + {overlay}"), load_model(whole)
    assert_same_model(model, expected)
    if part != "vae":
        assert not same(alone(name), epsilon(expected), 1e-2)
    assert model.info.id == f"{repo} + {overlay}" and re.fullmatch(r"\w{40} \+ \w{40}", model.info.revision)
    assert not [path for path in weights_fetched(loopback_hub, repo) if path.startswith(f"{part}/")]
    (fetched,) = weights_fetched(loopback_hub, "/".join(overlay.split("/")[:2]))
    assert fetched.startswith("" if where == "root" else f"{part}/")


@pytest.mark.parametrize("name, part", [("sd1", "vae"), ("sd3", "text_encoder_2")])
def test_a_part_in_a_folder(base, tmp_path, name, part):
    whole = save_replaced(base(name), tmp_path / "whole", altered_pipeline(name, part), part)
    local, expected = load_model(f"{base(name)} + {whole / part}"), load_model(whole)
    assert_same_model(local, expected)
    images = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    if part == "vae":
        assert not same(load_model(base(name)).encode(images), expected.encode(images), 1e-2)
    assert re.fullmatch(r"sha256:\w+ \+ sha256:\w+", local.info.revision)


def test_a_part_without_the_scale_that_is_the_default_fits(base, tmp_path):
    """As in old repositories of autoencoders."""
    shutil.copytree(base("sd1") / "vae", tmp_path / "vae")
    change_json(tmp_path / "vae/config.json", scaling_factor=DROP)
    assert torch.equal(epsilon(load_model(f"{base('sd1')} + {tmp_path / 'vae'}")), epsilon(load_model(base("sd1"))))


def changed_part(part, **changes):
    def make(folder):
        part_of("sd1", part)(folder)
        change_json(folder / "config.json", **changes)

    return make


def pickled_part(folder):
    tiny_pipelines.build("sd1").unet.save_pretrained(folder, safe_serialization=False)


def pickled_shards(folder):
    pickled_part(folder)
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": {"conv_in.weight": "diffusion_pytorch_model.bin"}})
    )


NO_PART = {
    "another class": ("sd1", part_of("ddpm", "unet"), ("holds a UNet2DModel that", "UNet2DConditionModel (unet)")),
    "SD2's UNet": ("sd1", part_of("sd2", "unet"), ("is no unet for", "cross_attention_dim is 32, and the base's is 16", "fine-tuned from")),
    "SDXL's VAE": ("sd1", part_of("sdxl", "vae"), ("is no vae for", "scaling_factor is 0.13025, and the base's is 0.18215")),
    "SD2's text encoder": ("sd1", part_of("sd2", "text_encoder"), ("is no text_encoder for", "hidden_size is 32, and the base's is 16")),
    "for inpainting": ("sd1", changed_part("unet", in_channels=9), ("is no unet for", "in_channels is 9, and the base's is 4")),
    "one of two": ("sd3", part_of("sd3", "text_encoder_2"), ("could be the text_encoder or text_encoder_2", "in a folder of that name")),
    "a whole model": ("sd1", lambda folder: tiny_pipelines.save("sd1", folder), ("is a whole model; give it alone", "/unet")),
    "two parts": ("sd1", two_parts, ("holds 2 parts; name one, such as", "/unet")),
    "pickled part": ("sd1", pickled_part, PICKLE),
    "pickled shards": ("sd1", pickled_shards, ("is refused", "refers to weights that are not safetensors")),
    "pickled LoRA": ("sd1", files(pytorch_lora_weights__bin=b"pickle"), PICKLE),
    "pickled checkpoint": ("sd1", files(model__ckpt=b"pickle"), PICKLE),
    "several files": ("sd1", files(a__safetensors={}, b__safetensors={}), ("2 files of weights; name one, such as", "/a.safetensors")),
    "nothing": ("sd1", files(README__md=b"Hello"), ("neither a safetensors file nor a part",)),
    "odd weights": (
        "sd1",
        files(a__safetensors={"conv_in.weight": torch.ones(1)}),
        ("neither a LoRA nor a checkpoint", "names such as 'conv_in.weight'", "given as its folder, with config.json"),
    ),
    "broken config": ("sd1", files(config__json=b"{"), ("config.json is not readable JSON",)),
    "odd config": ("sd1", files(config__json=b"{}"), ("holds no part that", "UNet2DConditionModel (unet)")),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_PART)
def test_what_is_no_part_of_the_base_is_refused(base, tmp_path, on_hub, loopback_hub, case):
    name, make, says = NO_PART[case]
    repo, folder = on_hub(base(name)), tmp_path / "overlay"
    folder.mkdir()
    make(folder)
    for overlay in (folder, on_hub(folder)):
        message = refusal(f"{repo} + {overlay}")
        for phrase in (str(overlay), *says):
            assert phrase in message, message
    assert weights_fetched(loopback_hub, repo) == []
    assert not [path for path in weights_fetched(loopback_hub, overlay) if not path.endswith(".safetensors")]


def test_missing_weights_are_refused(base, tmp_path):
    part_of("sd1", "unet")(tmp_path / "unet")
    file = tmp_path / "unet/diffusion_pytorch_model.safetensors"
    save_file({key: value for key, value in load_file(file).items() if key != "conv_in.weight"}, file)
    assert "1 weights are missing (such as conv_in.weight)" in refusal(f"{base('sd1')} + {tmp_path / 'unet'}")
