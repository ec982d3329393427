"""Single-file checkpoints on top of a model: diffusers' conversion, backwards."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.original_layout import DENOISER, original, original_2, original_sd3, original_xl
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
from support.tiny_pipelines import save_pipeline, stable_diffusion_2


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


def test_a_file_whose_shapes_fit_two_models_is_not_guessed(tmp_path, on_hub):
    """Of Stable Diffusion 2, one of which predicts v, the other ε."""
    two = {"v_prediction": "stabilityai/stable-diffusion-2-1", "epsilon": "stabilityai/stable-diffusion-2-1-base"}
    pipelines = {prediction: stable_diffusion_2(prediction) for prediction in two}
    folders = {prediction: save_pipeline(pipeline, tmp_path / prediction) for prediction, pipeline in pipelines.items()}
    weights, file = original_2(pipelines["epsilon"]), tmp_path / "any.safetensors"
    for prediction, repo_id in two.items():
        on_hub(folders[prediction], repo_id)
    save_file({key: value.contiguous() for key, value in weights.items()}, file)
    message = refusal(file)
    for repo_id in two.values():
        assert repo_id in message and f"as '{two['v_prediction']} + {file}'" in message
    truth = {prediction: epsilon(load_model(folder)) for prediction, folder in folders.items()}
    assert not same(truth["v_prediction"], truth["epsilon"], 1e-2)
    for prediction, repo_id in two.items():
        assert same(epsilon(load_model(f"{repo_id} + {file}")), truth[prediction])
        stated = tmp_path / f"{prediction}.safetensors"
        save_file({key: value.contiguous() for key, value in weights.items()}, stated, metadata={"modelspec.prediction_type": prediction})
        model = load_model(stated)
        assert model.info.id == f"{repo_id} + {stated}" and same(epsilon(model), truth[prediction])


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
