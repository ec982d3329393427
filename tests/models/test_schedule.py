"""The noise schedule against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mia_hub.errors import ModelError
from mia_hub.models.exact import ddpm_alphas_cumprod
from mia_hub.models.schedule import NoiseSchedule

schedule = NoiseSchedule.from_alphas_cumprod(ddpm_alphas_cumprod())
x0, e = torch.randn(2, 5, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).unbind(0)
t = torch.tensor([0, 1, 100, 500, 999])


def test_ddpm_schedule_is_the_product_of_one_minus_beta():
    betas = np.linspace(1e-4, 0.02, 1000)
    assert schedule.signals[100].item() ** 2 == pytest.approx(np.prod(1 - betas[:101]), rel=1e-12)
    torch.testing.assert_close(schedule.signals**2 + schedule.noises**2, torch.ones(1000, dtype=torch.float64))


@pytest.mark.parametrize("form", [torch.Tensor.tolist, torch.Tensor.numpy, list], ids=["floats", "array", "tensors"])
def test_a_schedule_keeps_its_precision_in_any_form(form):
    read = NoiseSchedule.from_alphas_cumprod(form(ddpm_alphas_cumprod()))
    assert torch.equal(read.signals, schedule.signals) and torch.equal(read.noises, schedule.noises)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_every_prediction_type_gives_back_the_noise(kind):
    x_t = schedule.add_noise(x0, e, t)
    a, s = schedule.signal(t, x0), schedule.noise(t, x0)
    output = {"epsilon": e, "v_prediction": a * e - s * x0, "sample": x0}[kind]
    torch.testing.assert_close(schedule.to_epsilon(output, x_t, t, kind), e, rtol=1e-9, atol=1e-9)


def test_a_ddim_step_with_the_true_noise_lands_on_the_true_sample():
    x_t = schedule.add_noise(x0, e, t)
    s = torch.tensor([10, 0, 90, 510, 700])
    torch.testing.assert_close(schedule.predict_x0(x_t, e, t), x0, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(schedule.ddim_step(x_t, e, t, s), schedule.add_noise(x0, e, s), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("values", [[], [0.5, 0.9], [1.0, 0.5], [0.9, -0.1], [0.9, float("nan")]])
def test_sequences_that_are_no_schedule_are_refused(values):
    with pytest.raises(ModelError, match="alphas_cumprod must be"):
        NoiseSchedule.from_alphas_cumprod(values)


def test_unknown_prediction_type_names_the_known_ones():
    with pytest.raises(ModelError, match="epsilon, v_prediction, sample"):
        schedule.to_epsilon(e, x0, t, "score")


def test_a_flow_of_one_image_is_known_exactly():
    """Of a single training image x0*, the velocity is (x - x0*)/σ and the noise (x - (1-σ)·x0*)/σ."""
    schedule, generator = NoiseSchedule.rectified_flow(1000), torch.Generator().manual_seed(0)
    x, only = (torch.randn(4, 8, 3, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    t = torch.tensor([0, 10, 600, 999])
    sigma = ((t + 1) / 1000).double().reshape(-1, 1, 1, 1)
    epsilon = schedule.to_epsilon((x - only) / sigma, x, t, "flow_prediction")
    torch.testing.assert_close(epsilon, (x - (1 - sigma) * only) / sigma, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(schedule.predict_x0(x, epsilon, t)[:3], only[:3], rtol=1e-6, atol=1e-6)  # at σ = 1 nothing of x0 is left
