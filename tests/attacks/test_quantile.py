"""Quantile regression: the fit of a distribution, a slow reference of the score, and what it adds to SecMI."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mia_hub
from mia_hub.attacks import get_attack
from mia_hub.attacks.map_network import NORMAL_RECIPE, bounded_log_std, fit_map_network, normal_loss
from mia_hub.attacks.quantile import SIDE
from mia_hub.errors import AttackError
from mia_hub.metrics.roc import auc
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import ddpm_alphas_cumprod


def population(n, seed):
    """Images ``[n, 1, 8, 8]`` of different brightness, and targets that are normal given it: N(2·brightness, (0.1 + brightness)²)."""
    rng = np.random.default_rng(seed)
    brightness = rng.uniform(0, 1, n)
    images = brightness[:, None, None, None] + rng.normal(0, 0.05, (n, 1, 8, 8))
    std = 0.1 + 0.4 * brightness
    return images.astype(np.float32), 2 * brightness + std * rng.standard_normal(n), brightness, std


def test_the_loss_is_that_of_a_normal_distribution():
    outputs = torch.tensor([[0.5, -0.2], [1.0, 0.3]])
    targets = torch.tensor([[0.1], [2.0]])
    normal = torch.distributions.Normal(outputs[:, :1], bounded_log_std(outputs[:, 1:]).exp())
    assert normal_loss(outputs, targets).item() == pytest.approx(-normal.log_prob(targets).mean().item() - 0.5 * np.log(2 * np.pi))
    assert bounded_log_std(torch.tensor([-1e9, 0.0, 1e9])).tolist() == pytest.approx([-3, 0, 3])


def test_mean_and_standard_deviation_are_learned_from_the_image():
    images, targets, *_ = population(600, 0)
    mean, scale = targets.mean(), targets.std()
    network = fit_map_network(images, (targets - mean) / scale, 0, NORMAL_RECIPE)
    others, _, brightness, std = population(200, 1)
    predicted = torch.from_numpy(network(others))
    assert np.corrcoef(predicted[:, 0] * scale + mean, 2 * brightness)[0, 1] > 0.9
    assert np.corrcoef(bounded_log_std(predicted[:, 1]).exp() * scale, std)[0, 1] > 0.5


@pytest.fixture(scope="module")
def subject():
    """A model that predicts more noise on brighter images, and less on images that it knows; members first."""
    rng = np.random.default_rng(3)
    brightness = rng.uniform(60, 190, 400)
    images = np.clip(brightness[:, None, None] + rng.normal(0, 30, (400, 8, 8)), 0, 255).astype(np.uint8)
    labels = np.repeat([1, 0], 200)
    known = torch.from_numpy(images[:200].astype(np.float64) / 127.5 - 1)[:, None]

    def epsilon(x, t):
        light = x.mean((1, 2, 3), keepdim=True)
        near = (x.flatten(1)[:, None] - known.flatten(1)).pow(2).mean(-1).min(1).values < 0.02
        size = torch.exp(2 * light) * torch.where(near, 0.6, 1.0)[:, None, None, None]
        return size * torch.sin(3 * x + t.double()[:, None, None, None] / 40)

    return wrap_denoiser(epsilon, ddpm_alphas_cumprod(), sample_shape=(1, 8, 8), dtype=torch.float64), images, labels


def test_members_stand_out_among_images_like_them(subject):
    model, images, labels = subject
    attacks = get_attack("secmi", timesteps=(10,)), get_attack("quantile", timesteps=(10,), bag=1)
    plain, learned = (attack.score(model, images, is_member=labels, progress=False) for attack in attacks)
    assert auc(learned.scores[:, 0], labels) > auc(plain.scores[:, 0], labels) + 0.1
    assert learned.queries == plain.queries


def test_features_are_the_image_and_the_logs_of_secmis_errors(subject):
    model, images, _ = subject
    steps = (10, 60)
    observed = get_attack("quantile", timesteps=steps).observe(model, images[:3], progress=False).values
    errors = -get_attack("secmi", timesteps=steps).score(model, images[:3], progress=False).scores
    np.testing.assert_array_equal(observed[:, :3], [[1, 8, 8]] * 3)
    np.testing.assert_allclose(observed[:, 3:5], np.log(errors), rtol=1e-5)
    np.testing.assert_allclose(observed[:, 5:], images[:3].reshape(3, -1) / 255, rtol=1e-6)


def test_the_score_by_hand(subject):
    model, images, labels = subject
    attack = get_attack("quantile", timesteps=(10,), bag=2)
    observed = attack.observe(model, images[200:260], is_member=labels[200:260], progress=False).values
    scorer = attack.learn(observed, labels[200:260], 7)
    x, y = observed[:, 4:].reshape(60, 1, 8, 8), observed[:, 3].astype(np.float64)
    rng, expected = np.random.default_rng(7), []
    for k in range(2):
        rows = rng.integers(60, size=60)
        outputs = fit_map_network(x[rows], (y[rows] - y.mean()) / y.std(), 7 + k, NORMAL_RECIPE)(x)
        log_std = 3 * np.tanh(outputs[:, 1] / 3)
        expected.append((outputs[:, 0] * y.std() + y.mean() - y) / (y.std() * np.exp(log_std)))
    np.testing.assert_allclose(scorer(observed)[:, 0], np.mean(expected, axis=0), rtol=1e-9, atol=1e-12)


def test_large_images_are_reduced_before_the_network_sees_them():
    model = wrap_denoiser(lambda x, t: x.sin(), ddpm_alphas_cumprod(), sample_shape=(3, 48, 40))
    images = np.random.default_rng(0).integers(0, 256, (2, 48, 40, 3), dtype=np.uint8)
    observed = get_attack("quantile").observe(model, images, progress=False).values
    assert observed.shape == (2, 3 + 1 + 3 * SIDE * SIDE)


def test_a_check_takes_it_fitted(subject):
    model, images, _ = subject
    with pytest.raises(AttackError, match=r"is fitted on known non-members\. Fit it first, with attack\.fit\(model, nonmembers\)"):
        mia_hub.check_image(images[0], model, "quantile", nonmembers=images[200:], keep=False, progress=False)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"bag": 0}, "bag, the number of networks, must be"),
        ({"bag": 101}, "at most 100"),
        ({"timesteps": (95,)}, "reaches only multiples of 10"),
    ],
)
def test_parameters_are_refused(parameters, says):
    with pytest.raises(AttackError, match=says):
        get_attack("quantile", **parameters)
