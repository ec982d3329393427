"""The distance to the nearest generated image: sampling, distances, features, galleries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from PIL import Image
from support.attack_runs import ALPHAS, assert_chance, halving, is_member, mixture_population, scores, sixty_garments

from mia_hub.attacks import get_attack
from mia_hub.attacks.nearest_generated import described
from mia_hub.errors import AttackError, ImageError
from mia_hub.metrics.roc import auc
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import gaussian_mixture_denoiser, training_set_denoiser
from mia_hub.models.sampling import ddim_timesteps, predicted_clean_images
from mia_hub.models.schedule import NoiseSchedule


@pytest.fixture(scope="module")
def population():
    return mixture_population()


@pytest.fixture(scope="module")
def garments():
    return sixty_garments()


def test_sampling_is_diffusers_ddim():
    model = gaussian_mixture_denoiser(torch.tensor([0.5, -0.5])[:, None, None, None].expand(2, 1, 4, 4), 0.2)
    scheduler = DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    scheduler.set_timesteps(10)
    x = torch.randn(3, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours, theirs = list(predicted_clean_images(model, x, scheduler.timesteps.tolist())), x
    for t, clean in zip(scheduler.timesteps, ours, strict=True):
        step = scheduler.step(model.predict_noise(theirs, t.expand(3)), t, theirs)
        torch.testing.assert_close(clean, step.pred_original_sample, rtol=1e-3, atol=1e-3)
        theirs = step.prev_sample
    torch.testing.assert_close(ours[-1], theirs, rtol=1e-4, atol=1e-4)


def test_sampling_timesteps_span_the_schedule():
    schedule = NoiseSchedule.from_alphas_cumprod(ALPHAS)
    assert ddim_timesteps(schedule, 1) == [999]
    assert ddim_timesteps(schedule, 4) == [999, 666, 333, 0]
    assert ddim_timesteps(schedule, 1000) == list(range(999, -1, -1))


@pytest.mark.parametrize("space", ["pixel", "feature"])
def test_samples_of_a_perfect_memory_give_its_members_away(space, population):
    means, images = population
    members = images[:15]
    memory = training_set_denoiser(members.double() * 2 - 1)
    asked, labels = images[:60], np.repeat([1, 0], [15, 45])
    options = {"samples": 150, "steps": 8, "space": space}
    found = scores("nearest-generated", memory, asked, **options)[:, 0]
    assert auc(found, labels) > 0.95
    # A training image that was generated lies (nearly) at distance 0, and scores highest.
    assert found[labels == 1].max() > -1e-3 > found[labels == 0].max()
    knows_nothing = gaussian_mixture_denoiser(means, 0.1)
    assert_chance(scores("nearest-generated", knows_nothing, images, **options)[:, 0], is_member)


def test_distances_to_the_nearest_neighbours_are_euclidean():
    rng = np.random.default_rng(6)
    images, generated = (rng.integers(0, 256, (n, 8, 8), dtype=np.uint8) for n in (5, 9))
    expected = np.sqrt((((images[:, None] / 255.0) - generated[None] / 255.0) ** 2).sum((2, 3)))
    for k in (1, 3, 9):
        found = scores("nearest-generated", halving(), images, generated=generated, neighbours=k)
        np.testing.assert_allclose(found[:, 0], -np.sort(expected, axis=1)[:, :k].mean(1), rtol=1e-6)


def test_images_generated_elsewhere_take_the_place_of_samples(tmp_path):
    rng = np.random.default_rng(7)
    images, generated = (rng.integers(0, 256, (n, 8, 8), dtype=np.uint8) for n in (4, 6))
    generated[2] = images[1]
    for i, image in enumerate(generated):
        Image.fromarray(image).save(tmp_path / f"{i}.png")

    def never(x, t):
        raise AssertionError("the model was queried")

    model = wrap_denoiser(never, ALPHAS, sample_shape=(1, 8, 8))
    table = get_attack("nearest-generated", generated=generated).score(model, images, progress=False)
    assert table.scores[1, 0] == 0 > np.delete(table.scores[:, 0], 1).max()
    assert table.queries == 0
    folder, listed = (get_attack("nearest-generated", generated=given) for given in (tmp_path, list(generated[::-1])))
    assert folder == listed and hash(folder) == hash(listed) and repr(folder) == repr(listed)
    assert (folder.setup_queries, folder.samples, len(repr(folder)) < 200) == (0, 6, True)
    assert repr(folder) != repr(get_attack("nearest-generated", generated=generated[:5]))
    np.testing.assert_array_equal(folder.score(model, images, progress=False).scores, table.scores)
    with pytest.raises(ImageError, match="doesn't exist"):
        get_attack("nearest-generated", generated=tmp_path / "nowhere")
    with pytest.raises(AttackError, match="more than the 6 generated"):
        replace(folder, neighbours=7)


def test_features_see_what_is_where_past_contrast_and_exact_places(garments):
    """A darker copy, shifted by a pixel, is nearer to its original than to others in feature space, and not in pixel space."""
    images, _ = garments
    changed = torch.roll(images * 0.6, 1, dims=3)
    rank = {}
    for space in ("pixel", "feature"):
        distances = torch.cdist(described(changed, space), described(images, space))
        rank[space] = (distances.argmin(1) == torch.arange(len(images))).float().mean().item()
    assert rank["feature"] > 0.9 > rank["pixel"] + 0.2
    flat = described(torch.zeros(1, 3, 6, 5), "feature")
    assert flat.isfinite().all()


def test_features_are_histograms_of_orientation_and_mean_colours():
    steep, shallow = torch.zeros(2, 1, 1, 16, 16)
    steep[..., 8:] = 1  # an upright edge
    shallow[..., 8:, :] = 1
    for image, orientation in ((steep, 0), (shallow, 4)):
        features = described(image, "feature")
        histograms, colours = features[0, :512].reshape(8, 8, 8), features[0, 512:].reshape(8, 8)
        other = torch.arange(8) != orientation
        assert histograms[orientation].square().sum().item() == pytest.approx(1, abs=1e-5)
        assert histograms[other].abs().max() < 1e-3
        torch.testing.assert_close(colours * 8, image[0, 0].reshape(8, 2, 8, 2).mean((1, 3)))


def test_generating_starts_again_with_fewer_rows_when_memory_runs_out():
    tried = []

    def tight(x, t):
        tried.append(len(x))
        if len(x) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x / 2

    image = np.full((8, 8), 40, np.uint8)
    one = get_attack("nearest-generated", samples=8, steps=2)
    table = one.score(wrap_denoiser(tight, ALPHAS, sample_shape=(1, 8, 8), dtype=torch.float64), image, progress=False)
    assert tried[:3] == [8, 4, 2] and table.queries == 16
    assert table.scores == pytest.approx(one.score(halving(), image, progress=False).scores)


def test_more_steps_than_timesteps_are_refused():
    with pytest.raises(AttackError, match="steps=50 are more than the 12 timesteps"):
        scores("nearest-generated", halving(torch.linspace(0.9, 0.1, 12)), np.zeros((8, 8), np.uint8))
