"""PFAMI, CLiD, ReDiffuse and the row of chance: known answers, what must never change a score, refusals."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from support.captioned_memory import ALPHAS, N, as_eps, drawn, is_member, memories_of, population_of_three_parts, score
from support.captioned_population import remembered_pairs, words_of
from support.reference import pfami as pfami_reference
from support.reference import rediffuse as rediffuse_reference
from support.reference import ssim as ssim_reference

from mia_hub.attacks import get_attack
from mia_hub.attacks.caption_variants import swapped
from mia_hub.attacks.pfami import centre_crop
from mia_hub.errors import AttackError, ModelError
from mia_hub.images.sources import as_images
from mia_hub.metrics.intervals import delong
from mia_hub.metrics.roc import auc
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import gaussian_mixture_denoiser, training_set_denoiser
from mia_hub.splits.partition import calibration_part


@pytest.fixture(scope="module")
def population():
    return population_of_three_parts()


@pytest.fixture(scope="module")
def memory(population):
    return memories_of(population)


def test_pfami_knows_a_perfect_memorys_members(population, memory):
    """By theory: a member's loss is 0 there, and that of its crops is not, so the relative fall is without bound."""
    _, _, images, _ = population
    table = score(get_attack("pfami"), memory[0], images[: 2 * N])
    assert auc(table.scores[:, 0], is_member) == 1.0
    assert table.scores[:N].min() > 1e20 > table.scores[N:].max()


def test_pfamis_difference_is_what_nearest_neighbours_say_and_so_falls_short(population):
    """On a perfect memory, as noise vanishes, L_t(x) = ᾱ_t/(1-ᾱ_t)·‖x - nearest sample‖²: a non-member's own loss must stand out from how
    far crops stray, which differs between images by more. So the unnormalised form can't reach 1; the relative one divides by it."""
    _, samples, images, _ = population
    alpha = 1 - 1e-10
    model = training_set_denoiser(samples[:N], torch.tensor([alpha], dtype=torch.float64))
    table = score(get_attack("pfami", timesteps=(0,), form="difference"), model, images[: 2 * N])

    def squared_distance(x):
        return ((x.flatten(1)[:, None] - samples[:N].flatten(1)) ** 2).sum(2).min(1).values

    crops = [centre_crop(images[: 2 * N].double(), side) * 2 - 1 for side in np.linspace(0.95, 0.70, 10)]
    fall = squared_distance(samples[: 2 * N]) - sum(squared_distance(crop) for crop in crops) / 10
    expected = -alpha / (1 - alpha) * fall.numpy()
    np.testing.assert_allclose(table.scores[:, 0], expected, rtol=1e-6)
    assert 0.7 < auc(table.scores[:, 0], is_member) < 0.99


def test_rediffuse_knows_members_while_their_variations_come_back(population, memory):
    """At t = 20 noise leaves each sample nearest to itself; the more noise, the more of its neighbours share in its variations."""
    _, _, images, _ = population
    table = score(get_attack("rediffuse", timesteps=(20, 200, 400)), memory[0], images[: 2 * N])
    reached = [auc(column, is_member) for column in table.scores.T]
    assert reached[0] == 1.0 > reached[1] > 0.8 > reached[2]
    assert table.scores[:N, 0].min() > -1e-6


@pytest.mark.parametrize("name", ["pfami", "pfami difference", "rediffuse", "random", "clid"])
def test_held_out_against_held_out_is_chance(name, population):
    means, samples, images, captions = population
    knows_nothing, options = gaussian_mixture_denoiser(means, 0.1), {}
    if name == "clid":  # it remembers the others
        knows_nothing = remembered_pairs(samples[2 * N :], captions[2 * N :])
        options = {"captions": captions[: 2 * N], "is_member": is_member}
    attack = get_attack("pfami", form="difference") if name == "pfami difference" else get_attack(name)
    table = score(attack, knows_nothing, images[: 2 * N], **options)
    low, high = delong(table.scores[:, 0], is_member, confidence=0.999)
    assert low < 0.5 < high


