"""MoFit: a slow reference, what its fits achieve, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.tiny_pipelines import save

import mia_hub
from mia_hub.attacks import get_attack
from mia_hub.errors import AttackError, ModelError
from mia_hub.images.sources import as_images
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import ddpm_alphas_cumprod
from mia_hub.models.noise import SampleNoise

SHAPE, SEED, T = (1, 8, 8), 5, 140
FEW = {"image_steps": 6, "embedding_steps": 5}


def vectors(captions):
    """A caption's vector ``[9]``: its letters' numbers, smoothly bounded."""
    rows = [[np.sin(sum(map(ord, caption)) + k) / 2 if caption else 0.0 for k in range(9)] for caption in captions]
    return torch.tensor(rows, dtype=torch.float64)


def epsilon(x, t, cond):
    mixed = torch.tanh(x.flip(-1) * (1 + cond[:, :1, None, None])) + 0.3 * x**3
    return mixed + 0.2 * torch.sin(x + cond[:, None, 1:, None])


@pytest.fixture(scope="module")
def model():
    return wrap_denoiser(epsilon, ddpm_alphas_cumprod(), sample_shape=SHAPE, dtype=torch.float64, condition=vectors)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)


def literal(image, caption, *, image_steps, embedding_steps, radius=0.3, step=0.15, learning_rate=0.06):
    """The score of one image, with Adam and everything else by hand."""
    (known,) = as_images(image[None])
    noise = SampleNoise([known.id], SHAPE, SEED, dtype=torch.float64)
    e, signal = noise(T), ddpm_alphas_cumprod()[T]
    x = torch.from_numpy((image / np.float32(255)).astype(np.float32)).double()[None, None] * 2 - 1

    def loss(x0, cond):
        x_t = signal**0.5 * x0 + (1 - signal) ** 0.5 * e
        return ((e - epsilon(x_t, torch.tensor([T]), cond)) ** 2).mean()

    normal = torch.distributions.Normal(0.0, 1.0)
    fitted = x + radius * (2 * normal.cdf(noise(T, 1)) - 1)
    for k in range(image_steps):
        fitted = fitted.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(fitted, vectors([""])), fitted)
        fitted = (fitted.detach() - (step - (step - step / 100) / image_steps * k) * torch.sign(gradient)).clip(-1, 1)
    cond, first, second = vectors([caption]), torch.zeros(1, 9).double(), torch.zeros(1, 9).double()
    for k in range(1, embedding_steps + 1):
        cond = cond.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(fitted, cond), cond)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        cond = cond.detach() - learning_rate * (first / (1 - 0.9**k)) / ((second / (1 - 0.999**k)).sqrt() + 1e-8)
    return float(loss(x, cond) - loss(x, vectors([""])))


@pytest.mark.parametrize("parameters", [FEW, FEW | {"radius": 0.1, "step": 0.4, "learning_rate": 0.01}])
def test_by_a_slow_reference(model, images, parameters):
    captions = ["a cat", "", "two dogs", "a tree", "a"]
    attack = get_attack("mofit", **parameters)
    table = attack.score(model, images, captions=captions, seed=SEED, progress=False, batch_size=3)
    expected = [literal(image, caption, **parameters) for image, caption in zip(images, captions)]
    np.testing.assert_allclose(table.scores[:, 0], expected, rtol=1e-6)
    assert table.queries == 5 * (6 + 5 + 2) and attack.queries_per_image == 13


def test_both_fits_lower_their_loss(model, images):
    """x̂ is easier without a caption than x is, and φ* suits it better than the empty caption."""
    queries = []

    def recorded(x, t, cond):
        queries.append((x.detach().clone(), cond.detach().clone()))
        return epsilon(x, t, cond)

    watched = wrap_denoiser(recorded, ddpm_alphas_cumprod(), sample_shape=SHAPE, dtype=torch.float64, condition=vectors)
    get_attack("mofit", image_steps=30, embedding_steps=40).score(watched, images[:1], seed=SEED, progress=False)
    e = SampleNoise([image.id for image in as_images(images[:1])], SHAPE, SEED, dtype=torch.float64)(T)
    losses = [float(((e - epsilon(x, torch.tensor([T]), cond)) ** 2).mean()) for x, cond in queries]
    plain = losses[-2]
    assert len(losses) == 72 and min(losses[25:30]) < 0.9 * min(plain, losses[0])
    assert losses[69] < 0.99 * losses[30]


def test_a_pipeline_with_an_autoencoder_and_a_text_encoder(tmp_path):
    model = mia_hub.load_model(str(save("sd1", tmp_path / "model")))
    size = model.info.picture_shape[1:]
    images = np.random.default_rng(1).integers(0, 256, (3, *size, 3), dtype=np.uint8)
    attack = get_attack("mofit", image_steps=2, embedding_steps=2)
    scores = attack.score(model, images, captions=["a cat", "a dog", ""], progress=False).scores
    alone = attack.score(model, images[1:2], captions=["a dog"], progress=False).scores
    assert np.isfinite(scores).all() and len(np.unique(scores)) == 3
    np.testing.assert_allclose(alone[0], scores[1], rtol=1e-3)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"image_steps": 0}, "image_steps must be an integer ≥ 1; got 0"),
        ({"embedding_steps": 1.5}, "embedding_steps must be an integer ≥ 1; got 1.5"),
        ({"radius": 0}, "radius must be a number above 0; got 0"),
        ({"step": float("inf")}, "step must be a number above 0; got inf"),
        ({"learning_rate": "fast"}, "learning_rate must be a number above 0; got 'fast'"),
    ],
)
def test_parameters_that_are_refused(parameters, message):
    with pytest.raises(AttackError, match=message):
        get_attack("mofit", **parameters)


def test_models_that_are_refused(images):
    plain = wrap_denoiser(lambda x, t: x, ddpm_alphas_cumprod(), sample_shape=SHAPE)
    with pytest.raises(AttackError, match="fits the embedding of a text, and custom isn't conditioned on text"):
        get_attack("mofit").score(plain, images, progress=False)
    for deaf in (lambda x, t, cond: x, lambda x, t, cond: epsilon(x, t, cond).detach()):
        model = wrap_denoiser(deaf, ddpm_alphas_cumprod(), sample_shape=SHAPE, dtype=torch.float64, condition=vectors)
        with pytest.raises(ModelError, match="No gradient reaches the image or the text embedding of custom"):
            get_attack("mofit", **FEW).score(model, images, progress=False)
