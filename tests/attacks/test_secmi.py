"""SecMI's grid, precision and refusals; SecMI-NNs, whose classifier must be honest."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.populations import mixture_images
from support.reference import secmi

from mia_hub.attacks import get_attack
from mia_hub.errors import AttackError
from mia_hub.metrics.intervals import delong
from mia_hub.metrics.roc import auc
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import ddpm_alphas_cumprod, gaussian_mixture_denoiser, training_set_denoiser
from mia_hub.splits.partition import calibration_part

N = 150
SHAPE = (1, 8, 8)
is_member = np.repeat([1, 0], N)


@pytest.fixture(scope="module")
def population():
    """2N samples of a Gaussian mixture: means, samples in model space, and as images in [0, 1]."""
    means, _, images = mixture_images(2 * N, SHAPE)
    return means, images.double() * 2 - 1, images


def flat(model):
    """The model as the references query it."""

    def eps(x, t):
        return model.predict_noise(torch.tensor(x, dtype=torch.float64).reshape(1, *SHAPE), torch.tensor([t])).flatten().tolist()

    return eps


def test_literal_rederivation_of_the_maps(population):
    means, samples, images = population
    model = gaussian_mixture_denoiser(means, 0.1)
    one = get_attack("secmi-nns", timesteps=(40,), k=20)
    labels = np.arange(40) % 2
    seen = one.observe(model, images[:40], is_member=labels, progress=False).values
    assert seen.shape == (40, *SHAPE) and seen.dtype == np.float32
    for row in (0, 39):
        expected = secmi.difference_map(samples[row].flatten().tolist(), 40, 20, flat(model), ddpm_alphas_cumprod().tolist())
        np.testing.assert_allclose(seen[row].ravel(), expected, rtol=1e-6)


SECMI_GRID = tuple(range(0, 191, 10))


def test_the_grid_of_secmi_centres_on_the_timestep_of_its_pixel_setting():
    one = get_attack("secmi")
    assert one.timesteps == SECMI_GRID
    assert one.default_timestep == 90
    assert one.at(90).queries_per_image == 11


@pytest.fixture(scope="module")
def random_network(tiny_pixel_repo):
    """A small random UNet, by precision."""
    from mia_hub.models.loading import load_model

    folder = tiny_pixel_repo(channels=3, size=16)
    return lambda dtype: load_model(folder, device="cpu", dtype=dtype)


def test_single_precision_keeps_the_digits_of_the_t_error(random_network):
    """x̂_t and x̃_t are almost alike: subtracted in float32, they would leave a t-error of three digits."""
    images = np.random.default_rng(1).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    one = get_attack("secmi", timesteps=(0, 30, 90))
    single, double = (one.score(random_network(dtype), images, progress=False).scores for dtype in ("float32", "float64"))
    np.testing.assert_allclose(single, double, rtol=1e-4)


def never(x, t):
    raise AssertionError("the model was queried")


@pytest.mark.parametrize("name", ["secmi", "secmi-nns"])
def test_a_step_beyond_the_schedule_is_refused_before_the_model_is_queried(name):
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    labels = np.arange(60) % 2
    silent = ddpm_alphas_cumprod(101)
    silent[100] = 0  # pure noise at the end
    for alphas, t, says in (
        (ddpm_alphas_cumprod(100), 90, r"90\+10 lies outside the schedule of custom, which has signal from 0 to 99: .* up to 80"),
        (silent, 90, r"90\+10 lies outside .* from 0 to 99"),
        (ddpm_alphas_cumprod(101), 110, "Timestep 110 lies outside"),
    ):
        model = wrap_denoiser(never, alphas, sample_shape=SHAPE)
        with pytest.raises(AttackError, match=says):
            get_attack(name, timesteps=(t,)).score(model, images, is_member=labels, progress=False)
    model = wrap_denoiser(lambda x, t: x, ddpm_alphas_cumprod(101), sample_shape=SHAPE)
    assert get_attack("secmi", timesteps=(90,)).score(model, images[:2], progress=False).queries == 22


# Where the maps of an exact memory tell every member: see test_known_answers.
LEARNER = {"timesteps": (0,)}


@pytest.fixture(scope="module")
def memory(population):
    return training_set_denoiser(population[1][:N])


def test_the_classifier_learns_what_it_was_not_shown(population, memory):
    images, labels = population[2][60:240], is_member[60:240]
    table = get_attack("secmi-nns", **LEARNER).score(memory, images, is_member=labels, progress=False)
    calibration = calibration_part(table.ids, labels)
    assert table.scores.shape == (180, 1)
    assert auc(table.scores[~calibration, 0], labels[~calibration]) >= 0.95
    # The calibration part itself is judged by networks fitted on its other folds, whose log-odds share a scale only roughly.
    assert auc(table.scores[calibration, 0], labels[calibration]) >= 0.9


def test_the_classifier_finds_nothing_in_permuted_labels(population, memory):
    labels = np.random.default_rng(0).permutation(is_member)[100:200]
    table = get_attack("secmi-nns", **LEARNER).score(memory, population[2][100:200], is_member=labels, progress=False)
    low, high = delong(table.scores[:, 0], labels, confidence=0.999)
    assert low < 0.5 < high


def test_once_fitted_it_scores_others_and_refuses_what_it_was_fitted_on(population, memory):
    images = population[2]
    order = np.random.default_rng(0).permutation(2 * N)
    known, others = order[:100], order[100:]
    attack = get_attack("secmi-nns", **LEARNER)
    fitted = attack.fit(memory, images[known], is_member[known], progress=False)
    scores = fitted.score(memory, images[others], progress=False).scores[:, 0]
    assert auc(scores, is_member[others]) >= 0.95
    with pytest.raises(AttackError, match="3 of these images are among those"):
        fitted.score(memory, images[[known[0], others[0], known[1], known[2]]], progress=False)
    turned = known[::-1].copy()
    backwards = attack.fit(memory, images[turned], is_member[turned], progress=False)
    np.testing.assert_array_equal(backwards.score(memory, images[others], progress=False).scores[:, 0], scores)


def test_scores_of_the_classifier_hardly_feel_the_batch_size(random_network):
    """Training multiplies the last digits by which maps differ between batch sizes; smooth activations keep that small.

    Whether they differ at all depends on the CPU and its threads, so the difference is made here: some units of the last place.
    """
    model = random_network("float32")
    predict = model.predict_noise

    def rounded_by_batch_size(x, t, cond=None):
        generator = torch.Generator().manual_seed(len(x))
        return predict(x, t, cond) * (1 + 1e-6 * torch.randn(x.shape, generator=generator))

    model.predict_noise = rounded_by_batch_size
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    attack, labels = get_attack("secmi-nns", **LEARNER), np.arange(40) % 2
    whole, small = (attack.score(model, images, is_member=labels, batch_size=n, progress=False).scores for n in (64, 7))
    assert not np.array_equal(whole, small)
    np.testing.assert_allclose(small, whole, atol=1e-3 * whole.std())