@pytest.mark.parametrize(("variant", "whole"), [("ours", round), ("authors", int)])
@pytest.mark.parametrize("form", ["relative", "difference", "stat"])
def test_pfami_is_its_definition(form, variant, whole, population):
    means, _, images, _ = population
    model = gaussian_mixture_denoiser(means, 0.1)
    attack = get_attack("pfami", timesteps=(0, 50, 200), crops=7 if form == "stat" else 4, form=form, variant=variant)
    table = score(attack, model, images[:3], seed=3)
    for i, image in enumerate(as_images(images[:3])):
        draws = {t: drawn(image, t, seed=3) for t in attack.timesteps}
        # The sixth of seven crops, or all four.
        sides = (0.95 - 0.25 * 5 / 6,) if form == "stat" else (0.95, 0.95 - 0.25 / 3, 0.95 - 0.5 / 3, 0.70)
        rows = image.pixels[..., 0].astype(float).tolist()
        expected = pfami_reference.pfami(rows, attack.timesteps, sides, as_eps(model), ALPHAS.tolist(), draws, form, whole)
        assert table.scores[i, 0] == pytest.approx(-expected, rel=1e-9)


@pytest.mark.parametrize(("height", "width", "side"), [(8, 8, 0.7), (8, 8, 0.95), (28, 20, 0.83), (3, 5, 0.7), (1, 1, 0.7), (2, 9, 0.1)])
def test_a_crop_is_the_enlarged_middle(height, width, side):
    pixels = torch.rand(2, 1, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    cropped = centre_crop(pixels, side)
    expected = np.array([pfami_reference.crop(image[0].tolist(), side) for image in pixels])
    np.testing.assert_allclose(cropped[:, 0].numpy(), expected, rtol=0, atol=1e-12)
    # An antialiased filter is the same one when it enlarges.
    size = [max(1, round(side * length)) for length in (height, width)]
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    middle = pixels[..., top : top + size[0], left : left + size[1]]
    antialiased = torch.nn.functional.interpolate(middle, size=(height, width), mode="bilinear", align_corners=False, antialias=True)
    np.testing.assert_allclose(cropped.numpy(), antialiased.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("k", "chains"), [(100, [[250, 150, 50], [300, 200, 100]]), (250, [[250], [300, 50]]), (999, [[250], [300]])])
def test_rediffuse_is_its_definition(k, chains, population):
    _, samples, images, _ = population
    model = training_set_denoiser(samples[:N])
    attack = get_attack("rediffuse", timesteps=(250, 300), k=k, variations=3)
    assert [attack.chain(t) for t in attack.timesteps] == chains
    table = score(attack, model, images[N : N + 3], seed=3)
    assert table.queries == 3 * attack.queries_per_image == 3 * 3 * sum(map(len, chains))
    for i, image in enumerate(as_images(images[N : N + 3])):
        x0 = (2 * image.pixels.astype(float) - 1).flatten().tolist()
        for j, t in enumerate(attack.timesteps):
            made = [rediffuse_reference.variation(x0, t, k, as_eps(model), ALPHAS.tolist(), drawn(image, t, n, 3)) for n in range(3)]
            assert table.scores[i, j] == pytest.approx(-rediffuse_reference.distance_to_mean(x0, made), rel=1e-9)


def test_the_authors_last_step_and_their_similarity_are_their_definitions(population):
    _, samples, images, _ = population
    model, x0s = (
        training_set_denoiser(samples[:N]),
        [(2 * image.pixels.astype(float) - 1)[..., 0] for image in as_images(images[N : N + 3])],
    )
    forms = {"distance": {}, "ssim": {"decision": "ssim"}}
    attacks = {name: get_attack("rediffuse", timesteps=(200, 300), variations=3, variant="authors", **form) for name, form in forms.items()}
    tables = {name: score(attack, model, images[N : N + 3], seed=3).scores for name, attack in attacks.items()}
    maps = get_attack("rediffuse-nns", timesteps=(300,), variations=3, variant="authors")
    seen = maps.observe(model, images[N : N + 3], seed=3, progress=False)
    assert seen.queries == 3 * maps.queries_per_image == 3 * 3 * 3
    for i, (image, x0) in enumerate(zip(as_images(images[N : N + 3]), x0s)):
        for j, t in enumerate((200, 300)):
            draws = [drawn(image, t, n, 3) for n in range(3)]
            made = [rediffuse_reference.variation(x0.ravel().tolist(), t, 100, as_eps(model), ALPHAS.tolist(), e, True) for e in draws]
            assert tables["distance"][i, j] == pytest.approx(-rediffuse_reference.distance_to_mean(x0.ravel().tolist(), made), rel=1e-9)
            mean = np.mean(made, axis=0).reshape(8, 8)
            pixels = np.clip(mean / 2 + 0.5, 0, 1).tolist()
            assert tables["ssim"][i, j] == pytest.approx(ssim_reference.ssim((x0 / 2 + 0.5).tolist(), pixels) - 1, rel=1e-6)
        np.testing.assert_allclose(seen.values[i, 0], np.abs(x0 - mean), rtol=1e-5, atol=1e-7)


def test_rediffuses_similarity_and_network_know_members(population, memory):
    _, _, images, _ = population
    alike = score(get_attack("rediffuse", timesteps=(20,), decision="ssim"), memory[0], images[: 2 * N])
    assert auc(alike.scores[:, 0], is_member) == 1.0
    judged = score(get_attack("rediffuse-nns", timesteps=(20,), variations=3), memory[0], images[: 2 * N], is_member=is_member)
    outside = ~calibration_part(judged.ids, is_member)
    assert auc(judged.scores[outside, 0], is_member[outside]) > 0.95


def darker(pixels, draw):
    """An image-variation service."""
    return pixels * (0.9 - 0.1 * draw)


def test_rediffuse_asks_a_service_and_spares_the_model(population):
    _, _, images, _ = population

    def never(x, t):
        raise AssertionError("the model was queried")

    model = wrap_denoiser(never, ALPHAS, sample_shape=(1, 8, 8), dtype=torch.float64)
    attack = get_attack("rediffuse", variation=darker, variations=4)
    table = score(attack, model, images[:5], batch_size=2)
    assert attack.queries_per_image == table.queries == 0
    for i, image in enumerate(as_images(images[:5])):
        pixels = image.pixels.astype(float).flatten()
        variations = [(2 * pixels * share - 1).tolist() for share in (0.9, 0.8, 0.7, 0.6)]
        expected = rediffuse_reference.distance_to_mean((2 * pixels - 1).tolist(), variations)
        assert table.scores[i, 0] == pytest.approx(-expected, rel=1e-9)


def test_chance_is_standard_normal_and_knows_only_seed_and_content():
    images = np.random.default_rng(0).integers(0, 256, (1000, 8, 8), dtype=np.uint8)
    model = wrap_denoiser(lambda x, t: x, ALPHAS, sample_shape=(1, 8, 8))
    attack = get_attack("random")
    table, other = (score(attack, model, images, seed=seed) for seed in (0, 1))
    assert table.scores.shape == (1000, 1) and table.queries == 0
    values = table.scores[:, 0]
    assert abs(values.mean()) < 4 / 1000**0.5 and abs(values.std() - 1) < 4 / 2000**0.5
    assert abs(np.corrcoef(values, other.scores[:, 0])[0, 1]) < 4 / 1000**0.5
    assert len(set(values)) == 1000
    np.testing.assert_array_equal(score(attack, model, images[::-1], batch_size=7).scores[::-1, 0], values)
    # It shares no number with the noise that other attacks draw with the same seed.
    first = [drawn(image, 0)[0] for image in as_images(images)]
    assert abs(np.corrcoef(values, first)[0, 1]) < 4 / 1000**0.5


VARIANTS = {
    "pfami": {"timesteps": (0, 60), "crops": 3},
    "pfami difference": {"timesteps": (0, 60), "crops": 3, "form": "difference"},
    "pfami authors": {"timesteps": (0, 60), "crops": 7, "form": "stat", "variant": "authors"},
    "rediffuse": {"timesteps": (60, 150), "k": 50, "variations": 3},
    "rediffuse authors": {"timesteps": (50, 150), "k": 50, "variations": 3, "variant": "authors"},
    "rediffuse ssim": {"timesteps": (60, 150), "k": 50, "variations": 3, "decision": "ssim"},
    "rediffuse service": {"variation": darker, "variations": 2},
    "random": {},
    "clid": {"timesteps": (440, 460)},
    "clid empty": {"timesteps": (440, 460), "captions": "empty"},
    "clid swapped": {"timesteps": (440, 460), "captions": "swapped", "reductions": ()},
}
QUERIES = {
    "pfami authors": 4,
    "rediffuse authors": 12,
    "rediffuse ssim": 15,
    "pfami": 8,
    "pfami difference": 8,
    "rediffuse": 15,
    "rediffuse service": 0,
    "random": 0,
}
QUERIES |= {"clid": 10, "clid empty": 2, "clid swapped": 4}


class Captioned(torch.nn.Module):
    """A small random network in float32 that sees the image, the timestep and the caption."""

    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.SiLU(), torch.nn.Conv2d(16, 3, 3, padding=1))
        self.rows, self.most = 0, 0

    def forward(self, x, t, cond=None):
        self.rows, self.most = self.rows + len(x), max(self.most, len(x))
        shift = (t / 1000).reshape(-1, 1, 1, 1) if cond is None else cond.sum(1).reshape(-1, 1, 1, 1).float()
        return self.body(x + shift)


