"""Dataset inference: exact p-values, power, the share of members, and refusals; figures of the demo come from what was stored with it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import kstest, permutation_test, ttest_ind

import mia_hub
from mia_hub.checking.checks import get_checker
from mia_hub.checking.demo_reference import demo_reference
from mia_hub.errors import MetricError
from mia_hub.metrics.set_tests import compare_sets


@pytest.fixture(scope="module")
def demo():
    """What verdicts' attack saw of the demo's reported non-members and members."""
    reference = demo_reference()
    labels = reference.profiles.is_member
    return reference.observations[labels == 0], reference.observations[labels == 1]


def test_thirty_members_are_found(demo):
    null, members = demo
    for seed in range(10):
        rows = np.random.default_rng(seed).permutation(len(members))
        found = compare_sets(members[rows[:30]], null, members[rows[30:]], seed=seed)
        assert found.p_value < 0.001 and found.p_welch < 0.001
        assert found.fraction.low <= 1.0 <= found.fraction.high and found.fraction.value > 0.7
        assert found.more_needed == 0


def test_thirty_nonmembers_give_uniform_p_values(demo):
    null, _ = demo
    rng = np.random.default_rng(0)
    p, welch = [], []
    for repetition in range(200):
        rows = rng.permutation(len(null))
        found = compare_sets(null[rows[:30]], null[rows[30:]], seed=repetition)
        p.append(found.p_value)
        welch.append(found.p_welch)
    assert kstest(p, "uniform").pvalue > 0.01
    assert kstest(welch, "uniform").pvalue > 0.01


@pytest.mark.parametrize("share, size", [(0.0, 100), (0.5, 100), (0.2, 5), (0.8, 5), (0.5, 10)])
def test_the_share_of_members_is_covered_by_its_interval(demo, share, size):
    null, members = demo
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(20):
        m, n = rng.permutation(len(members)), rng.permutation(len(null))
        inside = round(size * share)
        suspects = np.vstack([members[m[:inside]], null[n[: size - inside]]])
        fraction = compare_sets(suspects, null[n[size:]], members[m[inside:]], seed=seed).fraction
        covered += fraction.low <= share <= fraction.high
    assert covered >= 16  # of 20, where 95 % are aimed at: fewer has a chance below 3 in 1,000


def test_without_known_members_the_share_is_a_lower_bound(demo):
    null, members = demo
    found = compare_sets(np.vstack([members[:40], null[:40]]), null[40:]).fraction
    assert found.at_least and found.high == 1.0
    assert 0.1 < found.low < 0.5
    assert found.low <= found.value <= 0.6


def test_more_images_are_needed_for_a_weak_set_and_that_many_suffice(demo):
    null, members = demo
    tried = ((k, compare_sets(np.vstack([members[:k], null[: 20 - k]]), null[500:], seed=3)) for k in range(1, 20))
    k, found = next((k, found) for k, found in tried if found.p_value < 0.2)
    assert found.p_value > 0.01 and found.more_needed > 0
    scale = 1 + found.more_needed / 20
    larger = np.vstack([members[: round(k * scale)], null[: round((20 - k) * scale)]])
    assert compare_sets(larger, null[500:], seed=3).p_value <= 0.01
    # A set that looks less like members than non-members do: no number of such images would do.
    easiest = null[np.argsort(-compare_sets(null[:100], null[100:]).scores)[-20:]]
    assert compare_sets(easiest, null[100:]).more_needed is None


def test_p_values_are_those_of_scipy_on_plain_scores():
    """With plain scores nothing is fitted, so both tests can be compared with an independent implementation."""
    rng = np.random.default_rng(0)
    own, null = rng.normal(0.25, 1, 25), rng.normal(size=300)
    found = compare_sets(own, null)
    own_scaled = found.scores
    centre, spread = np.median(np.concatenate([own, null])), np.subtract(*np.quantile(np.concatenate([own, null]), (0.8413, 0.1587))) / 2
    null_scaled = np.clip((null - centre) / spread, -3, 3)
    np.testing.assert_allclose(own_scaled, np.clip((own - centre) / spread, -3, 3))
    assert found.p_welch == pytest.approx(ttest_ind(own_scaled, null_scaled, equal_var=False, alternative="greater").pvalue, rel=1e-9)
    scipys = permutation_test(
        (own_scaled, null_scaled), lambda a, b, axis: a.mean(axis) - b.mean(axis), alternative="greater", n_resamples=20000, vectorized=True
    )
    assert found.p_value == pytest.approx(scipys.pvalue, abs=0.012)


def test_one_extreme_image_does_not_carry_a_set():
    null = np.random.default_rng(0).normal(size=500)
    own = np.concatenate([np.random.default_rng(1).normal(size=19), [1e6]])
    assert compare_sets(own, null).p_value > 0.05


def test_a_set_too_small_is_refused():
    with pytest.raises(MetricError, match="4 different images are too few"):
        compare_sets(np.zeros(4), np.arange(100.0))


@pytest.fixture(scope="module")
def split():
    return mia_hub.load_split("demo")


def reported(part):
    """Images of the part on which nothing was chosen."""
    ids = set(demo_reference().profiles.ids)
    return [image for image in (part[i] for i in range(120)) if image.id in ids]


def test_check_set_end_to_end(split):
    members = reported(split.members)[:30]
    found = mia_hub.check_set([*members, members[0]], progress=False)
    assert found.verdict == "evidence" and found.p_value < 0.001 and found.n == 30
    assert found.sentence.startswith("Evidence that images of this set were in the training set: as a set, the 30 images look more like")
    assert found.notes == ("1 copy of another image in the set was left out.",)
    assert len(found.scores) == 30
    again = mia_hub.check_set(members[::-1], progress=False)
    assert again.verdict == "evidence"
    assert json.loads(json.dumps(found.to_dict()))["p_value"] == found.p_value


def test_known_nonmembers_in_the_set_are_not_compared_with_themselves(split):
    nonmembers = reported(split.nonmembers)[:20]
    found = mia_hub.check_set(nonmembers, progress=False)
    assert found.n_null == 2000 - 20
    assert "20 of the known non-members are in the set themselves" in found.notes[0]
    assert found.verdict in ("cannot-tell", "evidence")


def test_images_of_another_kind_get_no_verdict(split):
    other = np.random.default_rng(0).integers(0, 256, (30, 28, 28, 3), dtype=np.uint8)
    found = mia_hub.check_set(other, progress=False)
    assert found.verdict == "not-comparable" and found.p_value is None and found.fraction is None
    assert "30 of the 30 images are unlike" in found.sentence


def test_a_set_that_can_be_told_apart_without_the_model_gets_no_verdict(split):
    """Each image passes for itself, and together they are of one kind that the known non-members are not."""
    nonmembers = [split.nonmembers[i] for i in range(600)]
    pixels = np.array([image.pixels for image in nonmembers])
    dark = pixels[np.argsort(pixels.mean(axis=(1, 2, 3)))[:40]]
    found = mia_hub.check_set(dark, progress=False)
    assert found.verdict == "not-comparable"
    assert "blind classifier" in found.sentence


def test_without_known_nonmembers_there_is_no_verdict(tiny_pixel_repo):
    found = mia_hub.check_set(np.random.default_rng(0).random((6, 1, 8, 8)), model=str(tiny_pixel_repo()), progress=False)
    assert found.verdict == "no-null" and found.p_value is None
    assert "Give 99 or more" in found.sentence


def test_fewer_than_five_images_are_refused_before_the_model_is_queried():
    with pytest.raises(MetricError, match="2 different images"):
        get_checker("demo").check_set(np.zeros((2, 28, 28), np.uint8) + np.array([0, 9], np.uint8)[:, None, None])


def test_too_few_nonmembers_are_refused():
    with pytest.raises(MetricError, match="19 known non-members are too few"):
        compare_sets(np.arange(5.0), np.arange(19.0))


def test_nonmembers_that_are_in_the_set_leave_too_few():
    from mia_hub.checking.checker import Checker
    from mia_hub.errors import SplitError

    images = [image.to_pil() for image in mia_hub.load_split("demo").nonmembers[:24]]
    checker = Checker("demo", mia_hub.get_attack("sima", timesteps=(100,)), nonmembers=images[:21], progress=False)
    with pytest.raises(SplitError, match="19 of the known non-members are in the set themselves, and of the others there are only 2"):
        checker.check_set(images[:19])


def test_evidence_needs_no_further_images():
    # A weak but sure difference: of many non-members, with little to spare.
    rng = np.random.default_rng(0)
    for shift in np.linspace(0.2, 1.5, 14):
        found = compare_sets(rng.normal(shift, 1, 30), rng.normal(0, 1, 500))
        assert (found.more_needed == 0) >= (found.p_value <= 0.01)


def test_a_set_says_which_images_it_is_of_and_how_many_files_were_no_images(tmp_path, capsys):
    from mia_hub.cli.parser import main

    part = mia_hub.load_split("demo").members
    for row in range(5):
        part[row].to_pil().save(tmp_path / f"{row}.png")
    (tmp_path / "5.png").write_bytes(b"no image")
    assert main(["check-set", str(tmp_path), "--json", "-", "--quiet"]) == 2
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert [name.rpartition("/")[2] for name in found["names"]] == [f"{row}.png" for row in range(5)]
    assert found["notes"][-1] == "1 file could not be read, and is not part of the set."
