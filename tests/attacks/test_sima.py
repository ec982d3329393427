"""SimA and SimA-MC: known answers, literal re-derivations, and what must never change a score."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from support.populations import mixture_images

from mia_hub.attacks import get_attack
from mia_hub.images.sources import as_images
from mia_hub.metrics.intervals import delong
from mia_hub.metrics.roc import auc
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import ddpm_alphas_cumprod, gaussian_mixture_denoiser, training_set_denoiser
from mia_hub.models.noise import SampleNoise

N = 150
STEPS = (20, 60)
VARIANTS = {
    "sima": {},
    "sima scaled": {"input": "scaled"},
    "sima noised": {"input": "noised"},
    "sima p=2": {"p": 2},
    "sima-mc": {"draws": 4},
    "sima-mc norm-mean": {"draws": 4, "form": "norm-mean"},
    "sima-mc antithetic": {"draws": 4, "antithetic": True},
    "sima-mc error-mean": {"draws": 4, "form": "error-mean"},
    "sima-mc antithetic error-mean": {"draws": 4, "form": "error-mean", "antithetic": True},
}


def attack(variant: str, **changes):
    return get_attack(variant.split()[0], **({"timesteps": STEPS} | VARIANTS[variant] | changes))


@pytest.fixture(scope="module")
def population():
    """2N samples of a Gaussian mixture: means, samples in model space, and as images in [0, 1]."""
    means, _, images = mixture_images(2 * N)
    return means, images.double() * 2 - 1, images


is_member = np.repeat([1, 0], N)


@pytest.mark.parametrize("variant", VARIANTS)
def test_known_answers(variant, population):
    means, samples, images = population
    memory = training_set_denoiser(samples[:N])
    knows_nothing = gaussian_mixture_denoiser(means, 0.1)
    remembered = attack(variant, timesteps=(20,)).score(memory, images, progress=False)
    assert auc(remembered.scores[:, 0], is_member) == 1.0
    generalised = attack(variant).score(knows_nothing, images, progress=False)
    for column in generalised.scores.T:
        # Members are no different here: .5 must lie in a 99.9 % interval (7 variants, 2 timesteps).
        low, high = delong(column, is_member, confidence=0.999)
        assert low < 0.5 < high


@pytest.mark.parametrize("variant", VARIANTS)
def test_literal_rederivation(variant, population):
    """Each definition written out sample by sample, step by step, draw by draw."""
    _, samples, images = population
    model = training_set_denoiser(samples[:N])
    one = attack(variant)
    table = one.score(model, images[:5], progress=False, seed=3)
    alphas = ddpm_alphas_cumprod()
    p = getattr(one, "p", 4)
    for (i, image), (j, t) in itertools.product(enumerate(as_images(images[:5])), enumerate(STEPS)):
        x0 = torch.tensor(image.pixels).permute(2, 0, 1)[None].double() * 2 - 1

        def epsilon(x, t=t):
            return model.predict_noise(x, torch.tensor([t]))

        def norm(v, p=p):
            return sum(abs(float(a)) ** p for a in v.flatten()) ** (1 / p)

        def draw(k, sign=1, t=t, image=image):
            return sign * SampleNoise([image.id], (1, 8, 8), 3, dtype=torch.float64)(t, k)

        def noised(k, sign=1, t=t, x0=x0, draw=draw):
            return alphas[t].sqrt() * x0 + (1 - alphas[t]).sqrt() * draw(k, sign)

        def error(k, sign=1, noised=noised, draw=draw):
            return epsilon(noised(k, sign)) - draw(k, sign)

        expected = {
            "sima": lambda x0=x0: norm(epsilon(x0)),
            "sima p=2": lambda x0=x0: norm(epsilon(x0)),
            "sima scaled": lambda x0=x0, t=t: norm(epsilon(alphas[t].sqrt() * x0)),
            "sima noised": lambda: norm(epsilon(noised(0))),
            "sima-mc": lambda: norm(sum(epsilon(noised(k)) for k in range(4)) / 4),
            "sima-mc norm-mean": lambda: sum(norm(epsilon(noised(k))) for k in range(4)) / 4,
            "sima-mc antithetic": lambda: norm(sum(epsilon(noised(k, sign)) for k in range(2) for sign in (1, -1)) / 4),
            "sima-mc error-mean": lambda error=error: norm(sum(error(k) for k in range(4)) / 4),
            "sima-mc antithetic error-mean": lambda error=error: norm(sum(error(k, sign) for k in range(2) for sign in (1, -1)) / 4),
        }[variant]()
        assert table.scores[i, j] == pytest.approx(-expected, rel=1e-9)


@pytest.mark.parametrize("variant", VARIANTS)
def test_batch_size_order_and_company_never_change_a_score(variant, tiny_pixel_repo):
    from mia_hub.models.loading import load_model

    model = load_model(tiny_pixel_repo(channels=3, size=16), device="cpu")
    images = np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3), dtype=np.uint8)
    one = attack(variant)
    alone = np.concatenate([one.score(model, image, progress=False).scores for image in images])
    for batch_size in (1, 2, 3, 64):
        table = one.score(model, images, batch_size=batch_size, progress=False)
        np.testing.assert_allclose(table.scores, alone, rtol=1e-5)
        assert table.queries == one.queries_per_image * len(images)
    backwards = one.score(model, images[::-1], batch_size=3, progress=False)
    np.testing.assert_allclose(backwards.scores[::-1], alone, rtol=1e-5)


def test_convention_smaller_predicted_noise_means_higher_score():
    model = wrap_denoiser(lambda x, t: x * 0 + x.mean((1, 2, 3), keepdim=True), ddpm_alphas_cumprod(), sample_shape=(1, 8, 8))
    images = np.stack([np.full((8, 8), v, np.uint8) for v in (128, 255)])  # ε about 0, and ε = 1
    quiet, loud = get_attack("sima", timesteps=(100,)).score(model, images, progress=False).scores[:, 0]
    assert quiet > loud
    assert loud == pytest.approx(-(64**0.25))


def test_vector_mean_cancels_noise_that_norm_mean_keeps():
    """For ε = x the average over antithetic pairs is exactly √ᾱ_t·x0; the average of norms is not."""
    model = wrap_denoiser(lambda x, t: x, ddpm_alphas_cumprod(), sample_shape=(1, 8, 8), dtype=torch.float64)
    image = np.full((8, 8), 255, np.uint8)
    signal = ddpm_alphas_cumprod()[200].sqrt().item()
    score = lambda **k: get_attack("sima-mc", timesteps=(200,), draws=2, **k).score(model, image, progress=False).scores.item()  # noqa: E731
    assert score(antithetic=True) == pytest.approx(-signal * 64**0.25, rel=1e-12)
    assert score(antithetic=True, form="norm-mean") < score(antithetic=True) - 0.01