def small_model(variant: str):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Captioned()
    condition = words_of if "clid" in variant else None
    return wrap_denoiser(network, ALPHAS, sample_shape=(3, 8, 8), condition=condition), network


@pytest.mark.parametrize("variant", VARIANTS)
def test_batch_size_order_and_company_never_change_a_score_and_queries_are_as_declared(variant, population):
    captions = population[3]
    model, network = small_model(variant)
    attack = get_attack(variant.split()[0], **VARIANTS[variant])
    count = 44 if "clid" in variant else 7
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    assert attack.queries_per_image == QUERIES[variant]
    labels = np.arange(count) % 2
    given = swapped(captions[:count]) if "swapped" in variant else captions[:count]

    def scores(order, batch_size):
        network.rows = network.most = 0
        options = {"captions": type(given)(given[i] for i in order), "is_member": labels[order]} if "clid" in variant else {}
        table = score(attack, model, images[order], batch_size=batch_size, **options)
        assert network.rows == table.queries == attack.queries_per_image * count
        assert network.most <= batch_size
        return table.scores[np.argsort(order)]

    forwards = np.arange(count)
    alone = scores(forwards, 1)
    # PFAMI and CLiD are small differences of losses that float32 knows to some 1e-7 of themselves: what is left is judged by the spread.
    tolerance = {"rtol": 1e-5, "atol": 1e-5 * alone.std()}
    for batch_size in (2, 3, 64):
        np.testing.assert_allclose(scores(forwards, batch_size), alone, **tolerance)
    np.testing.assert_allclose(scores(forwards[::-1], 3), alone, **tolerance)
    np.testing.assert_allclose(scores(np.random.default_rng(1).permutation(count), 5), alone, **tolerance)


