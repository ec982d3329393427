"""Models that can't be audited are refused before their weights are fetched."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.model_folders import DROP, another_scheduler, changed, index, removed

from mia_hub import load_model
from mia_hub.errors import ModelError


def only_pickled(folder: Path):
    weights = folder / "text_encoder/model.safetensors"
    torch.save(load_file(weights), weights.with_name("pytorch_model.bin"))
    weights.unlink()


NO_EFFECT = ("has no effect on", "which has no such choice; leave it out")
# case: (model, change, options, phrases of the message)
REFUSED = {
    "inpainting": ("sd1", changed("unet/config.json", in_channels=9), {}, ("takes 9 channels, and its autoencoder makes 4", "inpainting")),
    "inpainting pipeline": (
        "sd1",
        index(_class_name="StableDiffusionInpaintPipeline", safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"]),
        {},
        ("is a StableDiffusionInpaintPipeline, which this version can't audit", "wrap_denoiser"),
    ),
    "own text encoder": (
        "sdxl",
        index(text_encoder_2=["my_lib", "MyEncoder"]),
        {},
        ("needs code from its own repository (its component 'text_encoder_2', from 'my_lib')", "never runs code"),
    ),
    "other text encoder": (
        "flux-dev",
        index(text_encoder_2=["transformers", "UMT5EncoderModel"]),
        {},
        ("is a FluxPipeline with a UMT5EncoderModel, which this version can't audit",),
    ),
    "no text encoder": ("sd3", removed("text_encoder_2"), {}, ("is incomplete: its text_encoder_2 has no config.json",)),
    "no tokenizer": ("sd1", removed("tokenizer"), {}, ("is incomplete: its tokenizer has no tokenizer_config.json",)),
    "no autoencoder": ("dit", removed("vae"), {}, ("is incomplete: its vae has no config.json",)),
    "not listed": ("flux-schnell", index(text_encoder=DROP), {}, ("as a FluxPipeline it needs a text_encoder",)),
    "pickled": ("sd2", only_pickled, {}, ("only pickled weights", "safetensors alone")),
    "video": (
        "sd1",
        index(_class_name="TextToVideoSDPipeline", unet=["diffusers", "UNet3DConditionModel"]),
        {},
        ("is a TextToVideoSDPipeline", "no audio or video"),
    ),
    "schedule": (
        "sdxl",
        another_scheduler("EDMEulerScheduler", sigma_min=0.002, sigma_max=80.0),
        {},
        ("can't be derived from its scheduler EDMEulerScheduler", "wrap_denoiser"),
    ),
    "size": ("sd1", None, {"size": 17}, ("multiple of 2 pixels; got size=17. Try size=16",)),
    "size of patches": ("sd3", None, {"size": 18}, ("multiple of 4 pixels; got size=18",)),
    "too large": ("sd3", None, {"size": 68}, ("takes images whose side is at most 64 pixels; got size=68",)),
    "size of packs": ("flux-dev", None, {"size": 30}, ("multiple of 4 pixels; got size=30. Try size=32",)),
    "size of a UNet": ("ldm-kl", None, {"size": 18}, ("multiple of 4 pixels; got size=18",)),
    "size of pixels": ("ddpm", None, {"size": 0}, ("multiple of 2 pixels; got size=0. Try size=2",)),
    "no size": ("sd1", changed("unet/config.json", sample_size=DROP), {}, ("doesn't state the side of its images", "give it as size=")),
    "latents": ("dit", None, {"latents": "median"}, ("latents must be 'mode'", "'sample'", "'median'")),
    "latents of pixels": ("ddpm", None, {"latents": "mode"}, ("latents='mode'", *NO_EFFECT)),
    "offload of pixels": ("ddpm", None, {"offload": "model"}, ("offload='model'", *NO_EFFECT)),
    "offload without text": ("dit", None, {"offload": "model"}, ("offload='model'", *NO_EFFECT)),
    "offload on the CPU": ("sana", None, {"offload": "model"}, ("Offloading", "this model is on the CPU; leave offload out")),
    "other offload": ("sana", None, {"offload": "disk"}, ("offload must be None, 'model' or 'sequential'; got 'disk'",)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_weights_are_fetched(copied, on_hub, loopback_hub, case):
    name, change, options, says = REFUSED[case]
    folder = copied(name, *[change] * (change is not None))
    repo_id = on_hub(folder)
    for where in (str(folder), repo_id):
        with pytest.raises(ModelError) as error:
            load_model(where, device="cpu", **options)
        for phrase in says:
            assert phrase in str(error.value)
    assert [path for path in loopback_hub.files_fetched(repo_id) if not path.endswith(".json")] == []
