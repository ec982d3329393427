"""The noise schedule that is read from a diffusers scheduler."""

from __future__ import annotations

from functools import partial

import diffusers
import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler, UNet2DModel
from support.families import T, difference, epsilon, some_x
from support.model_folders import change_json

import mia_hub
from mia_hub.models.families.pixel import PixelModel

load_model = partial(mia_hub.load_model, device="cpu")

SCHEDULES = [
    *[("DDPMScheduler", {"beta_schedule": shape}) for shape in ("linear", "scaled_linear", "squaredcos_cap_v2")],
    ("DDPMScheduler", {"num_train_timesteps": 50, "variance_type": "learned_range"}),
    ("DDIMScheduler", {"rescale_betas_zero_snr": True, "beta_schedule": "scaled_linear", "prediction_type": "v_prediction"}),
    ("PNDMScheduler", {"beta_start": 0.00085, "beta_end": 0.012}),
    ("DPMSolverMultistepScheduler", {"beta_schedule": "squaredcos_cap_v2"}),
    ("EulerDiscreteScheduler", {"beta_schedule": "scaled_linear"}),
    ("EulerDiscreteScheduler", {"use_karras_sigmas": True, "prediction_type": "sample"}),
    ("UniPCMultistepScheduler", {}),
]


@pytest.mark.parametrize("name, options", SCHEDULES, ids=lambda value: value if isinstance(value, str) else "-".join(value))
def test_the_schedule_is_the_schedulers(tiny, name, options):
    scheduler = getattr(diffusers, name)(**options)
    model = PixelModel(UNet2DModel.from_pretrained(tiny / "unet"), scheduler, id="tiny")
    expected = scheduler.alphas_cumprod.double()
    assert len(model.schedule) == model.info.num_train_timesteps == len(expected)
    torch.testing.assert_close(model.schedule.signals**2, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(model.schedule.noises**2, 1 - expected, rtol=1e-12, atol=1e-14)
    if "rescale_betas_zero_snr" in options:
        assert model.schedule.signals[-1] == 0 and epsilon(model, 500).isfinite().all()


def test_the_schedule_survives_saving(tiny_pixel_repo):
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2", num_train_timesteps=70)
    model = load_model(tiny_pixel_repo(scheduler=scheduler))
    assert torch.equal(model.schedule.signals, scheduler.alphas_cumprod.double().sqrt())


def test_a_score_sde_is_its_closed_form(tiny_pixel_repo):
    from diffusers.schedulers import ScoreSdeVpScheduler

    folder = tiny_pixel_repo(channels=3, scheduler=ScoreSdeVpScheduler(T, beta_min=0.2, beta_max=15))
    # As on the Hub. Since it is deprecated, diffusers itself saves it under a library of that name.
    change_json(folder / "model_index.json", scheduler=["diffusers", "ScoreSdeVpScheduler"])
    model = load_model(folder)
    t = torch.arange(T, dtype=torch.float64) / (T - 1)
    alphas = torch.exp(-0.5 * t**2 * (15 - 0.2) - t * 0.2)
    torch.testing.assert_close(model.schedule.signals[1:] ** 2, alphas[1:], rtol=1e-12, atol=1e-14)
    assert 1 - 1e-3 < model.schedule.signals[0] < 1 and model.info.prediction_type == "epsilon"
    assert torch.equal(epsilon(model, 7), model.network(some_x(model), 7).sample)


def test_a_flow_of_pixels_is_conditioned_on_its_noise_level(tiny_pixel_repo):
    folder = tiny_pixel_repo(channels=3, scheduler=FlowMatchEulerDiscreteScheduler(shift=2.0))
    model, unet = load_model(folder, dtype="float64"), UNet2DModel.from_pretrained(folder / "unet").double()
    assert (model.info.family, model.info.prediction_type) == ("pixel", "flow_prediction")
    x = some_x(model, 2)
    for t in (0, 299, 999):
        with torch.no_grad():
            velocity = unet(x, t + 1).sample
        assert difference(epsilon(model, t, x), x + (1 - (t + 1) / T) * velocity) < 1e-9
