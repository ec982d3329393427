"""Loss, SecMI, SecMI-NNs, PIA and PIAN: literal re-derivations, known answers, exact query counts, and an honest classifier."""

from __future__ import annotations

from collections import Counter
from math import fsum

import numpy as np
import pytest
import torch
from support.populations import mixture_images
from support.reference import pia, secmi, sima

from mia_hub.attacks import get_attack
from mia_hub.attacks.map_classifier import fit_map_classifier
from mia_hub.errors import AttackError
from mia_hub.images.sources import as_images
from mia_hub.metrics.intervals import delong
from mia_hub.metrics.roc import auc
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import ddpm_alphas_cumprod, gaussian_mixture_denoiser, training_set_denoiser
from mia_hub.models.noise import SampleNoise
from mia_hub.splits.partition import calibration_part

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
    """The first n draws of e that belong to a image, as flat lists."""
    noise = SampleNoise([image.id], SHAPE, SEED, dtype=torch.float64)
    return [noise(t, k).flatten().tolist() for k in range(n)]


def literal_loss(x0, image, t, eps, alphas, n):
    """The average over draws of ‖e - ε(x_t, t)‖₂²."""
    errors = []
    for e in draws(image, t, n):
        predicted = eps(sima.noised(x0, e, t, alphas), t)
        errors.append(fsum((a - b) ** 2 for a, b in zip(e, predicted)))
    return fsum(errors) / n


# name, parameters, the paper's statistic of (x0, image, t, ε, ᾱ)
LITERAL = [
    ("loss", {}, lambda x0, image, t, eps, a: literal_loss(x0, image, t, eps, a, 1)),
    ("loss", {"draws": 3}, lambda x0, image, t, eps, a: literal_loss(x0, image, t, eps, a, 3)),
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


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("loss", {"timesteps": (0, 20)}),
        ("loss", {"timesteps": (20,), "draws": 3}),
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


def test_single_precision_keeps_the_digits_of_the_t_error(random_network):
    """x̂_t and x̃_t are almost alike: subtracted in float32, they would leave a t-error of three digits."""
    images = np.random.default_rng(1).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    one = get_attack("secmi", timesteps=(0, 30, 90))
    single, double = (one.score(random_network(dtype), images, progress=False).scores for dtype in ("float32", "float64"))
    np.testing.assert_allclose(single, double, rtol=1e-4)


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
        ("pia", {"p": -1}, "above 0"),
        ("pian", {"p": "four"}, "above 0"),
        ("secmi", {"k": 0}, "an integer ≥ 1"),
        ("secmi", {"k": 2.5}, "an integer ≥ 1"),
        ("secmi", {"timesteps": (90, 95, 101)}, r"multiples of 10 only, and timesteps has 95, 101; .*: 90, 100, 110"),
        ("secmi", {"k": 7}, r"multiples of 7 only"),
        ("secmi-nns", {"timesteps": (45,)}, r"the nearest it can reach: 40, 50"),
        ("secmi-nns", {"timesteps": (80, 90)}, "one timestep"),
    ],
)
def test_parameters_that_cannot_be_are_refused(name, parameters, says):
    with pytest.raises(AttackError, match=says):
        get_attack(name, **parameters)


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


# ---- SecMI-NNs

# Where the maps of an exact memory tell every member: see test_known_answers.
LEARNER = {"timesteps": (0,)}


@pytest.fixture(scope="module")
def memory(population):
    return training_set_denoiser(population[1][:N])


def test_the_classifier_learns_what_it_was_not_shown(population, memory):
    images = population[2]
    table = get_attack("secmi-nns", **LEARNER).score(memory, images, is_member=is_member, progress=False)
    calibration = calibration_part(table.ids, is_member)
    assert table.scores.shape == (2 * N, 1)
    assert auc(table.scores[~calibration, 0], is_member[~calibration]) >= 0.95
    # The calibration part itself is judged by networks fitted on its other folds, whose log-odds share a scale only roughly.
    assert auc(table.scores[calibration, 0], is_member[calibration]) >= 0.9


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


def maps(channels=1, side=8, n=60, seed=0):
    """Maps of members (label 1), and of others, which are larger."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    values = np.abs(rng.standard_normal((n, channels, side, side))) * np.where(labels, 0.5, 1.5)[:, None, None, None]
    return values.astype(np.float32), labels


@pytest.mark.parametrize(("channels", "side"), [(1, 4), (4, 5), (1, 64)])
def test_maps_of_any_size_and_channels_are_told_apart_higher_for_members(channels, side):
    values, labels = maps(channels, side, n=32 if side < 64 else 16)
    scores = fit_map_classifier(values, labels, 0)(maps(channels, side, n=8, seed=1)[0])
    assert scores.shape == (8, 1) and scores.dtype == np.float64
    assert auc(scores[:, 0], np.arange(8) % 2) == 1.0


def test_fitting_is_seeded_leaves_random_state_alone_and_needs_no_gradients_of_the_caller():
    values, labels = maps()
    values[:, 0, 0, 0] = 0
    constant = np.concatenate([values, np.full_like(values, 3)], axis=1)  # a channel without scale
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = fit_map_classifier(constant, labels, 5)(constant)
    torch.rand(3), np.random.rand(3)
    after = torch.get_rng_state(), np.random.get_state()[1].copy()
    with torch.inference_mode():
        second = fit_map_classifier(constant, labels, 5)(constant)
    with torch.no_grad():
        other = fit_map_classifier(constant, labels, 6)(constant)
        assert not torch.is_grad_enabled()
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)
    assert torch.equal(after[0], torch.get_rng_state()) and (after[1] == np.random.get_state()[1]).all()
    torch.set_rng_state(before[0])
    fit_map_classifier(values, labels, 5)
    assert torch.equal(before[0], torch.get_rng_state())


def test_a_seed_of_any_size_is_taken():
    values, labels = maps(n=20)
    assert np.isfinite(fit_map_classifier(values, labels, 2**80 + 1)(values)).all()
