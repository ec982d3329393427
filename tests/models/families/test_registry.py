"""Every family is recognised, loaded from a folder and from the Hub, and described."""

from __future__ import annotations

import pytest
import torch
from diffusers import DiffusionPipeline
from support.families import EXPECTED, SIDE, T, difference, epsilon
from support.model_folders import change_json, index
from support.tiny_pipelines import PIPELINES

from mia_hub import load_model


def test_the_table_is_complete():
    assert set(EXPECTED) == set(PIPELINES)


# Files of real repositories beside the model.
BESIDE = {
    **dict.fromkeys(
        ("README.md", "model.ckpt", "model.safetensors", "model-ema.safetensors", "unet_ema/diffusion_pytorch_model.safetensors")
    ),
    **dict.fromkeys(("safety_checker/config.json", "safety_checker/model.safetensors", "safety_checker/pytorch_model.bin")),
    **dict.fromkeys(("feature_extractor/preprocessor_config.json", "image_encoder/model.safetensors", "text_encoder_9/model.safetensors")),
}
BESIDE_WEIGHTS = (
    *("pytorch_model.bin", "diffusion_pytorch_model.bin", "diffusion_pytorch_model.fp16.safetensors", "model.fp16.safetensors"),
    *("diffusion_pytorch_model.non_ema.safetensors", "flax_model.msgpack", "model.onnx", "modeling.py", "openvino_model.bin"),
)


@pytest.mark.parametrize("name", EXPECTED)
def test_it_loads_from_a_folder_and_from_the_hub(repo, copied, on_hub, loopback_hub, name):
    family, crowded = EXPECTED[name], copied(name)
    needed = {path.relative_to(crowded).as_posix() for path in crowded.rglob("*") if path.is_file()}
    beside = [*BESIDE, *(f"{path.parent.name}/{file}" for path in crowded.glob("*/*.safetensors") for file in BESIDE_WEIGHTS)]
    for path in beside:
        (crowded / path).parent.mkdir(exist_ok=True)
        (crowded / path).write_bytes(b"not needed")
    if family.conditioning == "text":
        checker = {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"], "feature_extractor": ["transformers", "X"]}
        change_json(crowded / "model_index.json", image_encoder=[None, None], **checker)
    size = None if family.family == "pixel" else SIDE[name]
    local, remote = load_model(repo(name), device="cpu", size=size), load_model(on_hub(crowded), device="cpu", size=size)
    fetched = loopback_hub.files_fetched(remote.info.id)
    # A file whose content is there already, as with two tokenizers that are alike, isn't fetched again.
    assert set(fetched) <= needed and len(set(fetched)) == len(fetched)
    assert {(crowded / path).read_bytes() for path in fetched} == {(crowded / path).read_bytes() for path in needed}
    assert torch.equal(epsilon(local, 300), epsilon(remote, 300))
    assert local.info.revision.startswith("sha256:") and len(remote.info.revision) == 40


@pytest.mark.parametrize("name", EXPECTED)
def test_it_is_described(repo, name):
    family, info = EXPECTED[name], load_model(repo(name), device="cpu").info
    actual = (info.family, info.conditioning, info.prediction_type, info.sample_shape, info.picture_shape, info.num_classes, info.settings)
    assert actual == (*family[:4], (3, family.image, family.image), family.classes, family.settings)
    assert info.num_train_timesteps == T


@pytest.mark.parametrize("name, shards", [("sd1", "10GB"), ("sd3", "40KB"), ("sana", "40KB")])
def test_half_precision_weights_are_preferred_for_half_precision(repo, copied, on_hub, loopback_hub, name, shards):
    folder = copied(name)
    pipeline = DiffusionPipeline.from_pretrained(folder, dtype=torch.float16)
    pipeline.save_pretrained(folder, variant="fp16", max_shard_size=shards)
    repo_id = on_hub(folder)
    model = load_model(repo_id, device="cpu", dtype="float16")
    fetched = [path for path in loopback_hub.files_fetched(repo_id) if "safetensors" in path]
    assert fetched and all(".fp16" in path for path in fetched)
    assert any("-00002-of-" in path for path in fetched) == (shards == "40KB")
    assert difference(epsilon(model, 300), epsilon(load_model(repo(name), device="cpu"), 300)) < 0.01


# Pipelines of fine-tuned and distilled models, and people's own. If the name is unknown, the parts decide.
@pytest.mark.parametrize(
    "name, pipeline",
    [
        ("ddpm", "DDIMPipeline"),
        ("ddpm", "MyOwnPipeline"),
        ("ldm-kl", "MyOwnPipeline"),
        ("sd1", "StableDiffusionImg2ImgPipeline"),
        ("sd2", "StableDiffusionSAGPipeline"),
        ("sdxl", "StableDiffusionXLImg2ImgPipeline"),
        ("sd3", "StableDiffusion3Img2ImgPipeline"),
        ("flux-schnell", "FluxImg2ImgPipeline"),
        ("sana", "SanaPAGPipeline"),
    ],
)
def test_other_pipelines_of_the_family_are_recognised(model_of, copied, name, pipeline):
    model = load_model(copied(name, index(_class_name=pipeline)), device="cpu", dtype="float64", size=SIDE[name])
    assert type(model) is type(model_of(name))
    assert torch.equal(epsilon(model, 300), epsilon(model_of(name), 300))