def test_default_queries():
    assert {name: get_attack(name).queries_per_image for name in ("pfami", "clid", "rediffuse", "random")} == {
        "pfami": 110,
        "clid": 15,
        "rediffuse": 20,
        "random": 0,
    }


@pytest.mark.parametrize(
    ("name", "parameters", "says"),
    [
        ("pfami", {"crops": 0}, "crops must be an integer ≥ 1"),
        ("pfami", {"crops": 2.5}, "crops must be an integer"),
        ("pfami", {"form": "ratio"}, "'relative', 'difference', 'stat'"),
        ("pfami", {"form": "stat", "crops": 5}, "reads the sixth crop, and crops=5 makes fewer; set crops=10"),
        ("pfami", {"timesteps": ()}, "one or more different integers"),
        ("rediffuse", {"k": 0}, "stride of the DDIM steps, must be an integer ≥ 1"),
        ("rediffuse", {"variations": 0}, "variations must be an integer ≥ 1"),
        ("rediffuse", {"decision": "network"}, "decision must be one of 'distance', 'ssim'; got 'network'"),
        ("rediffuse", {"variant": "authors", "timesteps": (200, 250)}, "k=100 don't reach from 250; set timesteps to multiples of k"),
        ("rediffuse-nns", {"timesteps": (100, 200)}, "reads the maps of one timestep"),
        ("rediffuse", {"variation": "blur"}, "variation must be a function"),
        ("rediffuse", {"variation": darker, "timesteps": (100, 200)}, "makes one score"),
        ("clid", {"captions": "guessed"}, "'ground-truth', 'empty', 'swapped'"),
        ("clid", {"reductions": (0.5, 0.3)}, "increasing"),
        ("clid", {"reductions": (0.5, 1)}, r"in \(0, 1\)"),
        ("clid", {"reductions": "half"}, r"in \(0, 1\)"),
        ("clid", {"importance": "attention"}, "importance must be a function"),
        ("random", {"timesteps": (0.5,)}, "must be integers"),
    ],
)
def test_parameters_that_cannot_be_are_refused(name, parameters, says):
    with pytest.raises(AttackError, match=says):
        get_attack(name, **parameters)


