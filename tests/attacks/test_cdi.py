"""CDI's features against slow references: by closed forms and by loops, one image at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

import mia_hub
from mia_hub.attacks.cdi import CDIFeatures, GradientMasking, NoiseOptimization
from mia_hub.errors import ModelError
from mia_hub.images.sources import as_images
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import ddpm_alphas_cumprod
from mia_hub.models.noise import SampleNoise

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
SCALE = torch.tensor(np.random.default_rng(1).uniform(0.3, 1.2, (1, 1, 8, 8)))


def linear(x, t):
    """A denoiser that is linear in each element, so that every gradient has a closed form."""
    return SCALE * x


@pytest.fixture
def model():
    return wrap_denoiser(linear, ddpm_alphas_cumprod(1000), sample_shape=(1, 8, 8), dtype=torch.float64)


def inputs(model, t):
    """x0, e and x_t of each image."""
    x0 = model.encode(IMAGES)
    e = SampleNoise([image.id for image in as_images(IMAGES)], (1, 8, 8), device=x0.device, dtype=x0.dtype)(t)
    return x0, e, model.schedule.add_noise(x0, e, t)


def observed(attack, model, **options):
    return attack.observe(model, IMAGES, progress=False, **options)


def test_gradient_masking_is_the_error_where_the_gradient_is_largest(model):
    values = observed(GradientMasking(timesteps=(0, 300)), model).values
    for column, t in enumerate((0, 300)):
        for row, (x0, e, x_t) in enumerate(zip(*inputs(model, t))):
            residual = SCALE[0] * x_t - e
            gradient = (SCALE[0] * residual / residual.norm()).flatten()
            mask = torch.zeros(64, dtype=torch.bool)
            mask[sorted(range(64), key=lambda i: -abs(gradient[i]))[:12]] = True  # int(.2 · 64)
            mask = mask.reshape(1, 8, 8)
            predicted = SCALE[0] * torch.where(mask, e, x0)
            assert values[row, column] == pytest.approx(float(((e - x0) - predicted)[mask].norm()), rel=1e-9)


def test_noise_optimization_is_five_steps_on_the_loss(model):
    values = observed(NoiseOptimization(), model).values
    scale = SCALE.numpy().ravel()
    for row, (_, e, x_t) in enumerate(zip(*inputs(model, 100))):
        start, target = x_t.numpy().ravel(), e.numpy().ravel()

        def loss(delta, start=start, target=target):
            residual = scale * (start + delta) - target
            norm = np.linalg.norm(residual)
            return norm, scale * residual / norm

        best = minimize(loss, np.zeros(64), jac=True, method="L-BFGS-B", options={"maxiter": 5})
        assert values[row].tolist() == pytest.approx([best.fun, np.linalg.norm(best.x)], rel=1e-6)
        assert values[row, 0] < loss(np.zeros(64))[0]


def test_the_26_features_are_those_of_their_attacks_and_cost_their_queries(model):
    features, attack = observed(CDIFeatures(), model), CDIFeatures()
    assert features.values.shape == (3, 26)
    assert attack.queries_per_image == 5 + 12 + 2 + 2 + 20 + 10 + 6 <= features.queries / 3
    known = {
        0: -observed(mia_hub.get_attack("loss", timesteps=(100,), draws=5, form="norm"), model).values,
        1: -(observed(mia_hub.get_attack("secmi", timesteps=(100,)), model).values ** 0.5),
        2: -observed(mia_hub.get_attack("pia", timesteps=(200,), p=5), model).values,
        3: -observed(mia_hub.get_attack("pian", timesteps=(200,), p=5), model).values,
        24: -observed(NoiseOptimization(), model).values[:, :1],
    }
    for column, values in known.items():
        np.testing.assert_allclose(features.values[:, column], -values[:, 0], rtol=1e-9)
    losses = observed(mia_hub.get_attack("loss", timesteps=tuple(range(0, 1000, 100)), form="norm"), model).values
    np.testing.assert_allclose(features.values[:, 14:24], losses, rtol=1e-9)


def test_features_depend_on_no_other_image(model):
    whole = observed(CDIFeatures(), model, batch_size=1).values
    np.testing.assert_allclose(observed(CDIFeatures(), model).values, whole, rtol=1e-9)
    alone = CDIFeatures().observe(model, IMAGES[2:], progress=False).values
    np.testing.assert_allclose(alone[0], whole[2], rtol=1e-9)


def test_a_model_without_gradients_is_refused():
    model = wrap_denoiser(lambda x, t: x.detach(), ddpm_alphas_cumprod(1000), sample_shape=(1, 8, 8))
    with pytest.raises(ModelError, match="No gradient reaches the image"):
        observed(CDIFeatures(), model)
