"""Statements about how a network was trained: applied where they complete the model, refused where they contradict it."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.model_folders import DROP, another_scheduler, scheduler
from support.original_layout import original
from support.overlays import LORA_FILE, altered_pipeline, epsilon, load_model, refusal, same, save_random_lora, save_replaced

from mia_hub.models.families.scheduler_reading import zero_terminal_snr

MARK, V, EPSILON = torch.zeros(0), "predicts v", "predicts ε"
ZERO = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
OT_CONFIG = {"rescale_noise_scheduler_to_zero_terminal_snr": True, "learning_rate": 1e-5, "optimizer": {"betas": [1, 2]}}
# Marks of a file with all weights: tensors, metadata, how the scheduler's configuration of its base differs from SD1's, and the same for
# the model that it makes; or what the refusal says.
CHECKPOINTS = {
    "v on silence": ({"v_pred": MARK}, {}, {"prediction_type": DROP}, {"prediction_type": "v_prediction"}),
    "v on v": ({"v_pred": torch.ones(1)}, {}, {"prediction_type": "v_prediction"}, {"prediction_type": "v_prediction"}),
    "v on ε": ({"v_pred": MARK}, {}, {}, (V, EPSILON, "v_pred")),
    "v and zero SNR": ({"v_pred": MARK, "ztsnr": MARK}, {}, {"prediction_type": "v_prediction"}, ZERO),
    "zero SNR on ε": ({"ztsnr": MARK}, {}, {}, {"rescale_betas_zero_snr": True}),
    "zero SNR by kohya": ({}, {"ss_zero_terminal_snr": "True"}, {"rescale_betas_zero_snr": False}, {"rescale_betas_zero_snr": True}),
    "no zero SNR by kohya": ({}, {"ss_zero_terminal_snr": "False"}, {}, {}),
    "no zero SNR on zero SNR": ({}, {"ss_zero_terminal_snr": "False"}, ZERO, ("without zero terminal SNR", "has zero terminal SNR")),
    "spec": ({}, {"modelspec.prediction_type": "v"}, {}, (V, EPSILON, "modelspec.prediction_type = 'v'")),
    "spec on v": ({}, {"modelspec.prediction_type": "v"}, {"prediction_type": "v_prediction"}, {"prediction_type": "v_prediction"}),
    "spec, ε on v": ({}, {"modelspec.prediction_type": "epsilon"}, {"prediction_type": "v_prediction"}, (EPSILON, V)),
    "spec, ε": ({}, {"modelspec.prediction_type": "epsilon"}, {}, {}),
    "ComfyUI": ({}, {"modelspec.predict_key": "v"}, {}, (V, EPSILON)),
    "kohya": ({}, {"ss_v_parameterization": "True"}, {}, (V, EPSILON)),
    "kohya, none": ({}, {"ss_v_parameterization": "None", "ss_prior_loss_weight": "1.0"}, {}, {}),
    "kohya, version": ({}, {"ss_base_model_version": "sd_v2_v"}, {}, (V, EPSILON)),
    "architecture": ({}, {"modelspec.architecture": "stable-diffusion-v2-768-v"}, {}, (V, EPSILON)),
    "OneTrainer": ({}, {"ot_config": json.dumps(OT_CONFIG)}, {"prediction_type": "v_prediction"}, ZERO),
    "OneTrainer's defaults": ({}, {"ot_config": json.dumps({"force_v_prediction": False})}, {}, {}),
    "plain": ({}, {"prediction_type": "v_prediction"}, {}, (V, EPSILON)),
    "sample": ({}, {"prediction_type": "sample"}, {"prediction_type": DROP}, {"prediction_type": "sample"}),
    "old": ({}, {"predict_epsilon": "false"}, {}, ("predicts x₀", EPSILON)),
    "unknown": ({}, {"modelspec.prediction_type": "w"}, {}, ("none of the known ones",)),
    "neither true nor false": ({}, {"ss_v_parameterization": "maybe"}, {}, ("neither true nor false",)),
    "flow": ({}, {"prediction_type": "flow_prediction"}, {}, ("predicts a velocity of flow matching", EPSILON)),
    "flow shift": ({}, {"ss_discrete_flow_shift": "3.1582"}, {}, ("by flow matching with a shift of 3.1582", EPSILON)),
    "EDM's latents": ({"edm_mean": torch.zeros(4), "edm_std": torch.ones(4)}, {}, {}, ("edm_mean", "can't audit")),
    "EDM's v": ({"edm_vpred.sigma_max": torch.ones(1)}, {}, {}, ("edm_vpred.sigma_max", "can't audit")),
    "EDM's σ": ({}, {"sigma_data": "0.5"}, {}, ("sigma_data", "can't audit")),
    "EDM by name": ({}, {"prediction_type": "edm"}, {}, ("can't audit",)),
    "two": ({"v_pred": MARK}, {"modelspec.prediction_type": "epsilon"}, {}, ("contradicts itself", "v_pred", "epsilon")),
    "other levels": ({"alphas_cumprod": torch.linspace(0.9, 0.1, 1000)}, {}, {}, ("noise levels", "are others")),
    "words of captions": ({}, {"ss_tag_frequency": json.dumps({"a": {"v_pred": 3, "edm": 1, "flow_shift": 2}})}, {}, {}),
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(repo, tmp_path_factory):
    """The tensors of a checkpoint, and a folder with the same weights."""
    parts = ("unet", "vae", "text_encoder")
    pipeline = altered_pipeline("sd1", *parts)
    return original(pipeline), save_replaced(repo("sd1"), tmp_path_factory.mktemp("whole") / "folder", pipeline, *parts)


def with_scheduler(folder, target, changes):
    shutil.copytree(folder, target)
    scheduler(**changes)(target)
    return target


@pytest.mark.parametrize("case", CHECKPOINTS)
def test_a_checkpoints_marks(repo, whole, tmp_path, case):
    tensors, metadata, changes, expected = CHECKPOINTS[case]
    name, file = with_scheduler(repo("sd1"), tmp_path / "base", changes), tmp_path / "any.safetensors"
    save_file({key: value.contiguous() for key, value in (whole[0] | tensors).items()}, file, metadata=metadata)
    if isinstance(expected, tuple):
        message = refusal(f"{name} + {file}")
        for phrase in (str(file), *expected):
            assert phrase in message, message
        return
    model, reference = load_model(f"{name} + {file}"), load_model(with_scheduler(whole[1], tmp_path / "reference", expected))
    assert model.info.prediction_type == reference.info.prediction_type == expected.get("prediction_type", "epsilon")
    assert torch.equal(model.schedule.signals, reference.schedule.signals) and same(epsilon(model), epsilon(reference))
    assert (model.schedule.signals[-1] == 0) == bool(expected.get("rescale_betas_zero_snr"))


def test_stored_noise_levels(repo, whole, tmp_path):
    own = load_model(repo("sd1")).schedule.signals ** 2
    for rescaled, levels in ((False, own.half()), (False, own.float()), (True, zero_terminal_snr(own).float())):
        save_file({key: value.contiguous() for key, value in (whole[0] | {"alphas_cumprod": levels}).items()}, tmp_path / "any.safetensors")
        signals = load_model(f"{repo('sd1')} + {tmp_path / 'any.safetensors'}").schedule.signals
        assert torch.equal(signals**2, zero_terminal_snr(own)) if rescaled else torch.allclose(signals**2, own)


def test_the_denoisers_own_file(repo, tmp_path):
    for i, (metadata, changes, expected) in enumerate((
        ({"modelspec.prediction_type": "v"}, {}, (V, EPSILON)),
        ({"modelspec.prediction_type": "v"}, {"prediction_type": DROP}, "v_prediction"),
        ({"format": "pt"}, {"prediction_type": DROP}, "epsilon"),
    )):  # fmt: skip
        folder = with_scheduler(repo("sd1"), tmp_path / str(i), changes)
        file = folder / "unet/diffusion_pytorch_model.safetensors"
        save_file(load_file(file), file, metadata=metadata)
        if isinstance(expected, str):
            assert load_model(folder).info.prediction_type == expected
        else:
            assert all(phrase in refusal(folder) for phrase in expected)


def test_a_part_of_a_model_that_predicts_something_else(repo, tmp_path, on_hub):
    other = with_scheduler(repo("sd1"), tmp_path / "other", {"prediction_type": "v_prediction"})
    for name in (f"{repo('sd1')} + {other / 'unet'}", f"{repo('sd1')} + {on_hub(other)}/unet"):
        message = refusal(name)
        assert V in message and EPSILON in message and "beside it" in message
    assert load_model(f"{repo('sd1')} + {other / 'vae'}").info.prediction_type == "epsilon"
    assert load_model(f"{repo('sd1')} + {repo('sd1') / 'unet'}").info.prediction_type == "epsilon"


LORAS = {
    "v on ε": ("sd1", {"ss_v_parameterization": "True"}, (V, EPSILON)),
    "ε on v": ("sd2", {"modelspec.prediction_type": "epsilon"}, (EPSILON, V)),
    "v on v": ("sd2", {"modelspec.prediction_type": "v", "ss_zero_terminal_snr": "False"}, {"signals": False}),
    "zero SNR": ("sd2", {"ss_zero_terminal_snr": "True"}, {"signals": True}),
    "flow on ε": ("sd1", {"ss_discrete_flow_shift": "3.0"}, ("flow matching", EPSILON)),
    "a flow's": ("flux-dev", {"ss_discrete_flow_shift": "3.1582", "ss_model_prediction_type": "raw"}, {"signals": True}),
    "a flow's, by kohya": (
        "flux-dev", {"modelspec.prediction_type": "epsilon", "modelspec.architecture": "flux-1-dev/lora"}, {"signals": True},
    ),
    "ε on a flow": ("flux-dev", {"prediction_type": "epsilon"}, (EPSILON, "predicts a velocity of flow matching")),
    "velocity on a flow": ("flux-dev", {"modelspec.prediction_type": "velocity"}, {"signals": True}),
    "additive": ("flux-dev", {"ss_model_prediction_type": "additive"}, ("can't audit",)),
}  # fmt: skip


@pytest.mark.parametrize("case", LORAS)
def test_a_loras_marks(repo, tmp_path, case):
    name, metadata, expected = LORAS[case]
    save_random_lora(name, {"transformer" if name == "flux-dev" else "unet": ["to_q"]}, tmp_path, settings=False)
    save_file(load_file(tmp_path / LORA_FILE), tmp_path / LORA_FILE, metadata=metadata)
    if isinstance(expected, tuple):
        message = refusal(f"{repo(name)} + {tmp_path}")
        for phrase in expected:
            assert phrase in message, message
    else:
        model = load_model(f"{repo(name)} + {tmp_path}")
        assert (model.schedule.signals[-1] == 0) == expected["signals"] and epsilon(model).isfinite().all()


# What the configuration of a scheduler says, old and new: the same as which other one, or what the refusal says.
SCHEDULERS = {
    "x₀ of diffusers 0.8": (scheduler(prediction_type=DROP, predict_epsilon=False), scheduler(prediction_type="sample")),
    "ε of diffusers 0.8": (scheduler(prediction_type=DROP, predict_epsilon=True), scheduler()),
    "x₀ both ways": (scheduler(prediction_type="sample", predict_epsilon=False), scheduler(prediction_type="sample")),
    "both ways": (scheduler(prediction_type="epsilon", predict_epsilon=False), ("predict_epsilon = false", 'prediction_type = "epsilon"')),
    "x₀ and ε": (scheduler(prediction_type="sample", predict_epsilon=True), ("predict_epsilon = true", 'prediction_type = "sample"')),
    "zero SNR, PNDM": (another_scheduler("PNDMScheduler", rescale_betas_zero_snr=True), scheduler(rescale_betas_zero_snr=True)),
    "zero SNR, Euler": (another_scheduler("EulerDiscreteScheduler", rescale_betas_zero_snr=True), scheduler(rescale_betas_zero_snr=True)),
    "zero SNR, Heun": (another_scheduler("HeunDiscreteScheduler", rescale_betas_zero_snr=True), scheduler(rescale_betas_zero_snr=True)),
    "spacing alone": (another_scheduler("EulerDiscreteScheduler", timestep_spacing="trailing", final_sigmas_type="zero"), scheduler()),
    "continuous time": (
        another_scheduler("EulerDiscreteScheduler", timestep_type="continuous"),
        ("timestep_type = 'continuous'", "can't audit")),
    "EDM": (another_scheduler("EDMEulerScheduler", sigma_data=0.5), ("can't audit",)),
    "EDM by a key": (scheduler(sigma_data=0.5), ("sigma_data = 0.5", "can't audit")),
    "flow by its solver": (
        another_scheduler("DPMSolverMultistepScheduler", use_flow_sigmas=True),
        ("use_flow_sigmas = true", "contradicts itself")),
    "ε by a flow's": (
        another_scheduler("FlowMatchEulerDiscreteScheduler", prediction_type="epsilon"),
        ("FlowMatchEulerDiscreteScheduler", "epsilon")),
    "shifted flow": (another_scheduler("FlowMatchEulerDiscreteScheduler", prediction_type=DROP, shift=3.0, use_dynamic_shifting=True),
                     another_scheduler("FlowMatchEulerDiscreteScheduler", prediction_type=DROP, shift=1.0)),
    "inverted flow": (
        another_scheduler("FlowMatchEulerDiscreteScheduler", prediction_type=DROP, invert_sigmas=True),
        ("invert_sigmas = True",)),
}  # fmt: skip


@pytest.mark.parametrize("case", SCHEDULERS)
def test_a_schedulers_marks(copied, repo, tmp_path, case, recwarn):
    change, expected = SCHEDULERS[case]
    folder = copied("ddpm", change)
    if isinstance(expected, tuple):
        message = refusal(folder)
        for phrase in expected:
            assert phrase in message, message
        return
    reference = shutil.copytree(repo("ddpm"), tmp_path / "reference")
    expected(reference)
    model, other = load_model(folder), load_model(reference)
    assert model.info.prediction_type == other.info.prediction_type
    torch.testing.assert_close(model.schedule.signals, other.schedule.signals, rtol=1e-4, atol=1e-4)
    assert (model.schedule.signals[-1] == 0) == (other.schedule.signals[-1] == 0) and same(epsilon(model), epsilon(other), 1e-3)
    assert not [each for each in recwarn if issubclass(each.category, FutureWarning)]


def test_no_library_warns_of_what_is_read_right(copied, recwarn):
    """diffusers' pipelines call such configurations outdated; only their samplers differ."""
    model = load_model(copied("sd1", another_scheduler("DDIMScheduler", steps_offset=0, clip_sample=True)))
    assert epsilon(model).isfinite().all() and not [each for each in recwarn if issubclass(each.category, FutureWarning)]
