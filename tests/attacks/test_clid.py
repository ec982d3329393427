"""CLiD: known answers, features and scores by definition, and sources of captions side by side."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.captioned_memory import ALPHAS, N, as_eps, drawn, is_member, memories_of, population_of_three_parts, score
from support.reference import clid as clid_reference

import mia_hub
from mia_hub.attacks import get_attack
from mia_hub.attacks.caption_variants import swapped
from mia_hub.attacks.clid import WEIGHTS
from mia_hub.errors import AttackError
from mia_hub.images.sources import as_images
from mia_hub.metrics.intervals import delong
from mia_hub.metrics.roc import auc
from mia_hub.splits.member_split import MemberSplit
from mia_hub.splits.partition import calibration_part


@pytest.fixture(scope="module")
def population():
    return population_of_three_parts()


@pytest.fixture(scope="module")
def memory(population):
    return memories_of(population)


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


def test_the_authors_weights_are_tenths_and_of_equal_ones_the_smallest_is_chosen():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(400, 2)), np.repeat([1, 0], 200)
    features[:200] += (0.7, 1.0)
    ours, theirs = (get_attack("clid", variant=variant).learn(features, labels, 0) for variant in ("ours", "authors"))
    reached = {a: auc(replace(theirs, a=a)(features)[:, 0], labels) for a in (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)}
    assert reached[round(theirs.a, 9)] == max(reached.values()) and 0 < theirs.a < 1
    assert auc(ours(features)[:, 0], labels) >= max(reached.values())
    # All weights tie where both parts are alike.
    features[:, 1] = features[:, 0]
    assert [get_attack("clid", variant=variant).learn(features, labels, 0).a for variant in ("ours", "authors")] == [0.5, 0.0]


def test_the_authors_variant_leaves_out_as_many_words_as_the_ceiling(population, memory):
    """30 % of 7 words are 2.1: two by rounding, and three by the ceiling."""
    _, _, images, captions = population
    attack = get_attack("clid", timesteps=(450,), reductions=(0.3,), variant="authors")
    seen = attack.observe(memory[1], images[:1], captions=captions[:1], seed=3, progress=False).values
    words, image = captions[0].split(), as_images(images[:1])[0]
    order = sorted(range(7), key=lambda j: (words[j] in ("a", "on", "the"), -len(words[j]), j))
    reduced = [" ".join(words[j] for j in range(7) if j not in order[:3]), ""]
    x0 = (2 * image.pixels.astype(float) - 1).flatten().tolist()
    expected = clid_reference.clid(x0, captions[0], reduced, (450,), as_eps(memory[1]), ALPHAS.tolist(), {450: drawn(image, 450, seed=3)})
    assert seen[0] == pytest.approx(expected, rel=1e-9)


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
