"""Loss, SecMI, PIA and PIAN: literal re-derivations, known answers, and exact query counts."""

from __future__ import annotations

from collections import Counter
from math import fsum

import numpy as np
import pytest
import torch
from support.populations import mixture_images
from support.reference import pia, secmi, sima

from mia_hub.attacks import get_attack
from mia_hub.errors import AttackError
from mia_hub.images.sources import as_images
from mia_hub.metrics.intervals import delong
from mia_hub.metrics.roc import auc
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import ddpm_alphas_cumprod, gaussian_mixture_denoiser, training_set_denoiser
from mia_hub.models.noise import SampleNoise

N = 150
SHAPE = (1, 8, 8)
SEED = 3
is_member = np.repeat([1, 0], N)


@pytest.fixture(scope="module")
def population():
    """2N samples of a Gaussian mixture: means, samples in model space, and as images in [0, 1]."""
    means, _, images = mixture_images(2 * N, SHAPE)
    return means, images.double() * 2 - 1, images


def draws(image, t, n):
    """The first n draws of e that belong to an image, as flat lists."""
    noise = SampleNoise([image.id], SHAPE, SEED, dtype=torch.float64)
    return [noise(t, k).flatten().tolist() for k in range(n)]


def literal_loss(x0, image, t, eps, alphas, n, power=1.0):
    """The average over draws of ‖e - ε(x_t, t)‖₂², or of a power of it."""
    errors = []
    for e in draws(image, t, n):
        predicted = eps(sima.noised(x0, e, t, alphas), t)
        errors.append(fsum((a - b) ** 2 for a, b in zip(e, predicted)) ** power)
    return fsum(errors) / n


# name, parameters, the paper's statistic of (x0, image, t, ε, ᾱ)
LITERAL = [
    ("loss", {}, lambda x0, image, t, eps, a: literal_loss(x0, image, t, eps, a, 1)),
    ("loss", {"draws": 3}, lambda x0, image, t, eps, a: literal_loss(x0, image, t, eps, a, 3)),
    ("loss", {"draws": 3, "form": "norm"}, lambda x0, image, t, eps, a: literal_loss(x0, image, t, eps, a, 3, 0.5)),
    ("secmi", {}, lambda x0, image, t, eps, a: secmi.t_error(x0, t, 10, eps, a)),
    ("secmi", {"k": 20}, lambda x0, image, t, eps, a: secmi.t_error(x0, t, 20, eps, a)),
    ("secmi", {"k": 5, "timesteps": (15, 40)}, lambda x0, image, t, eps, a: secmi.t_error(x0, t, 5, eps, a)),
    ("pia", {}, lambda x0, image, t, eps, a: pia.pia(x0, t, eps, a)),
    ("pia", {"p": 1.5}, lambda x0, image, t, eps, a: pia.pia(x0, t, eps, a, 1.5)),
    ("pian", {}, lambda x0, image, t, eps, a: pia.pian(x0, t, eps, a)),
    ("pian", {"p": 2}, lambda x0, image, t, eps, a: pia.pian(x0, t, eps, a, 2)),
    ("sima", {}, lambda x0, image, t, eps, a: sima.sima(x0, t, eps)),
    ("sima-mc", {"draws": 2}, lambda x0, image, t, eps, a: sima.sima_mc_vector_mean(x0, t, eps, a, draws(image, t, 2))),
    (
        "sima-mc",
        {"draws": 2, "form": "norm-mean"},
        lambda x0, image, t, eps, a: sima.sima_mc_norm_mean(x0, t, eps, a, draws(image, t, 2)),
    ),
]


def flat(model):
    """The model as the references query it."""

    def eps(x, t):
        return model.predict_noise(torch.tensor(x, dtype=torch.float64).reshape(1, *SHAPE), torch.tensor([t])).flatten().tolist()

    return eps


