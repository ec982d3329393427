"""Models of parts at hand: which are recognised, and that they are left as they were, also after an error."""

from __future__ import annotations

import re

import pytest
import torch
from support.tiny_pipelines import PIPELINES, build

from mia_hub.errors import ModelError
from mia_hub.models.in_memory import model_in_memory
from mia_hub.models.loading import load_model

FEW = ("ddim", "ddpm-class", "ldm-vq", "dit", "sd1", "sd3", "flux-dev")


@pytest.mark.parametrize("name", [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in PIPELINES])
def test_every_family_is_recognised(name, tmp_path):
    from support.tiny_pipelines import save_pipeline

    pipeline = build(name)
    saved = load_model(str(save_pipeline(pipeline, tmp_path)), device="cpu")
    with model_in_memory(pipeline, id="mine") as model:
        assert type(model) is type(saved)
        kept = ("sample_shape", "picture_shape", "prediction_type", "conditioning", "num_classes", "settings")
        assert [getattr(model.info, field) for field in kept] == [getattr(saved.info, field) for field in kept]
        assert (model.info.id, model.info.revision) == ("mine", None)
        assert torch.equal(model.schedule.signals, saved.schedule.signals)


def test_everything_is_put_back_after_an_error():
    pipeline = build("ddpm")
    network = pipeline.unet.train()
    weights = {name: (value, value.clone()) for name, value in network.state_dict(keep_vars=True).items()}
    with pytest.raises(ZeroDivisionError), model_in_memory(pipeline) as model:
        model.network.to(torch.float64)
        torch.manual_seed(1)
        raise ZeroDivisionError
    assert network.training and all(p.requires_grad and p.dtype == torch.float32 for p in network.parameters())
    assert all(torch.equal(value, before) for value, before in weights.values())


class DTensor(torch.nn.Parameter):
    """A parameter that calls itself as those of FSDP2 do."""


def sharded():
    network = build("ddpm").unet
    network.conv_out.bias = DTensor(network.conv_out.bias.data)
    return network


@pytest.mark.parametrize(
    ("given", "scheduler", "message"),
    [
        (lambda: build("ddpm").unet, None, "needs the noise scheduler"),
        (lambda: build("sd1").unet, "demo", "A UNet2DConditionModel can't be queried by itself"),
        (lambda: "demo", None, "str is no model that can be queried. Accepted are a diffusers pipeline; a UNet2DModel"),
        (lambda: None, None, "NoneType is no model"),
        (lambda: build("ddpm").unet, object(), "scheduler must be a diffusers scheduler, such as a DDPMScheduler; got <object"),
    ],
)
def test_what_can_not_be_queried_is_refused(given, scheduler, message):
    with pytest.raises(ModelError, match=re.escape(message)), model_in_memory(given(), scheduler):
        pass


def test_sharded_weights_are_refused():
    with pytest.raises(ModelError, match="sharded among processes"), model_in_memory(sharded(), build("ddpm").scheduler):
        pass
