"""The demo's stored reference: what would be computed, p-values that hold, and no other model's."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

import mia_hub
from mia_hub.auditing.measurement import measure
from mia_hub.checking.checker import Checker
from mia_hub.checking.checks import get_checker
from mia_hub.defaults import VERDICT_ATTACK
from mia_hub.images.features import blind_features_of
from mia_hub.metrics.expected_statistic import ExpectedStatistic
from mia_hub.metrics.p_values import ALPHA
from mia_hub.references.comparability import Comparability
from mia_hub.references.demo_reference import DEMO_OBSERVATIONS, DEMO_PROFILES, demo_nonmembers, demo_reference, read_observations
from mia_hub.scores import ScoreTable


def test_demo_answers():
    """A photograph is not comparable; most known members have small p-values."""
    checker = get_checker("demo")
    photo = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    answer = checker.check(photo, progress=False)[0]
    assert (answer.comparable, answer.p_value, answer.verdict) == (False, None, "not-comparable")
    assert "scaled from 400×300" in answer.notes[0]
    reference = demo_reference()
    assert (len(reference.null), reference.n_nonmembers, reference.calibration) == (20_000, 22_000, "conditional")
    p = np.array([reference.judge(row).p_value for row in reference.observations[reference.profiles.is_member == 1]])
    assert len(p) == 256 and np.median(p) < 0.01
    assert reference.power.value == (p <= ALPHA).mean() >= 0.6
    assert get_checker("demo") is checker


def test_demo_images_are_judged_by_the_definition_of_a_conformal_p_value():
    """Each with its expected statistic, fitted on the null set and the image; members and non-members, which are left out themselves."""
    reference = replace(demo_reference(), further=None, shared=False)
    null = reference.null
    for row in range(0, len(reference.profiles), 45):
        sample, observed = reference.profiles.ids[row], reference.observations[row]
        everyone = np.vstack([null.observed[[known != sample for known in null.ids]], observed])
        scores = -ExpectedStatistic(everyone[:, 1:], everyone[:, 0]).deviation(everyone[:, 1:], everyone[:, 0])
        judged = null.judge(observed, sample)
        assert (judged.score, judged.p_value) == (scores[-1], (scores >= scores[-1]).mean())


@pytest.mark.parametrize("plain", [True, False])
def test_p_values_of_the_demos_other_nonmembers_are_uniform_or_larger(plain):
    """Non-members of the calibration part, against the 2,000 reported ones for the plain attack, and against 20,000 for the other."""
    reference = demo_reference("sima" if plain else VERDICT_ATTACK)
    table = ScoreTable.from_parquet(DEMO_PROFILES)
    observed = table.at(reference.timestep) if plain else read_observations(DEMO_OBSERVATIONS)[1]
    known = set(reference.profiles.ids)
    rows = [row for row, (i, m) in enumerate(zip(table.ids, table.is_member)) if m == 0 and i not in known]
    assert len(rows) == 2000
    judged = [reference.judge(observed[row]) for row in rows[::2]]
    on_average, of_reference = (np.array(p) for p in zip(*((each.p_marginal, each.p_conditional) for each in judged)))
    assert [each.p_value for each in judged] == of_reference.tolist()
    for level in (0.01, 0.05, 0.2, 0.5, 0.8):
        spread = 3 * math.sqrt(level * (1 - level))
        assert (on_average <= level).mean() <= level + spread * math.sqrt(1 / 1000 + 1 / len(reference.null))
        assert (of_reference <= level).mean() <= level + spread * math.sqrt(1 / 1000)


@pytest.mark.parametrize("attack", ["sima", VERDICT_ATTACK])
def test_the_reference_is_of_the_images_that_a_measurement_reports(attack):
    table = ScoreTable.from_parquet(DEMO_PROFILES)
    assert demo_reference(attack).profiles.ids == table.select(measure(table).reported).ids


def test_an_image_of_the_further_nonmembers_is_recognised_and_not_compared_with_itself():
    reference = demo_reference()
    sample = reference.further.ids[7] + 16 * "0"
    observed = reference.further.observations[7].astype(float)
    assert (reference.label_of(sample), reference.label_of("0" * 32), reference.label_of(reference.profiles.ids[0])) == (0, None, 1)
    assert (reference.judge(observed, sample).n, reference.judge(observed).n) == (19_999, 20_000)


@pytest.mark.parametrize("attack", ["sima", "sima-cn", VERDICT_ATTACK])
def test_a_stored_reference_is_what_would_be_computed(attack):
    """What was stored with the demo agrees with the model's answer now."""
    reference = demo_reference(attack)
    checker = get_checker("demo", attack)
    assert checker.reference.attack == reference.attack
    rows = [row for row, m in enumerate(reference.profiles.is_member) if m == 0][:8]
    images = demo_nonmembers()[:8]
    assert [image.id for image in images] == [reference.profiles.ids[row] for row in rows]
    for answer, row in zip(checker.check(images, progress=False), rows):
        judged = reference.judge(reference.observations[row], reference.profiles.ids[row])
        assert answer.score == pytest.approx(judged.score, rel=1e-3, abs=1e-3)
        assert answer.p_value == pytest.approx(judged.p_value, abs=0.01)


def test_the_stored_appearance_is_that_of_the_nonmembers():
    appearance, images = demo_reference().appearance, demo_nonmembers()
    ids, features = appearance.features
    assert len(ids) == len(images) == len(features) == 2000
    rows = range(0, 2000, 10)
    assert [ids[row] for row in rows] == [images[row].id for row in rows]
    assert np.allclose(features[rows], blind_features_of([images[row] for row in rows]), rtol=1e-12, atol=1e-12)
    assert np.mean([appearance.comparability(image) for image in images[:200]]) > 0.97


@pytest.mark.slow
def test_the_stored_comparability_is_what_would_be_fitted():
    stored, fitted = demo_reference().comparability, Comparability.fitted(demo_nonmembers(), (1, 28, 28))
    for image in mia_hub.load_split("demo").members[:50]:
        assert stored.distance(image) == pytest.approx(fitted.distance(image), rel=1e-6)


def test_the_demos_own_nonmembers_serve_the_demo_alone():
    """Queried at another size, or under its name alone, it is another model."""
    image = mia_hub.load_split("demo").nonmembers[0]
    enlarged = mia_hub.load_model("demo", size=56, device="cpu")
    namesake = mia_hub.wrap_denoiser(lambda x, t: x, [0.9] * 300, sample_shape=(1, 28, 28), name="demo")
    for model in (enlarged, namesake):
        assert Checker(model, "sima", progress=False).check([image])[0].p_value is None


@pytest.mark.parametrize(
    "label, note", [(1, "known to be in the training set"), (0, "known not to be in the training set, and was not compared")]
)
def test_the_answer_for_a_known_image_says_that_it_is_known(label, note):
    profiles, split = demo_reference().profiles, mia_hub.load_split("demo")
    known = {sample for sample, own in zip(profiles.ids, profiles.is_member) if own == label}
    image = next(one for one in (split.members if label else split.nonmembers) if one.id in known)
    assert note in mia_hub.check_image(image, progress=False).notes[0]
