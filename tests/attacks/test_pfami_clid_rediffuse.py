"""PFAMI, CLiD, ReDiffuse and the row of chance: known answers, literal re-derivations, and what must never change a score."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from support.populations import mixture_images
from support.reference import clid as clid_reference
from support.reference import pfami as pfami_reference
from support.reference import rediffuse as rediffuse_reference

import mia_hub
from mia_hub.attacks import get_attack
from mia_hub.attacks.caption_variants import SwappedCaptions, swapped, without_important_words, word_importance
from mia_hub.attacks.clid import WEIGHTS
from mia_hub.attacks.pfami import centre_crop
from mia_hub.errors import AttackError, ModelError
from mia_hub.images.sources import as_images
from mia_hub.metrics.intervals import delong
from mia_hub.metrics.roc import auc
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import _squared_distances, ddpm_alphas_cumprod, gaussian_mixture_denoiser, training_set_denoiser
from mia_hub.models.noise import SampleNoise
from mia_hub.models.schedule import NoiseSchedule
from mia_hub.splits.member_split import MemberSplit
from mia_hub.splits.partition import calibration_part

N = 60
ALPHAS = ddpm_alphas_cumprod()
is_member = np.repeat([1, 0], N)
THINGS = ("boot", "shirt", "dress", "handbag", "trousers", "sandal")
LOOKS = ("red", "dark", "striped", "velvet", "woollen", "faded", "shiny", "tiny", "torn", "elegant")
PLACES = ("shelf", "window", "mountain", "table", "staircase", "river", "garden", "wall")


@pytest.fixture(scope="module")
def population():
    """3N samples of a Gaussian mixture (members, non-members, others): means, samples in model space, images, captions."""
    rng = np.random.default_rng(0)
    means, kind, images = mixture_images(3 * N)
    looks = [rng.choice(LOOKS, 2, replace=False) for _ in kind]
    captions = [f"a {one} {two} {THINGS[k]} on the {rng.choice(PLACES)}" for k, (one, two) in zip(kind, looks)]
    return means, images.double() * 2 - 1, images, captions


def words_of(captions: list[str]) -> torch.Tensor:
    """Which of the known words a caption has, ``[N, words]`` of length 1 (0 for the empty caption)."""
    known = (*THINGS, *LOOKS, *PLACES)
    bags = torch.tensor([[float(word in caption.split()) for word in known] for caption in captions], dtype=torch.float64)
    return bags / bags.norm(dim=1, keepdim=True).clamp(min=1e-9)


def remembered_pairs(x0: torch.Tensor, captions: list[str], strength: float = 10):
    """The perfect memory of images with captions: the optimal denoiser where p(x0_i | c) ∝ exp(strength · similarity of c and c_i).

    Its posterior mean weighs sample i by that and by the Gaussian likelihood of x_t, as in `training_set_denoiser`, which it is for c = "".
    """
    schedule, samples, own = NoiseSchedule.from_alphas_cumprod(ALPHAS), x0.flatten(1), words_of(captions)

    def epsilon(x, t, cond):
        flat = x.flatten(1)
        signal, noise = schedule.signal(t, flat), schedule.noise(t, flat)
        weights = torch.softmax(-_squared_distances(flat, samples, signal) / (2 * noise**2) + strength * cond @ own.T, dim=1)
        return ((flat - signal * (weights @ samples)) / noise).reshape(x.shape)

    return wrap_denoiser(epsilon, ALPHAS, sample_shape=tuple(x0.shape[1:]), name="memory", dtype=torch.float64, condition=words_of)


@pytest.fixture(scope="module")
def memory(population):
    _, samples, _, captions = population
    return training_set_denoiser(samples[:N]), remembered_pairs(samples[:N], captions[:N])


def score(attack, model, images, **options):
    return attack.score(model, images, progress=False, **options)


def as_eps(model):
    """A model as the references query it: flat lists of floats."""

    def eps(x, t, *caption):
        row = torch.tensor(x, dtype=torch.float64).reshape(1, *model.info.sample_shape)
        return model.predict_noise(row, torch.tensor([t]), *(model.condition(list(caption)) for _ in caption)).flatten().tolist()

    return eps


def drawn(image, t, k=0, seed=0):
    return SampleNoise([image.id], (1, 8, 8), seed, dtype=torch.float64)(t, k).flatten().tolist()


# Known answers -------------------------------------------------------------------------------------------------------------------------


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


def test_clid_knows_the_pairs_that_a_perfect_memory_was_given(population, memory):
    """The captions come from one and the same recipe, so that they alone tell nothing; the model's memory of the pairs does.

    With a caption that isn't the image's own, or none, nothing is left: the source of captions decides.
    """
    _, _, images, captions = population
    images, captions = images[: 2 * N], captions[: 2 * N]
    attack = get_attack("clid")
    table = score(attack, memory[1], images, captions=captions, is_member=is_member)
    assert auc(table.scores[:, 0], is_member) > 0.9
    for column in attack.observe(memory[1], images, captions=captions, is_member=is_member, progress=False).values.T:
        assert delong(column, is_member, confidence=0.999)[0] > 0.5  # both parts are larger for members
    for source, given in (("empty", captions), ("swapped", swapped(captions))):
        other = score(get_attack("clid", captions=source), memory[1], images, captions=given, is_member=is_member)
        low, high = delong(other.scores[:, 0], is_member, confidence=0.999)
        assert low < 0.5 < high


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


# Literal re-derivations ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["relative", "difference"])
def test_pfami_is_its_definition(form, population):
    means, _, images, _ = population
    model = gaussian_mixture_denoiser(means, 0.1)
    attack = get_attack("pfami", timesteps=(0, 50, 200), crops=4, form=form)
    table = score(attack, model, images[:3], seed=3)
    for i, image in enumerate(as_images(images[:3])):
        draws = {t: drawn(image, t, seed=3) for t in attack.timesteps}
        sides = (0.95, 0.95 - 0.25 / 3, 0.95 - 0.5 / 3, 0.70)
        rows = image.pixels[..., 0].astype(float).tolist()
        expected = pfami_reference.pfami(rows, attack.timesteps, sides, as_eps(model), ALPHAS.tolist(), draws, form)
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


@pytest.fixture(scope="module")
def clid_seen(population, memory):
    """What CLiD saw of members and non-members, with seed 3."""
    _, _, images, captions = population
    attack = get_attack("clid", timesteps=(300, 450), reductions=(0.3, 0.7))
    options = {"captions": captions[: 2 * N], "is_member": is_member, "seed": 3, "progress": False}
    return attack, attack.observe(memory[1], images[: 2 * N], **options), attack.score(memory[1], images[: 2 * N], **options)


def test_clids_features_are_their_definition(clid_seen, population, memory):
    _, _, images, captions = population
    attack, seen, _ = clid_seen
    for i in (0, 1, N, N + 1):
        image = as_images(images[i : i + 1])[0]
        words = captions[i].split()
        order = sorted(range(7), key=lambda j, words=words: (words[j] in ("a", "on", "the"), -len(words[j]), j))
        reduced = [" ".join(words[j] for j in range(7) if j not in order[:count]) for count in (2, 5)]  # 30 and 70 % of 7 words
        x0 = (2 * image.pixels.astype(float) - 1).flatten().tolist()
        draws = {t: drawn(image, t, seed=3) for t in attack.timesteps}
        expected = clid_reference.clid(x0, captions[i], [*reduced, ""], attack.timesteps, as_eps(memory[1]), ALPHAS.tolist(), draws)
        assert seen.values[i] == pytest.approx(expected, rel=1e-9)


def test_clid_learns_scale_and_weight_from_the_calibration_part_alone(clid_seen):
    attack, seen, table = clid_seen
    calibration = calibration_part(seen.ids, is_member, seed=3)
    known, labels = seen.values[calibration].tolist(), is_member[calibration]
    a = clid_reference.best_weight(known, labels, WEIGHTS)
    columns = list(zip(*known))
    for i in np.flatnonzero(~calibration):
        loss, rise = (clid_reference.scaled(value, column) for value, column in zip(seen.values[i], columns))
        assert table.scores[i, 0] == pytest.approx((1 - a) * loss + a * rise, rel=1e-9)
    # Whatever stands outside it can't move what is inside, nor, but for its own score, what is outside.
    changed = seen.values.copy()
    row = np.flatnonzero(~calibration)[0]
    changed[row] = 1e9
    again = attack.conclude(changed, seen.ids, is_member, 3)
    np.testing.assert_array_equal(np.delete(again, row, axis=0), np.delete(table.scores, row, axis=0))
    # An image inside is scored without its own part of it.
    row = np.flatnonzero(calibration)[0]
    assert attack.learn(seen.values[calibration], labels, 3)(seen.values[row : row + 1]).item() != table.scores[row, 0]


@pytest.mark.parametrize(("informative", "low", "high"), [(0, 0, 0.2), (1, 0.8, 1)])
def test_clids_weight_goes_to_the_part_that_tells(informative, low, high):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 2)) * (1000, 3) + (5, -7)
    labels = np.repeat([1, 0], 200)
    features[:200, informative] += (2000, 6)[informative]
    scorer = get_attack("clid").learn(features, labels, 0)
    assert low <= scorer.a <= high
    reached = [auc(replace(scorer, a=a)(features)[:, 0], labels) for a in WEIGHTS]
    assert auc(scorer(features)[:, 0], labels) == max(reached) > 0.9
    # A feature that is the same for all images has no scale, and no part in the score.
    features[:, 1] = 0
    assert np.isfinite(get_attack("clid").learn(features, labels, 0)(features)).all()


def test_clid_refuses_what_it_was_fitted_on(population, memory):
    _, _, images, captions = population
    fitting = [*range(N // 2), *range(N, N + N // 2)]
    rest = [i for i in range(2 * N) if i not in fitting]
    some = {"captions": [captions[i] for i in fitting], "progress": False}
    attack = get_attack("clid", timesteps=(450,))
    fitted = attack.fit(memory[1], images[fitting], is_member[fitting], **some)
    with pytest.raises(AttackError, match=r"60 of these images are among those that the attack 'clid' was fitted on"):
        fitted.score(memory[1], images[fitting], **some)
    table = score(fitted, memory[1], images[rest], captions=[captions[i] for i in rest])
    assert auc(table.scores[:, 0], is_member[rest]) > 0.9
    features = attack.observe(memory[1], images[fitting], is_member=is_member[fitting], **some).values
    assert repr(fitted.scorer) == repr(attack.learn(features, is_member[fitting], 0))


def test_what_is_made_of_an_attack_that_ignores_captions_says_that_it_asked_without(population, memory):
    _, _, images, captions = population
    fitting, rest = [*range(20), *range(N, N + 20)], [*range(20, 40), *range(N + 20, N + 40)]
    fitted_on, asked = ({"captions": [captions[i] for i in rows]} for rows in (fitting, rest))
    told, untold = (get_attack("clid", timesteps=(450,), captions=source) for source in ("ground-truth", "empty"))
    fits = [attack.fit(memory[1], images[fitting], is_member[fitting], progress=False, **fitted_on) for attack in (told, untold)]
    combined = [get_attack("combine", parts=parts) for parts in ((untold,), (told, untold))]
    sources = [
        attack.score(memory[1], images[rest], is_member=is_member[rest], progress=False, **asked).captions
        for attack in (told, untold, *fits, *combined)
    ]
    assert sources == ["given", "empty", "given", "empty", "empty", "given"]


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


# What must never change a score --------------------------------------------------------------------------------------------------------

VARIANTS = {
    "pfami": {"timesteps": (0, 60), "crops": 3},
    "pfami difference": {"timesteps": (0, 60), "crops": 3, "form": "difference"},
    "rediffuse": {"timesteps": (60, 150), "k": 50, "variations": 3},
    "rediffuse service": {"variation": darker, "variations": 2},
    "random": {},
    "clid": {"timesteps": (440, 460)},
    "clid empty": {"timesteps": (440, 460), "captions": "empty"},
    "clid swapped": {"timesteps": (440, 460), "captions": "swapped", "reductions": ()},
}
QUERIES = {"pfami": 8, "pfami difference": 8, "rediffuse": 15, "rediffuse service": 0, "random": 0}
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


# Captions ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caption", "share", "left"),
    [
        ("a red boot on the windowsill", 0.3, "a red on the"),  # 1.8 of 6 words, so 2
        ("a red boot on the windowsill", 0.5, "a on the"),
        ("a red boot on the windowsill", 0.7, "on the"),  # of stop words the first goes first
        ("Two cats", 0.3, "Two"),  # at least one
        ("boot", 0.3, ""),
        ("The, boot's heel!", 0.5, "The,"),  # 1.5 of 3, so 2
        ("", 0.5, ""),
        ("   ", 0.5, ""),
    ],
)
def test_captions_lose_their_most_important_words(caption, share, left):
    assert without_important_words(caption, share) == left


def test_importance_may_come_from_elsewhere():
    assert word_importance(["the", "Boot", "of", "x-ray!"]) == [0, 4, 0, 4]
    assert without_important_words("one two three four", 0.5, lambda words: range(len(words))) == "one two"
    for wrong in (lambda words: [1], lambda words: [float("nan")] * len(words)):
        with pytest.raises(AttackError, match="one finite number per word"):
            without_important_words("one two three", 0.5, wrong)


def test_swapped_captions_are_anothers_and_each_is_used_as_often(population):
    captions = population[3]
    for given in (captions, ["a", "a", "b", "b", "c"], ["a", "b"], ["a", "a", "b", "c"]):
        exchanged = swapped(given)
        assert isinstance(exchanged, SwappedCaptions)
        assert sorted(exchanged) == sorted(given)
        assert all(own != other for own, other in zip(given, exchanged))
    different = [f"caption {i}" for i in range(50)]
    order = np.random.default_rng(0).permutation(50)
    assert [swapped(different)[i] for i in order] == list(swapped([different[i] for i in order]))
    assert swapped(different) == swapped(different) != swapped(different, seed=1)
    with pytest.raises(AttackError, match=r"3 of 5 captions are 'a'"):
        swapped(["a", "a", "a", "b", "c"])
    with pytest.raises(AttackError, match="no captions"):
        swapped([])


def test_sources_of_captions_stand_side_by_side_in_reports(population, memory):
    _, _, images, captions = population
    captions = captions[: 2 * N]
    split = MemberSplit("pairs", as_images(images[:N]), as_images(images[N : 2 * N]), captions)
    reports = {}
    for source, given in (("ground-truth", captions), ("empty", captions), ("swapped", swapped(captions))):
        attack = get_attack("clid", captions=source)
        reports[source] = mia_hub.audit(memory[1], attack, replace(split, captions=given), shift_check=False, progress=False)
        assert f"captions={source!r}" in reports[source].attack
    assert reports["ground-truth"].auc.value > 0.85
    assert max(reports[source].auc.value for source in ("empty", "swapped")) < 0.75


# Refusals ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters", "says"),
    [
        ("pfami", {"crops": 0}, "crops must be an integer ≥ 1"),
        ("pfami", {"crops": 2.5}, "crops must be an integer"),
        ("pfami", {"form": "ratio"}, "'relative', 'difference'"),
        ("pfami", {"timesteps": ()}, "one or more different integers"),
        ("rediffuse", {"k": 0}, "stride of the DDIM steps, must be an integer ≥ 1"),
        ("rediffuse", {"variations": 0}, "variations must be an integer ≥ 1"),
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
        ("rediffuse", ends_in_noise, {}, "which has signal from 0 to 98: choose timesteps up to 98"),
    ):
        name, *source = name.split()
        parameters = {"captions": source[0]} if source else {"timesteps": (99,)} if model is ends_in_noise else {}
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