def test_refusals_come_before_the_model_is_queried():
    def never(x, t, cond=None):
        raise AssertionError("the model was queried")

    unconditional = wrap_denoiser(never, ALPHAS, sample_shape=(1, 8, 8))
    conditional = wrap_denoiser(never, ALPHAS, sample_shape=(1, 8, 8), condition=words_of)
    small = wrap_denoiser(never, ALPHAS, sample_shape=(1, 6, 9))
    ends_in_noise = wrap_denoiser(never, torch.linspace(0.9, 0, 100), sample_shape=(1, 8, 8))
    images, texts = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8), [f"{i}" for i in range(40)]
    known = {"is_member": np.arange(40) % 2}
    for name, model, options, says in (
        ("clid", unconditional, {"captions": texts} | known, "isn't conditioned on text"),
        ("clid", conditional, known, r"needs the images' captions; give captions=\[…\]"),
        ("clid", conditional, {"captions": texts}, "is fitted on known members and non-members"),
        ("clid", conditional, {"captions": texts[:5]} | known, "5 entries for 40 images"),
        ("clid", conditional, {"captions": [*texts[:-1], None]} | known, "must be text; got None"),
        ("clid", conditional, {"captions": swapped(texts)} | known, "would call them ground truth"),
        ("clid swapped", conditional, {"captions": texts} | known, r"needs swapped captions; make them with .*swapped\(captions\)"),
        ("rediffuse ssim", small, {}, "compares windows of 7x7 pixels, and the images of custom have 6x9; set decision='distance'"),
        ("rediffuse", ends_in_noise, {}, "which has signal from 0 to 98: choose timesteps up to 98"),
    ):
        name, *source = name.split()
        parameters = {"decision" if model is small else "captions": source[0]} if source else {}
        parameters |= {"timesteps": (99,)} if model is ends_in_noise else {}
        with pytest.raises(AttackError, match=says):
            score(get_attack(name, **parameters), model, images, **options)
    with pytest.raises(ModelError, match="takes no captions"):
        score(get_attack("pfami"), unconditional, images, captions=texts)


@pytest.mark.parametrize(
    ("variation", "says"),
    [
        (lambda pixels, draw: pixels[:, :, ::2], r"a tensor of its input's shape, \(1, 1, 8, 8\); got \(1, 1, 4, 8\)"),
        (lambda pixels, draw: None, "got NoneType"),
        (lambda pixels, draw: pixels * 2 - 1, r"pixels in \[0, 1\]; got -1 to"),
        (lambda pixels, draw: (pixels * 255).to(torch.uint8), r"pixels in \[0, 1\]; got 0 to 63 in uint8"),
    ],
)
def test_a_service_that_returns_something_else_is_refused(variation, says):
    model = wrap_denoiser(lambda x, t: x, ALPHAS, sample_shape=(1, 8, 8))
    with pytest.raises(AttackError, match=says):
        score(get_attack("rediffuse", variation=variation), model, np.arange(64, dtype=np.uint8).reshape(8, 8))


def test_an_attacks_identity_names_its_function_and_not_its_address():
    assert repr(get_attack("rediffuse", variation=darker)) == (
        "ReDiffuse(timesteps=(200,), k=100, variations=10, variation=<function darker>)"
    )
    assert repr(get_attack("rediffuse")) == "ReDiffuse(timesteps=(200,), k=100, variations=10, variation=None)"
    assert "functools.partial(<function darker>, draw=0)" in repr(get_attack("clid", importance=partial(darker, draw=0)))
    assert get_attack("rediffuse", variation=darker) == get_attack("rediffuse", variation=darker) != get_attack("rediffuse")