@pytest.mark.parametrize("kind", ["generalises", "remembers"])
@pytest.mark.parametrize(("name", "parameters", "statistic"), LITERAL, ids=lambda v: "" if callable(v) else str(v))
def test_literal_rederivation(name, parameters, statistic, kind, population):
    means, samples, images = population
    alphas = ddpm_alphas_cumprod(400, 3e-4, 0.03)
    model = gaussian_mixture_denoiser(means, 0.1, None, alphas) if kind == "generalises" else training_set_denoiser(samples[:20], alphas)
    # A member, and images that the memory doesn't hold.
    chosen = [0, 30, 200]
    one = get_attack(name, **{"timesteps": (0, 20, 60)} | parameters)
    table = one.score(model, images[chosen], progress=False, seed=SEED)
    for i, (row, image) in enumerate(zip(chosen, as_images(images[chosen]))):
        x0 = samples[row].flatten().tolist()
        for j, t in enumerate(one.timesteps):
            expected = statistic(x0, image, t, flat(model), alphas.tolist())
            # Of a remembered image nothing is left but rounding.
            assert table.scores[i, j] == pytest.approx(-expected, rel=1e-9, abs=1e-12 if kind == "remembers" else 0)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("loss", {"timesteps": (0, 20)}),
        ("loss", {"timesteps": (20,), "draws": 3}),
        ("loss", {"timesteps": (20,), "draws": 3, "form": "norm"}),
        ("pia", {"timesteps": (20, 60, 100)}),
        ("pian", {"timesteps": (20, 60, 100)}),
        # Beyond its first steps SecMI says nothing about an exact memory: inversion takes non-members so far out that there, too, the
        # denoiser knows one nearest training image only, and steps to and fro without error. Fine steps postpone that.
        ("secmi", {"timesteps": (0, 10)}),
        ("secmi", {"timesteps": (2, 20, 40), "k": 2}),
    ],
)
def test_known_answers(name, parameters, population):
    means, samples, images = population
    one = get_attack(name, **parameters)
    remembered = one.score(training_set_denoiser(samples[:N]), images, progress=False)
    assert [auc(column, is_member) for column in remembered.scores.T] == [1.0] * len(one.timesteps)
    generalised = one.score(gaussian_mixture_denoiser(means, 0.1), images, progress=False)
    for column in generalised.scores.T:
        low, high = delong(column, is_member, confidence=0.999)
        assert low < 0.5 < high


SECMI_GRID = tuple(range(0, 191, 10))


@pytest.mark.parametrize(
    ("name", "parameters", "queries"),
    [
        ("loss", {}, 21),
        ("loss", {"timesteps": (20, 60)}, 2),
        ("loss", {"timesteps": (0, 20, 60), "draws": 5}, 15),
        ("secmi", {"timesteps": (90,)}, 11),
        ("secmi", {"timesteps": (0,)}, 2),
        ("secmi", {"timesteps": (20, 60)}, 8),
        ("secmi", {"timesteps": SECMI_GRID}, 21),
        ("secmi", {"timesteps": (15, 40), "k": 5}, 10),
        ("secmi", {"timesteps": (900,), "k": 90}, 12),
        ("secmi-nns", {}, 11),
        ("secmi-nns", {"timesteps": (40,), "k": 20}, 4),
        ("pia", {}, 31),
        ("pia", {"timesteps": (200,)}, 2),
        ("pian", {"timesteps": (0, 20, 60)}, 4),
    ],
)
@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_declared_queries_are_the_forward_passes_made(name, parameters, queries, batch_size):
    rows, asked = [], Counter()

    def fn(x, t):
        rows.append(len(x))
        asked.update(t.tolist())
        return x

    one = get_attack(name, **parameters)
    model = wrap_denoiser(fn, ddpm_alphas_cumprod(), sample_shape=SHAPE)
    seen = one.observe(model, np.zeros((5, 8, 8), np.uint8), batch_size=batch_size, is_member=[1, 0, 1, 0, 1], progress=False)
    assert one.queries_per_image == queries
    assert sum(rows) == seen.queries == 5 * queries
    assert max(rows) <= batch_size
    if name.startswith("secmi"):
        # The chain, each of its points once.
        assert asked == dict.fromkeys(range(0, one.timesteps[-1] + one.k + 1, one.k), 5)


