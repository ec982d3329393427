"""Every family in half precision, and parts that overflow in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.families import CAPTIONS, EXPECTED, SIDE, difference, epsilon, random_images, some_x

from mia_hub import load_model


@pytest.mark.parametrize("dtype, tolerance", [("float16", 0.01), ("bfloat16", 0.08)])
@pytest.mark.parametrize("name", EXPECTED)
def test_half_precision_is_near(model_of, name, dtype, tolerance):
    half, full = model_of(name, dtype), model_of(name, "float32")
    assert half.network.dtype == half.dtype == getattr(torch, dtype)
    for t in (10, 499):  # at σ = 1/2, which bfloat16 holds exactly: diffusers rounds a flow's time to the denoiser's precision
        actual = epsilon(half, t)
        assert actual.dtype == torch.float32
        assert difference(actual, epsilon(full, t)) < tolerance
    images = random_images(SIDE[name])
    assert difference(half.encode(images), full.encode(images)) < tolerance
    if name != "ldm-vq":  # there a rounded latent may be another word of the codebook
        assert difference(half.to_pixels(half.encode(images)), full.to_pixels(full.encode(images))) < tolerance
    assert not half.fallbacks


def scaled(path: str, factor: float):
    """A change that makes some weights larger, so that float16 overflows behind them, and float32 doesn't."""
    folder, _, keys = path.partition(":")

    def change(root: Path):
        file = next((root / folder).glob("*.safetensors"))
        weights = load_file(file)
        larger = [key for key in weights if any(part in key for part in keys.split(","))]
        assert larger
        for key in larger:
            weights[key] = weights[key] * factor
            assert weights[key].abs().max() < 60000
        save_file(weights, file, {"format": "pt"})

    return change


def both(folder: Path):
    return load_model(folder, device="cpu", dtype="float16"), load_model(folder, device="cpu")


@pytest.mark.parametrize("name", ["sdxl", "ldm-kl"])
def test_an_autoencoder_that_overflows_falls_back(copied, name):
    part = "vqvae" if name == "ldm-kl" else "vae"
    half, full = both(copied(name, scaled(f"{part}:encoder.conv_in.weight,encoder.down_blocks.0.downsamplers.0.conv.weight", 1000)))
    images = random_images(16)
    assert difference(half.encode(images), full.encode(images)) < 1e-2
    assert half.fallbacks == {"autoencoder": "float32"} and full.fallbacks == {}
    assert difference(half.encode(images), full.encode(images)) < 1e-2  # from then on


def test_a_decoder_that_overflows_falls_back(copied):
    half, full = both(copied("sdxl", scaled("vae:decoder.conv_in.weight,decoder.up_blocks.0.upsamplers.0.conv.weight", 1000)))
    x = some_x(half)
    assert difference(half.to_pixels(x), full.to_pixels(x)) < 1e-2
    assert half.fallbacks == {"autoencoder": "float32"} and full.fallbacks == {}


@pytest.mark.parametrize(
    "name, weights", [("sd1", "text_encoder:layers.0.mlp.fc"), ("pixart-sigma", "text_encoder:block.0.layer.1.DenseReluDense.wi")]
)
def test_a_text_encoder_that_overflows_falls_back(copied, name, weights):
    half, full = both(copied(name, scaled(weights, 1000)))
    actual, expected = (model.condition(CAPTIONS["text"])["prompt_embeds"] for model in (half, full))
    assert difference(actual, expected) < 1e-2
    assert half.fallbacks == {"text encoder": "float32"} and full.fallbacks == {}


def test_a_denoiser_that_overflows_falls_back(copied):
    half, full = both(copied("sd1", scaled("unet:conv_in.weight,down_blocks.0.downsamplers.0.conv.weight", 1000)))
    assert half.fallbacks == {"denoiser": "bfloat16"}, "met when it was loaded"
    assert difference(epsilon(half, 300), epsilon(full, 300)) < 0.1
    assert not half.fall_back() and not full.fall_back() and full.fallbacks == {}
