"""Latent consistency models: their guidance is an input, and they know few timesteps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import LCMScheduler, UNet2DConditionModel
from support.families import captions_for, difference, epsilon, random_images, some_x
from support.model_folders import scheduler
from support.tiny_pipelines import build, save_pipeline

from mia_hub import get_attack, load_model
from mia_hub.attacks.given_base import SimAB
from mia_hub.errors import ModelError
from mia_hub.flags import FLAGS


@pytest.mark.parametrize(("stated", "first", "count"), [({}, 19, 50), ({"original_inference_steps": 100}, 9, 100)])
def test_its_own_timesteps_are_read_from_its_scheduler(copied, stated, first, count):
    model = load_model(copied("lcm", scheduler(**stated)))
    own = model.trained_timesteps
    assert (own[0], own[-1], len(own)) == (first, 999, count) and set(np.diff(own)) == {1000 // count}
    theirs = LCMScheduler(**stated)
    theirs.set_timesteps(count, original_inference_steps=count)
    assert own == tuple(reversed(theirs.timesteps.tolist()))


@pytest.mark.parametrize("stated", [1001, -2, 50.5, "fifty"])
def test_an_impossible_number_of_timesteps_is_refused(copied, stated):
    with pytest.raises(ModelError, match=r"original_inference_steps = .*must be an integer from 1 to 1000"):
        load_model(copied("lcm", scheduler(original_inference_steps=stated)))


def test_other_models_know_all_timesteps(model_of):
    for name in ("sd1", "sdxl"):
        assert model_of(name).trained_timesteps is None and "guidance" not in model_of(name).info.settings


@pytest.mark.parametrize("name", ["lcm", "sdxl"])
def test_the_guidance_is_an_input(name, tmp_path):
    pipeline = build(name)
    if name == "sdxl":
        torch.manual_seed(0)
        own = {key: value for key, value in pipeline.unet.config.items() if not key.startswith("_")}
        pipeline.register_modules(unet=UNet2DConditionModel(**own | {"time_cond_proj_dim": 8}))
    model = load_model(str(save_pipeline(pipeline, tmp_path / name)), dtype="float64")
    embeddings = []
    model.network.register_forward_pre_hook(lambda _, args, kwargs: embeddings.append(kwargs["timestep_cond"]), with_kwargs=True)
    before = epsilon(model, 519)
    embedding = pipeline.get_guidance_scale_embedding(torch.tensor([7.5]), 8).double()
    assert embeddings and all(difference(each, embedding.expand(len(each), -1)) < 1e-12 for each in embeddings)
    assert model.info.settings["guidance"] == 8.5
    with torch.no_grad():
        model.network.time_embedding.cond_proj.weight.mul_(-1)
    assert difference(epsilon(model, 519), before) > 1e-3
    assert some_x(model).shape[0] == len(captions_for(model))


@pytest.mark.parametrize(
    ("timesteps", "named"), [((19, 99), None), ((19, 100), "100"), ((0, 10, 20, 30, 40), "0, 10, 20, …"), ((999,), None), ((998,), "998")]
)
def test_results_at_timesteps_of_others_are_flagged(model_of, timesteps, named):
    model, images = model_of("lcm", "float32"), random_images(16)
    remarks = get_attack("sima", timesteps=timesteps).score(model, images, captions=captions_for(model), progress=False).remarks
    assert ("untrained-timesteps" in remarks) == (named is not None) and set(remarks) <= set(FLAGS)
    if named:
        assert remarks["untrained-timesteps"].endswith(f"was distilled at 50 timesteps from 19 to 999, and was queried at {named}")


def test_what_it_was_distilled_from_may_be_its_base(repo):
    model = load_model(str(repo("lcm")), base=str(repo("sd1")))
    observed = SimAB(timesteps=(99,)).observe(model, random_images(16, 4), captions=["a cat"] * 4, progress=False)
    assert np.isfinite(observed.values).all()
