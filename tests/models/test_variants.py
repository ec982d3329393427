"""Weights under a variant name: loaded whichever a repository has, and recorded where it has several."""

from __future__ import annotations

import shutil

import pytest
import torch
from support import tiny_pipelines
from support.overlays import epsilon, load_model, same

# Variants of the UNet of a pixel model that are there, the precision asked for, and the one that is loaded.
CHOICES = {
    "bf16 alone": (["bf16"], "float32", "bf16"),
    "bf16 alone, in half": (["bf16"], "bfloat16", "bf16"),
    "another alone": (["my-own"], "float32", "my-own"),
    "not averaged alone": (["non_ema"], "float32", "non_ema"),
    "plain and all": ([None, "bf16", "fp16", "non_ema"], "float32", None),
    "plain and all, in half": ([None, "bf16", "fp16", "non_ema"], "bfloat16", "fp16"),
    "plain and bf16, in half": ([None, "bf16"], "bfloat16", None),
    "two halves": (["bf16", "fp16"], "float32", "fp16"),
    "precise": (["bf16", "fp32"], "float32", "fp32"),
    "averaged or not": (["ema", "non_ema"], "float32", "ema"),
    "averaged or not, with another": (["non_ema", "step100"], "float32", "step100"),
}


@pytest.mark.parametrize("shards", [None, "20KB"], ids=["whole", "sharded"])
@pytest.mark.parametrize("case", CHOICES)
def test_the_variant_that_is_loaded(repo, tmp_path, case, shards):
    present, dtype, chosen = CHOICES[case]
    folder = shutil.copytree(repo("ddpm"), tmp_path / "model")
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    expected = None
    for i, variant in enumerate(present):
        unet = tiny_pipelines.build("ddpm").unet
        # Weights that tell the variants apart.
        unet.conv_out.bias.data += i
        unet.save_pretrained(folder / "unet", variant=variant, **({"max_shard_size": shards} if shards else {}))
        expected = unet if variant == chosen else expected
    assert not shards or list(folder.glob("unet/*-of-*"))
    model = load_model(folder, dtype=dtype)
    assert torch.equal(model.network.conv_out.bias, expected.conv_out.bias.to(model.dtype))
    assert model.info.settings.get("variants") == ({"unet": chosen} if len(present) > 1 and chosen else None)


@pytest.mark.parametrize("name, parts, shards", [("sana", ["text_encoder", "transformer", "vae"], "20KB"), ("sd1", ["unet", "vae"], None)])
def test_a_repository_of_one_variant(repo, tmp_path, on_hub, name, parts, shards):
    folder, pipeline = shutil.copytree(repo(name), tmp_path / name), tiny_pipelines.build(name)
    for part in parts:
        for file in (folder / part).glob("*.safetensors*"):
            file.unlink()
        getattr(pipeline, part).save_pretrained(folder / part, variant="bf16", **({"max_shard_size": shards} if shards else {}))
    expected = epsilon(load_model(repo(name)))
    for place in (folder, on_hub(folder)):
        assert same(epsilon(load_model(place)), expected)
    model = load_model(f"{repo(name)} + {folder / parts[-1]}")
    assert same(epsilon(model), expected) and "variants" not in model.info.settings