@pytest.mark.parametrize("name", ["loss", "pia", "pian"])
def test_timesteps_of_a_small_batch_share_forward_passes(name):
    calls = []
    model = wrap_denoiser(lambda x, t: calls.append(len(x)) or x, ddpm_alphas_cumprod(), sample_shape=SHAPE)
    get_attack(name, timesteps=range(10, 90, 10)).score(model, np.zeros((2, 8, 8), np.uint8), batch_size=16, progress=False)
    assert calls == ([16] if name == "loss" else [2, 16])


@pytest.fixture(scope="module")
def random_network(tiny_pixel_repo):
    """A small random UNet, by precision."""
    from mia_hub.models.loading import load_model

    folder = tiny_pixel_repo(channels=3, size=16)
    return lambda dtype: load_model(folder, device="cpu", dtype=dtype)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("loss", {"draws": 2}), ("secmi", {}), ("secmi", {"k": 5}), ("pia", {}), ("pian", {})],
)
def test_batch_size_order_and_company_never_change_a_score(name, parameters, random_network):
    model = random_network("float32")
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    one = get_attack(name, **{"timesteps": (20, 60)} | parameters)
    alone = np.concatenate([one.score(model, image, progress=False).scores for image in images])
    for batch_size in (1, 2, 3, 64):
        table = one.score(model, images, batch_size=batch_size, progress=False)
        np.testing.assert_allclose(table.scores, alone, rtol=1e-5)
    backwards = one.score(model, images[::-1], batch_size=3, progress=False)
    np.testing.assert_allclose(backwards.scores[::-1], alone, rtol=1e-5)


def test_pian_forgets_the_scale_of_the_first_prediction_and_pia_does_not():
    def scaled_by(factor):
        scale = lambda t: torch.where(t == 0, factor, 1.0)[:, None, None, None]  # noqa: E731
        return wrap_denoiser(lambda x, t: x * scale(t), ddpm_alphas_cumprod(), sample_shape=SHAPE, dtype=torch.float64)

    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    score = lambda name, factor: get_attack(name, timesteps=(100,)).score(scaled_by(factor), images, progress=False).scores  # noqa: E731
    np.testing.assert_allclose(score("pian", 1.0), score("pian", 100.0), rtol=1e-12)
    assert (score("pia", 100.0) < score("pia", 1.0) - 1).all()
    # Nothing predicted is nothing to scale: what is left is the norm of the prediction at √ᾱ_t·x0.
    x0 = images.reshape(3, -1) / 127.5 - 1
    expected = -(ddpm_alphas_cumprod()[100].item() ** 0.5) * (x0**4).sum(1) ** 0.25
    np.testing.assert_allclose(score("pian", 0.0)[:, 0], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "parameters", "says"),
    [
        ("loss", {"draws": 0}, "draws must be an integer ≥ 1"),
        ("loss", {"draws": 1.5}, "draws must be an integer ≥ 1"),
        ("loss", {"form": "root"}, "form must be one of 'squared', 'norm'; got 'root'"),
        ("pia", {"p": -1}, "above 0"),
        ("pian", {"p": "four"}, "above 0"),
        ("secmi", {"k": 0}, "an integer ≥ 1"),
        ("secmi", {"k": 2.5}, "an integer ≥ 1"),
        ("secmi", {"timesteps": (90, 95, 101)}, r"only multiples of 10, and not 95, 101. The nearest are 90, 100, 110"),
        ("secmi", {"k": 7}, r"only multiples of 7"),
        ("secmi-nns", {"timesteps": (45,)}, r"The nearest are 40, 50"),
        ("secmi-nns", {"timesteps": (80, 90)}, "one timestep"),
    ],
)
def test_parameters_that_cannot_be_are_refused(name, parameters, says):
    with pytest.raises(AttackError, match=says):
        get_attack(name, **parameters)
