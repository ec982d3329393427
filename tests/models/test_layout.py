"""Repositories that hold no pixel model, or a broken one, are refused with the reason."""

from __future__ import annotations

import json
import shutil
from functools import partial

import pytest
import torch
from diffusers import UNet2DModel
from safetensors.torch import load_file, save_file
from support.model_folders import DROP, all_of, another_scheduler, index, removed, unet, written

import mia_hub
from mia_hub.errors import ModelError

load_model = partial(mia_hub.load_model, device="cpu")


@pytest.fixture
def damaged(tiny, tmp_path):
    """A copy of the tiny model, for a change that damages it."""
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    return folder


def transformers_repo(folder):
    for path in ("unet", "scheduler"):
        shutil.rmtree(folder / path)
    (folder / "model_index.json").unlink()
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    save_file({"w": torch.zeros(1)}, folder / "model.safetensors")


def pickled(folder):
    weights = folder / "unet/diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()


def truncate(folder):
    path = folder / "unet/diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def drop_weights(folder):
    path = folder / "unet/diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    del weights["conv_in.weight"], weights["conv_out.bias"]
    save_file(weights, path)


def pickle_in_shards(folder):
    pickled(folder)
    shards = {"metadata": {}, "weight_map": {"conv_in.weight": "diffusion_pytorch_model.bin"}}
    (folder / "unet/diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(shards))


STABLE_DIFFUSION = {
    "_class_name": "StableDiffusionPipeline",
    "vae": ["diffusers", "AutoencoderKL"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
}
CANT_AUDIT = ("this version can't audit", "image models", "no audio or video", "wrap_denoiser")
REPAIR = ("Download it again, or ask its owner",)
REFUSED = {
    "transformers": (transformers_repo, ("not a diffusion model in diffusers' layout", "model_index.json", "wrap_denoiser")),
    "single file": (
        all_of(removed("model_index.json"), written("model.ckpt", b"pickle")),
        ("not a diffusion model in diffusers' layout (pickled or single-file weights)", "wrap_denoiser"),
    ),
    "video": (
        index(_class_name="StableVideoDiffusionPipeline", vae=["diffusers", "AutoencoderKLTemporalDecoder"]),
        ("is a StableVideoDiffusionPipeline", *CANT_AUDIT),
    ),
    "half a text-to-image model": (
        index(**STABLE_DIFFUSION),
        ("as a StableDiffusionPipeline it needs a tokenizer, which model_index.json doesn't list", *REPAIR),
    ),
    "half a latent model": (
        index(_class_name="LDMPipeline", vqvae=["diffusers", "VQModel"]),
        ("its vqvae has no config.json", *REPAIR),
    ),
    "other network": (
        index(unet=["diffusers", "DiTTransformer2DModel"]),
        ("a DDPMPipeline with a DiTTransformer2DModel", *CANT_AUDIT),
    ),
    "no scheduler": (index(scheduler=DROP), ("as a DDPMPipeline it needs a scheduler", *REPAIR)),
    "four channels": (unet(in_channels=4, out_channels=4), ("takes 4 channels and puts out 4", "1 or 3", "can't be audited")),
    "own network": (
        all_of(index(unet=["my_unet", "UNet2DModel"]), written("unet/my_unet.py", b"raise SystemExit('run')")),
        ("needs code from its own repository (its component 'unet', from 'my_unet')", "never runs code", "wrap_denoiser"),
    ),
    "own scheduler": (index(scheduler=["os", "system"]), ("its component 'scheduler', from 'os'", "never runs code")),
    "own pipeline": (index(_class_name=["pipeline", "Mine"]), ("needs code", "its pipeline", "never runs code", "wrap_denoiser")),
    "odd component": (
        index(unet=["diffusers"]),
        ("model_index.json should give library and class of its unet, not ['diffusers']", *REPAIR),
    ),
    "only pickled": (pickled, ("only pickled weights", "safetensors alone", "Ask its owner to add safetensors", "convert")),
    "pickled shards": (pickle_in_shards, ("refers to weights that are not safetensors files", *REPAIR)),
    "no weights": (removed("unet/diffusion_pytorch_model.safetensors"), ("has no weights", "missing from its unet folder", *REPAIR)),
    "no unet config": (removed("unet/config.json"), ("its unet has no config.json", *REPAIR)),
    "no scheduler config": (removed("scheduler/scheduler_config.json"), ("its scheduler has no scheduler_config.json", *REPAIR)),
    "broken index": (written("model_index.json", b"{"), ("model_index.json is not readable JSON", *REPAIR)),
    "index is a list": (written("model_index.json", b"[]"), ("model_index.json should hold a JSON object", *REPAIR)),
    "nested index": (written("model_index.json", b"[" * 200_000), ("model_index.json is not readable JSON", *REPAIR)),
    "quantised": (unet(quantization_config={"quant_method": "x"}), ("needs quantised weights in its unet",)),
    "attention of its own": (unet(attn_implementation="evil/kernel"), ("needs attention of the kind 'evil/kernel'",)),
    "broken unet config": (written("unet/config.json", b"\xff"), ("is broken: config.json is not readable JSON", *REPAIR)),
    "broken scheduler config": (
        written("scheduler/scheduler_config.json", b""),
        ("is broken: scheduler_config.json is not readable", *REPAIR),
    ),
    "impossible network": (unet(down_block_types=["Nonsense"] * 2), ("could not be loaded", "Nonsense", *REPAIR)),
    "no sample size": (unet(sample_size=None), ("doesn't state its image size", "sample_size", "Add it to a copy")),
    "class timesteps": (unet(class_embed_type="timestep"), ("something other than class indices", "'timestep'", "wrap_denoiser")),
    "score sde": (
        another_scheduler("ScoreSdeVeScheduler"),
        ("noise schedule", "can't be derived from its scheduler ScoreSdeVeScheduler", "DDPMScheduler", "wrap_denoiser"),
    ),
    "flat schedule": (
        another_scheduler("DDPMScheduler", beta_start=0.0),
        ("The noise schedule of", "can't be used: alphas_cumprod must be a non-increasing sequence"),
    ),
    "unknown scheduler": (another_scheduler("FutureScheduler"), ("scheduler FutureScheduler, which the installed diffusers", "--upgrade")),
    "no scheduler class": (another_scheduler("UNet2DModel"), ("scheduler UNet2DModel, which the installed diffusers",)),
    "impossible schedule": (another_scheduler("DDPMScheduler", beta_schedule="cubic"), ("could not be loaded", "cubic", *REPAIR)),
}
BROKEN_WEIGHTS = {
    "truncated": (truncate, ("could not be loaded", *REPAIR)),
    "no safetensors": (written("unet/diffusion_pytorch_model.safetensors", b"version https://git-lfs"), ("could not be loaded", *REPAIR)),
    "missing weights": (drop_weights, ("is incomplete: 2 weights are missing (such as conv_in.weight)", "would have been random", *REPAIR)),
    "another width": (unet(block_out_channels=[16, 32]), ("could not be loaded", "expected shape torch.Size([16])", *REPAIR)),
}


@pytest.mark.parametrize("case", [*REFUSED, *BROKEN_WEIGHTS])
def test_what_is_no_pixel_model_is_refused(damaged, on_hub, loopback_hub, case):
    change, says = (REFUSED | BROKEN_WEIGHTS)[case]
    change(damaged)
    for name in (str(damaged), on_hub(damaged)):
        with pytest.raises(ModelError) as error:
            load_model(name)
        for phrase in (name, *says):
            assert phrase in str(error.value)
    fetched = loopback_hub.files_fetched(name)
    allowed = (".json", ".safetensors") if case in BROKEN_WEIGHTS else (".json",)
    assert [path for path in fetched if not path.endswith(allowed)] == []


def test_refused_without_weights_in_memory(damaged, monkeypatch):
    """A folder is refused by its configs too: its weights are never opened."""
    unet(class_embed_type="timestep")(damaged)
    monkeypatch.setattr(UNet2DModel, "from_pretrained", lambda *_, **__: pytest.fail("weights were opened"))
    with pytest.raises(ModelError, match="class indices"):
        load_model(damaged)
