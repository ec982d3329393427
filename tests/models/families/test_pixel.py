"""Predictions and images of models of pixels."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DModel

import mia_hub
from mia_hub.errors import ModelError

load_model = partial(mia_hub.load_model, device="cpu")

T = torch.tensor([3, 500])


def some_x(model, rows=2) -> torch.Tensor:
    return torch.randn(rows, *model.info.sample_shape, generator=torch.Generator().manual_seed(1))


def epsilon(model) -> torch.Tensor:
    return model.predict_noise(some_x(model), T)


def by_hand(output, x, t, scheduler, prediction_type):
    """ε from the network's output: x_t = a·x0 + s·ε and v = a·ε - s·x0, solved for ε row by row."""
    rows = []
    for out, noisy, step in zip(output, x, t):
        a, s = scheduler.alphas_cumprod[step].sqrt(), (1 - scheduler.alphas_cumprod[step]).sqrt()
        rows.append({"epsilon": out, "v_prediction": a * out + s * noisy, "sample": (noisy - a * out) / s}[prediction_type])
    return torch.stack(rows)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_noise_is_predicted_whatever_the_network_predicts(tiny_pixel_repo, prediction_type):
    scheduler = DDIMScheduler(prediction_type=prediction_type, clip_sample=False)
    folder = tiny_pixel_repo(channels=3, scheduler=scheduler)
    unet, model = UNet2DModel.from_pretrained(folder / "unet"), load_model(folder)
    assert model.info.prediction_type == prediction_type
    x, t, s = some_x(model), 500, 480
    with torch.no_grad():
        output = unet(x, T).sample
        at_t = unet(x, t).sample
    torch.testing.assert_close(model.predict_noise(x, T), by_hand(output, x, T, scheduler, prediction_type), rtol=1e-5, atol=1e-5)

    # One DDIM step made from our ε is the one diffusers makes from the network's output.
    scheduler.set_timesteps(50)
    assert s in scheduler.timesteps and t in scheduler.timesteps
    expected = scheduler.step(at_t, t, x, eta=0.0).prev_sample
    actual = model.schedule.ddim_step(x, model.predict_noise(x, torch.tensor([t, t])), t, s)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_learned_variance_is_left_out(tiny_pixel_repo, channels):
    folder = tiny_pixel_repo(channels=channels, out_channels=2 * channels)
    unet, model = UNet2DModel.from_pretrained(folder / "unet"), load_model(folder)
    with torch.no_grad():
        output = unet(some_x(model), T).sample
    assert output.shape[1] == 2 * channels
    assert torch.equal(epsilon(model), output[:, :channels])


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_a_batch_may_mix_timesteps(tiny_pixel_repo, prediction_type):
    model = load_model(tiny_pixel_repo(prediction_type=prediction_type), dtype="float64")
    x, t = some_x(model, 3).double(), torch.tensor([0, 500, 999])
    batch = model.predict_noise(x, t)
    for row in range(3):
        torch.testing.assert_close(batch[row : row + 1], model.predict_noise(x[row : row + 1], t[row : row + 1]), rtol=1e-10, atol=1e-10)
        assert not torch.allclose(batch[row], model.predict_noise(x[row : row + 1], t[[row - 1]])[0], rtol=1e-4, atol=1e-4)


def test_size_need_not_be_square(tiny_pixel_repo):
    model = load_model(tiny_pixel_repo(size=(8, 16)))
    assert model.info.sample_shape == (1, 8, 16)
    assert epsilon(model).shape == (2, 1, 8, 16)


@pytest.mark.parametrize(
    "dtype, returned, tolerance",
    [
        ("float64", torch.float64, 1e-5),
        ("float32", torch.float32, 0),
        (torch.bfloat16, torch.float32, 0.1),
        ("float16", torch.float32, 0.02),
    ],
)
@pytest.mark.parametrize("prediction_type", ["epsilon", "sample"])
def test_precisions(tiny_pixel_repo, dtype, returned, tolerance, prediction_type):
    folder = tiny_pixel_repo(prediction_type=prediction_type)
    model, reference = load_model(folder, dtype=dtype), load_model(folder)
    assert model.dtype == getattr(torch, str(dtype).removeprefix("torch.")) and model.device == torch.device("cpu")
    assert {parameter.dtype for parameter in model.network.parameters()} == {model.dtype}
    t = torch.tensor([500, 900])
    expected = reference.predict_noise(some_x(model), t)
    for of_input in (torch.float32, torch.float64):
        actual = model.predict_noise(some_x(model).to(of_input), t)
        assert actual.dtype == returned
        assert (actual - expected).abs().max() <= tolerance


def test_a_model_is_queried_without_dropout_and_its_weights_need_no_gradients(tiny_pixel_repo):
    model = load_model(tiny_pixel_repo(dropout=0.5))
    x = some_x(model)
    assert torch.equal(model.predict_noise(x, T), model.predict_noise(x, T))
    assert not model.predict_noise(x, T).requires_grad
    assert not any(parameter.requires_grad for parameter in model.network.parameters())


def test_images_enter_at_the_models_size(tiny_pixel_repo):
    model = load_model(tiny_pixel_repo(channels=3, size=(8, 16)), dtype="bfloat16")
    ramp = torch.linspace(0, 1, 3 * 8 * 16).reshape(1, 3, 8, 16)
    x0 = model.encode(ramp)
    assert x0.dtype == torch.float32
    torch.testing.assert_close(x0, ramp * 2 - 1, rtol=0, atol=1.01 / 255)
    assert model.encode(torch.ones(2, 3, 40, 40)).eq(1).all() and model.encode(torch.zeros(1, 3, 40, 40)).eq(-1).all()
    assert model.encode(torch.ones(2, 3, 40, 40)).shape == (2, 3, 8, 16)


def test_captions_are_refused(tiny):
    model = load_model(tiny)
    assert model.condition(None) is None
    with pytest.raises(ModelError, match=r"unconditional.*takes no captions; leave them out"):
        model.condition(["a cat"])
