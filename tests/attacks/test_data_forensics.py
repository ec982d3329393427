"""Data Forensics' series and its text attack: literal re-derivations, known answers, and refusals."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from support.attack_runs import ALPHAS, N, assert_chance, drawn, halving, is_member, mixture_population, scores, sixty_garments
from torch import nn
from torch.distributions import Normal, kl_divergence

from mia_hub.attacks import get_attack
from mia_hub.attacks.data_forensics import decoder_bpd, decoder_variance, prior_bpd, tanh_decoder_bpd
from mia_hub.errors import AttackError
from mia_hub.images.sources import as_images
from mia_hub.metrics.roc import auc
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import gaussian_mixture_denoiser, training_set_denoiser
from mia_hub.models.noise import SampleNoise
from mia_hub.models.sampling import ddim_timesteps

SERIES = ("forensics-vlb", "forensics-mse", "forensics-xstart")


@pytest.fixture(scope="module")
def population():
    return mixture_population()


@pytest.fixture(scope="module")
def garments():
    return sixty_garments()


def posterior(x0, x_t, t):
    """q(x_{t-1} | x_t, x0): Ho et al. 2020, Eqs. 6 and 7, from the betas."""
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    before, after = (1 - betas[:t]).prod(), (1 - betas[: t + 1]).prod()
    mean = before.sqrt() * betas[t] / (1 - after) * x0 + (1 - betas[t]).sqrt() * (1 - before) / (1 - after) * x_t
    return mean, ((1 - before) / (1 - after) * betas[t]).sqrt()


def test_vb_is_the_divergence_of_the_two_gaussians():
    steps = (1, 2, 20, 500, 999)
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    found = scores("forensics-vlb", halving(), images, timesteps=steps, aggregate="none", seed=3)
    for i, image in enumerate(as_images(images)):
        for j, t in enumerate(steps):
            x0, _, x_t = drawn(image, t, seed=3)
            predicted = (x_t - (1 - ALPHAS[t]).sqrt() * x_t / 2) / ALPHAS[t].sqrt()
            (q_mean, std), (p_mean, _) = posterior(x0, x_t, t), posterior(predicted, x_t, t)
            bits = kl_divergence(Normal(q_mean, std), Normal(p_mean, std)).mean() / math.log(2)
            assert found[i, j] == pytest.approx(-bits.item(), rel=1e-7)


@pytest.mark.parametrize("t", [1, 300, 999])
def test_vb_has_the_mean_and_variance_that_diffusers_samples_with(t):
    scheduler = DDPMScheduler(clip_sample=False, variance_type="fixed_small")
    image = np.random.default_rng(1).integers(0, 256, (1, 8, 8), dtype=np.uint8)
    x0, _, x_t = drawn(as_images(image)[0], t)
    step = scheduler.step(x_t / 2, t, x_t, generator=torch.Generator().manual_seed(0)).prev_sample
    noise = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(0), dtype=x_t.dtype)
    std = scheduler._get_variance(t).double().sqrt()
    bits = kl_divergence(Normal(posterior(x0, x_t, t)[0], std), Normal(step - std * noise, std)).mean() / math.log(2)
    assert -scores("forensics-vlb", halving(), image, timesteps=(t,))[0, 0] == pytest.approx(bits.item(), rel=2e-3)


def test_decoder_term_is_the_mass_of_the_bin():
    images = np.random.default_rng(2).integers(0, 256, (2, 8, 8), dtype=np.uint8)
    images[:, :2], images[:, 2:4] = 0, 255
    found = scores("forensics-vlb", halving(), images, timesteps=(0,))
    _, std = posterior(torch.zeros(1), torch.zeros(1), 1)
    for i, image in enumerate(as_images(images)):
        x0, _, x_t = drawn(image, 0)
        p = Normal((x_t - (1 - ALPHAS[0]).sqrt() * x_t / 2) / ALPHAS[0].sqrt(), std)
        upper = torch.where(x0 == 1, torch.ones_like(x0), p.cdf(x0 + 1 / 255))
        lower = torch.where(x0 == -1, torch.zeros_like(x0), p.cdf(x0 - 1 / 255))
        assert found[i, 0] == pytest.approx((upper - lower).log2().mean().item(), rel=1e-6)


def test_the_authors_variant_clips_the_predicted_clean_image():
    """Most of what a model predicts that answers ε = 3·x_t lies far outside [-1, 1]."""
    model = wrap_denoiser(lambda x, t: 3 * x, ALPHAS, sample_shape=(1, 8, 8), dtype=torch.float64)
    images, t = np.random.default_rng(0).integers(0, 256, (2, 8, 8), dtype=np.uint8), 700
    found = {name: scores(name, model, images, timesteps=(t,), variant="authors")[:, 0] for name in SERIES}
    for i, image in enumerate(as_images(images)):
        x0, e, x_t = drawn(image, t)
        clean = ((x_t - (1 - ALPHAS[t]).sqrt() * 3 * x_t) / ALPHAS[t].sqrt()).clamp(-1, 1)
        assert (clean.abs() == 1).float().mean() > 0.5
        epsilon = (x_t - ALPHAS[t].sqrt() * clean) / (1 - ALPHAS[t]).sqrt()
        (q_mean, std), (p_mean, _) = posterior(x0, x_t, t), posterior(clean, x_t, t)
        bits = kl_divergence(Normal(q_mean, std), Normal(p_mean, std)).mean() / math.log(2)
        expected = (bits, (e - epsilon).square().mean(), (x0 - clean).square().mean())
        assert [found[name][i] for name in SERIES] == pytest.approx([-value.item() for value in expected], rel=1e-7)


def test_the_authors_decoder_is_the_exact_one_to_three_digits():
    levels = torch.linspace(-1, 1, 256, dtype=torch.float64)[:, None]
    for mean, std in ((0.3, 0.05), (-1.0, 0.1), (0.98, 2.0)):
        exact, theirs = (torch.exp2(-bits) for bits in (
            decoder_bpd(levels, torch.full_like(levels, mean), std**2, bins=True),
            tanh_decoder_bpd(levels, torch.full_like(levels, mean), std**2),
        ))  # fmt: skip
        assert theirs.sum().item() == pytest.approx(1, abs=1e-6)
        torch.testing.assert_close(theirs, exact, rtol=0, atol=2e-3 * exact.max().item())
    assert tanh_decoder_bpd(torch.zeros(1, 1), torch.ones(1, 1), 1e-4).item() == pytest.approx(-math.log2(1e-12))


@pytest.mark.parametrize("name", SERIES)
def test_the_authors_variant_needs_pixels_and_signal(name):
    one = get_attack(name, timesteps=(99,), variant="authors")
    latents = halving()
    latents.info = replace(latents.info, picture_shape=(1, 64, 64))
    with pytest.raises(AttackError, match=r"clips the predicted clean image to \[-1, 1\].* custom works on latents; set variant='ours'"):
        one.check(latents)
    with pytest.raises(AttackError, match="choose timesteps up to 98"):
        one.check(halving(torch.linspace(0.9, 0, 100)))


@pytest.mark.parametrize("mean", [0.0, 0.3, -1.0, 1.004, 1.5])
def test_the_mass_of_all_bins_is_one_and_far_bins_keep_theirs(mean):
    levels = torch.linspace(-1, 1, 256, dtype=torch.float64)[:, None]
    for std in (0.0074, 0.1, 2.0):
        bits = decoder_bpd(levels, torch.full_like(levels, mean), std**2, bins=True)
        assert bits.isfinite().all()
        assert torch.exp2(-bits).sum().item() == pytest.approx(1, rel=1e-9)
    # 100 standard deviations away: log N(100) to leading order, where a difference of two probabilities would be 0.
    far = decoder_bpd(torch.zeros(1, 1), torch.ones(1, 1), 0.01**2, bins=True).item() * math.log(2)
    assert far == pytest.approx(0.5 * (1 - 1 / 255) ** 2 / 0.01**2, rel=2e-3)


def test_a_latent_has_a_density_and_no_bins():
    x0, mean = torch.randn(2, 5, 4, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = -Normal(mean, 0.5).log_prob(x0).mean((1, 2, 3)) / math.log(2)
    torch.testing.assert_close(decoder_bpd(x0, mean, 0.25, bins=False), expected)
    model, image = halving(), np.full((1, 8, 8), 90, np.uint8)
    pixels = scores("forensics-vlb", model, image, timesteps=(0,)).item()
    model.pixels, make = lambda images: make(images).repeat(1, 1, 2, 2), model.pixels
    model.to_model_space = lambda pixels: pixels[..., ::2, ::2] * 2 - 1
    latent = scores("forensics-vlb", model, image, timesteps=(0,)).item()
    x0, _, x_t = drawn(as_images(image)[0], 0)
    variance = decoder_variance(model.schedule)
    predicted = model.schedule.predict_x0(x_t, x_t / 2, 0)
    assert pixels == pytest.approx(-decoder_bpd(x0, predicted, variance, bins=True).item())
    # The id, and so the draw, is the image's own in both.
    assert latent != pixels


def test_total_is_the_sum_of_all_terms_and_the_prior():
    alphas = torch.linspace(0.99, 0.3, 12, dtype=torch.float64)
    model, images = halving(alphas), np.random.default_rng(3).integers(0, 256, (4, 8, 8), dtype=np.uint8)
    x0 = torch.from_numpy(images)[:, None].double() / 255 * 2 - 1
    q = Normal(alphas[-1].sqrt() * x0, (1 - alphas[-1]).sqrt())
    prior = kl_divergence(q, Normal(torch.zeros_like(x0), 1.0)).mean((1, 2, 3)) / math.log(2)
    torch.testing.assert_close(prior_bpd(x0, model.schedule), prior)
    series = scores("forensics-vlb", model, images, timesteps=range(12), aggregate="none")
    total = scores("forensics-vlb", model, images, timesteps=range(12), aggregate="total")[:, 0]
    np.testing.assert_allclose(total, series.sum(1) - prior.numpy(), rtol=1e-7)
    with pytest.raises(AttackError, match=r"at all 12 timesteps .* and 3 are"):
        scores("forensics-vlb", model, images, timesteps=(0, 1, 2), aggregate="total")


def test_total_of_a_population_that_the_model_knows_has_a_closed_form():
    """For x0 ~ N(0, s²) and its exact denoiser, E mse_t = ᾱs²/(ᾱs² + 1-ᾱ); and no code is shorter than the entropy."""
    std, betas = 0.25, np.linspace(0.005, 0.4, 30)
    a = np.cumprod(1 - betas)
    pixels = 0.5 + std / 2 * torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    model = gaussian_mixture_denoiser(torch.zeros(1, 1, 8, 8), std, alphas_cumprod=a)
    images = (pixels.clamp(0, 1) * 255).round().to(torch.uint8)[:, 0].numpy()
    bits = -scores("forensics-vlb", model, images, timesteps=range(30), aggregate="total")[:, 0]
    left = 1 / (a / (1 - a) + 1 / std**2)  # variance of x0 given x_t
    nats = (betas[1:] / (2 * (1 - betas[1:]) * (1 - a[:-1])) * a[1:] / (1 - a[1:]) * left[1:]).sum()
    variance = betas[1] * (1 - a[0]) / (1 - a[1])
    nats += left[0] / (2 * variance) + math.log(2 * math.pi * variance) / 2 - math.log(2 / 255)
    nats += (a[-1] * std**2 - a[-1] - math.log(1 - a[-1])) / 2
    assert bits.mean() == pytest.approx(nats / math.log(2), abs=4 * bits.std() / math.sqrt(40))
    assert bits.mean() > math.log2(std * math.sqrt(2 * math.pi * math.e) * 255 / 2)
    assert bits.std() / math.sqrt(40) < 0.1


def test_errors_of_the_noise_and_of_the_clean_image_are_means_of_squares():
    steps, images = (0, 40, 700), np.random.default_rng(4).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    options = {"timesteps": steps, "aggregate": "none", "draws": 2, "seed": 5}
    mse, xstart = (scores(name, halving(), images, **options) for name in SERIES[1:])
    for i, image in enumerate(as_images(images)):
        for j, t in enumerate(steps):
            noise_error = clean_error = 0.0
            for draw in range(2):
                for x, e in zip(*(v.flatten().tolist() for v in drawn(image, t, 5, draw)[:2])):
                    a = ALPHAS[t].item()
                    x_t = math.sqrt(a) * x + math.sqrt(1 - a) * e
                    noise_error += (e - x_t / 2) ** 2 / 128
                    clean_error += (x - (x_t - math.sqrt(1 - a) * x_t / 2) / math.sqrt(a)) ** 2 / 128
            assert mse[i, j] == pytest.approx(-noise_error, rel=1e-9)
            assert xstart[i, j] == pytest.approx(-clean_error, rel=1e-9)


@pytest.mark.parametrize("name", SERIES)
def test_aggregates_are_of_the_series_over_the_window(name):
    images = np.random.default_rng(5).integers(0, 256, (4, 8, 8), dtype=np.uint8)
    window = (5, 100, 300, 800)
    series = -scores(name, halving(), images, timesteps=window, aggregate="none")
    assert series.shape == (4, 4)
    for aggregate in ("mean", "min", "max", "median", "sum"):
        found = -scores(name, halving(), images, timesteps=window, aggregate=aggregate)
        np.testing.assert_allclose(found[:, 0], getattr(np, aggregate)(series, axis=1), rtol=1e-12)
    one, many = get_attack(name, timesteps=window), get_attack(name, timesteps=window, aggregate="none")
    assert (one.one_score, one.at(5), one.columns) == (True, one, (300,))
    assert (many.one_score, many.at(5).timesteps, many.columns) == (False, (5,), window)


@pytest.mark.parametrize("name", SERIES)
def test_a_perfect_memory_is_seen_and_a_generalisation_is_not(name, garments, population):
    images, labels = garments
    memory = training_set_denoiser(images[labels == 1].double() * 2 - 1)
    found = scores(name, memory, images)[:, 0]
    assert auc(found, labels) == 1.0
    # Higher is more likely a member, by a margin that no rounding makes.
    assert found[labels == 1].min() > found[labels == 0].max() + 1e-3
    means, samples = population
    knows_nothing = gaussian_mixture_denoiser(means, 0.1)
    assert_chance(scores(name, knows_nothing, samples)[:, 0], is_member)


def test_late_timesteps_tell_nothing_even_of_a_perfect_memory(garments):
    """Why the window of forensics-xstart ends where the noise begins to outweigh the signal."""
    images, labels = garments
    memory = training_set_denoiser(images[labels == 1].double() * 2 - 1)
    assert_chance(scores("forensics-xstart", memory, images, timesteps=(925,))[:, 0], labels)
    whole = scores("forensics-xstart", memory, images, timesteps=range(25, 1000, 100))[:, 0]
    assert 0.6 < auc(whole, labels) < 0.99


def test_timesteps_without_signal_are_refused_where_they_say_nothing():
    model = halving(torch.cat([ALPHAS[:-1], torch.zeros(1, dtype=torch.float64)]))
    image = np.zeros((8, 8), np.uint8)
    for name in ("forensics-vlb", "forensics-xstart"):
        with pytest.raises(AttackError, match="leaves no signal"):
            scores(name, model, image, timesteps=(500, 999))
    assert np.isfinite(scores("forensics-mse", model, image, timesteps=(500, 999))).all()
    # Sampling enters such a schedule one step later.
    assert ddim_timesteps(model.schedule, 3) == [998, 499, 0]
    assert np.isfinite(scores("nearest-generated", model, image, samples=2, steps=3)).all()


@pytest.fixture(scope="module")
def recalling(population):
    """A model conditioned on text that recalls the training image of a caption it knows, and knows else only the population."""
    means, images = population
    known = images[:N].double() * 2 - 1
    generalises = gaussian_mixture_denoiser(means, 0.1)

    def fn(x, t, row):
        signal, noise = generalises.schedule.signal(t, x), generalises.schedule.noise(t, x)
        recalled = (x - signal * known[row.clamp(0, N - 1)]) / noise
        return torch.where((row < N)[:, None, None, None], recalled, generalises.predict_noise(x, t))

    def condition(captions):
        return torch.tensor([int(caption or 2 * N) for caption in captions])

    return wrap_denoiser(fn, ALPHAS, sample_shape=(1, 8, 8), dtype=torch.float64, condition=condition)


@pytest.mark.parametrize("compare", ["output", "intermediate"])
@pytest.mark.parametrize("space", ["pixel", "feature", "model"])
def test_what_a_caption_recalls_is_compared_with_the_image(compare, space, recalling, population):
    _, images = population
    captions = [str(i) for i in range(2 * N)]
    options = {"steps": 4, "compare": compare, "space": space}
    found = scores("forensics-text", recalling, images, captions=captions, **options)[:, 0]
    assert auc(found, is_member) == 1.0
    assert found[:N].min() > -1e-6 > found[N:].max()
    swapped = [str((i + 1) % N if i < N else i) for i in range(2 * N)]
    assert auc(scores("forensics-text", recalling, images, captions=swapped, **options)[:, 0], is_member) < 0.9
    seen = get_attack("forensics-text", **options).access
    assert seen == ("black" if compare == "output" and space != "model" else "gray")


def test_text_distances_are_those_along_the_trajectory(recalling, population):
    image, caption = population[1][N : N + 1], ["170"]
    x0 = recalling.encode(image)
    x = SampleNoise([as_images(image)[0].id], (1, 8, 8), 9, dtype=torch.float64)(999)
    schedule, distances = recalling.schedule, []
    for t, s in ((999, 500), (500, 0), (0, None)):
        epsilon = recalling.predict_noise(x, torch.tensor([t]), recalling.condition(caption))
        clean = (x - (1 - ALPHAS[t]).sqrt() * epsilon) / ALPHAS[t].sqrt()
        distances.append((clean - x0).square().sum().sqrt().item())
        x = schedule.ddim_step(x, epsilon, t, s) if s is not None else x
    options = {"captions": caption, "seed": 9, "steps": 3, "space": "model"}
    assert scores("forensics-text", recalling, image, **options).item() == pytest.approx(-distances[-1], rel=1e-9)
    found = scores("forensics-text", recalling, image, compare="intermediate", **options).item()
    assert found == pytest.approx(-np.mean(distances), rel=1e-9)


def test_a_text_model_is_sampled_under_the_empty_caption_and_captions_are_needed_to_compare(recalling, population):
    image = population[1][:2]
    assert np.isfinite(scores("nearest-generated", recalling, image, captions=["0", "1"], samples=3, steps=3)).all()
    with pytest.raises(AttackError, match="needs the images' captions"):
        scores("forensics-text", recalling, image)
    with pytest.raises(AttackError, match="isn't conditioned on text"):
        scores("forensics-text", halving(), image, captions=["a", "b"])


FORENSICS = {
    **{name: {"timesteps": (30, 400)} for name in SERIES},
    "forensics-xstart draws": {"timesteps": (30, 400), "draws": 3},
    **{f"{name} authors": {"timesteps": (0, 30, 400), "variant": "authors"} for name in SERIES},
    "nearest-generated": {"samples": 7, "steps": 3},
    "nearest-generated feature": {"samples": 7, "steps": 3, "space": "feature"},
}


@pytest.mark.parametrize("variant", FORENSICS)
def test_batch_size_order_and_company_never_change_a_score(variant, tiny_pixel_repo):
    from mia_hub.models.loading import load_model

    model = load_model(tiny_pixel_repo(channels=3, size=16), device="cpu")
    images = np.random.default_rng(10).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    one = get_attack(variant.split()[0], **FORENSICS[variant])
    whole = one.score(model, images, progress=False)
    assert whole.queries == 5 * one.queries_per_image + one.setup_queries
    alone = np.concatenate([one.score(model, image, progress=False).scores for image in images])
    for other in (alone, one.score(model, images, batch_size=2, progress=False).scores):
        np.testing.assert_allclose(other, whole.scores, rtol=1e-5)
    np.testing.assert_allclose(one.score(model, images[::-1], batch_size=3, progress=False).scores[::-1], whole.scores, rtol=1e-5)
    assert (one.score(model, images, progress=False, seed=1).scores != whole.scores).all()


@pytest.mark.parametrize(
    ("name", "parameters", "per_image", "once"),
    [
        ("forensics-vlb", {"timesteps": (0, 20, 60), "draws": 2}, 6, 0),
        ("forensics-mse", {"timesteps": (20, 60)}, 2, 0),
        ("forensics-xstart", {}, 5, 0),
        ("nearest-generated", {"samples": 5, "steps": 4}, 0, 20),
        ("forensics-text", {"steps": 6}, 6, 0),
        ("gsa1", {}, 10, 0),
        ("gsa2", {"timesteps": (100, 500, 900)}, 3, 0),
    ],
)
def test_declared_queries_are_the_rows_that_the_denoiser_sees(name, parameters, per_image, once):
    seen = []

    class Counted(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x, t, cond=None):
            seen.append(len(x))
            return x * self.weight

    one = get_attack(name, **parameters)
    condition = (lambda captions: torch.zeros(len(captions))) if one.needs_caption else None
    model = wrap_denoiser(Counted(), ALPHAS, sample_shape=(1, 8, 8), condition=condition)
    images = np.random.default_rng(11).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    captions = ["a"] * 40 if one.needs_caption else None
    table = one.score(model, images, captions=captions, is_member=np.repeat([1, 0], 20), batch_size=3, progress=False)
    assert (one.queries_per_image, one.setup_queries) == (per_image, once)
    assert sum(seen) == table.queries == 40 * per_image + once
    assert max(seen) <= 3


@pytest.mark.parametrize(
    ("name", "parameters", "says"),
    [
        ("forensics-vlb", {"aggregate": "mode"}, "'median', 'sum', 'none', 'total'"),
        ("forensics-mse", {"aggregate": "total"}, "one of 'mean', 'min', 'max', 'median', 'sum', 'none'"),
        ("forensics-xstart", {"draws": 0}, "draws must be an integer ≥ 1"),
        ("nearest-generated", {"samples": 0}, "samples must be an integer ≥ 1"),
        ("nearest-generated", {"steps": 2.5}, "steps must be an integer"),
        ("nearest-generated", {"neighbours": 300}, "more than the 256 generated"),
        ("nearest-generated", {"space": "latent"}, "'pixel', 'feature'"),
        ("forensics-text", {"compare": "all"}, "'output', 'intermediate'"),
        ("forensics-text", {"space": "latent"}, "'pixel', 'feature', 'model'"),
        ("forensics-text", {"steps": 0}, "steps must be an integer"),
    ],
)
def test_parameters_that_cannot_be_are_refused(name, parameters, says):
    with pytest.raises(AttackError, match=says):
        get_attack(name, **parameters)
