"""The noise schedule against closed forms, and noise that belongs to the sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mia_hub.errors import ModelError
from mia_hub.models.exact import ddpm_alphas_cumprod
from mia_hub.noise import SampleNoise
from mia_hub.schedule import NoiseSchedule

GOLDEN = [0.1392061303137193, -1.8672151572216775]
schedule = NoiseSchedule.from_alphas_cumprod(ddpm_alphas_cumprod())
x0, e = torch.randn(2, 5, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).unbind(0)
t = torch.tensor([0, 1, 100, 500, 999])


def test_ddpm_schedule_is_the_product_of_one_minus_beta():
    betas = np.linspace(1e-4, 0.02, 1000)
    assert schedule.signals[100].item() ** 2 == pytest.approx(np.prod(1 - betas[:101]), rel=1e-12)
    torch.testing.assert_close(schedule.signals**2 + schedule.noises**2, torch.ones(1000, dtype=torch.float64))


@pytest.mark.parametrize("given", [torch.Tensor.tolist, torch.Tensor.numpy, list], ids=["floats", "array", "tensors"])
def test_a_schedule_keeps_its_precision_however_it_is_given(given):
    read = NoiseSchedule.from_alphas_cumprod(given(ddpm_alphas_cumprod()))
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


def test_noise_depends_on_seed_sample_timestep_and_draw_and_on_nothing_else():
    ids = ["a", "b", "c"]
    noise = SampleNoise(ids, (1, 8, 8))
    torch.testing.assert_close(SampleNoise(["c", "a"], (1, 8, 8))(7, 2), noise(7, 2)[[2, 0]], rtol=0, atol=0)
    others = [noise(7), noise(8), noise(7, 1), SampleNoise(ids, (1, 8, 8), seed=1)(7)]
    for i, one in enumerate(others):
        for other in others[i + 1 :]:
            assert not torch.equal(one, other)
    assert not torch.equal(noise(7)[0], noise(7)[1])


def test_noise_is_standard_normal():
    draws = SampleNoise([str(i) for i in range(50)], (1, 32, 32), dtype=torch.float64)(0)
    assert draws.mean().abs() < 0.02
    assert (draws.std() - 1).abs() < 0.02
    # Golden value: a changed generator would silently change every stored score of a noised attack.
    assert SampleNoise(["a"], (1, 1, 2), dtype=torch.float64)(3)[0, 0, 0].tolist() == pytest.approx(GOLDEN, abs=1e-12)
