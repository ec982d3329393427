"""Logistic combinations of attacks: a literal re-derivation, honest fits, equal terms."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from support.unsure_memory import SIDE, memory_of, noise_images

import mia_hub
from mia_hub.attacks import get_attack
from mia_hub.attacks.combination import Combination, alone
from mia_hub.attacks.learning import TrainedAttack
from mia_hub.errors import AttackError
from mia_hub.metrics.intervals import delong
from mia_hub.metrics.roc import auc
from mia_hub.scores import ScoreTable
from mia_hub.splits.partition import calibration_part, folds

N = 60
is_member = np.repeat([1, 0], N)
SIMA, MC = get_attack("sima", timesteps=(50, 200)), get_attack("sima-mc", timesteps=(100,), draws=2)


@dataclass(frozen=True, kw_only=True)
class Memoriser(TrainedAttack):
    """Repeats what it was told of an image that it was fitted on, and knows nothing of any other: all overfitting, no skill."""

    timesteps: tuple[int, ...] = (0,)

    name: ClassVar[str] = "memoriser"
    paper: ClassVar[str] = "none"
    access: ClassVar[str] = "white"
    one_score: ClassVar[bool] = True

    @property
    def queries_per_image(self) -> int:
        return 0

    def features(self, model, x0, cond, noise):
        return x0

    def learn(self, features, labels, seed):
        assert features.shape[1:] == (1, SIDE, SIDE), "a part gets its features in the shape in which it gave them"
        told = {row.tobytes(): label for row, label in zip(features, labels)}
        return lambda other: np.array([[told.get(row.tobytes(), 0.5)] for row in other], float)


@pytest.fixture(scope="module")
def images():
    """2N images, the members first."""
    return noise_images(2 * N)


@pytest.fixture(scope="module")
def model(images):
    return memory_of(images[:N])


def score(attack, model, images, labels=is_member, **options) -> ScoreTable:
    return attack.score(model, images, is_member=labels, progress=False, **options)


def newton_log_odds(columns, labels, others):
    """Logistic regression with L2 penalty, C = 1, on columns standardised by the fitted rows, written out; its log-odds of other rows."""
    mean, std = columns.mean(0), columns.std(0)
    x = np.hstack([np.ones((len(columns), 1)), (columns - mean) / std])
    penalty = np.diag([0.0] + [1.0] * columns.shape[1])
    weights = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ weights))
        gradient = x.T @ (p - labels) + penalty @ weights
        weights -= np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + penalty, gradient)
    return np.hstack([np.ones((len(others), 1)), (others - mean) / std]) @ weights


def test_literal_rederivation(model, images):
    """Parts scored one by one; fitted on the calibration part, and on four fifths of it for the fifth."""
    columns = np.hstack([score(part, model, images, seed=2).scores for part in (SIMA, MC)])
    table = score(Combination(parts=(SIMA, MC)), model, images, seed=2)
    calibration = calibration_part(table.ids, is_member, seed=2)
    expected = np.empty(2 * N)
    expected[~calibration] = newton_log_odds(columns[calibration], is_member[calibration], columns[~calibration])
    inside = np.flatnonzero(calibration)
    fold = folds([table.ids[i] for i in inside], is_member[inside], 5, seed=2)
    for k in range(5):
        fit, judged = inside[fold != k], inside[fold == k]
        expected[judged] = newton_log_odds(columns[fit], is_member[fit], columns[judged])
    np.testing.assert_allclose(table.scores[:, 0], expected, rtol=1e-5, atol=1e-7)
    assert (table.scores.dtype, table.scores.shape) == (np.float64, (2 * N, 1))


def test_a_combination_reaches_what_neither_part_does():
    """Two statistics with a common nuisance: their difference tells, neither of them does."""
    rng = np.random.default_rng(1)
    nuisance, told = rng.normal(size=600) * 5, np.repeat([1, 0], 300)
    values = np.stack([nuisance + told * 0.8 + rng.normal(size=600) * 0.3, nuisance + rng.normal(size=600) * 0.3], axis=1)
    one = Combination(parts=(SIMA,))
    rows = np.hstack([np.tile([1.0, 2.0], (600, 1)), values])  # a block of one axis with two entries
    scores = one.conclude(rows, [f"id{i}" for i in range(600)], told, 0)[:, 0]
    reported = ~calibration_part([f"id{i}" for i in range(600)], told, seed=0)
    assert auc(scores[reported], told[reported]) > 0.85  # their difference itself reaches .908
    assert auc(values[reported, 0], told[reported]) < 0.65


@pytest.mark.parametrize(
    "parts",
    [
        (SIMA, MC),
        (SIMA, get_attack("random")),
        (SIMA, get_attack("sima-c", timesteps=(50, 200))),
        (get_attack("nearest-generated", samples=4, steps=2), get_attack("pia", timesteps=(50,))),
        (Combination(parts=(SIMA, MC)), get_attack("loss", timesteps=(100,))),
    ],
    ids=lambda parts: "+".join(part.name for part in parts),
)
def test_declared_queries_are_made_and_batch_size_and_order_never_change_a_score(parts, images):
    count = []
    model, combination = memory_of(images[:N], count), Combination(parts=parts)
    table = score(combination, model, images)
    assert sum(count) == combination.queries_per_image * len(images) + combination.setup_queries == table.queries
    assert combination.queries_per_image == sum(part.queries_per_image for part in parts)
    order = np.random.default_rng(3).permutation(len(images))
    shuffled = score(combination, model, images[order], is_member[order], batch_size=7)
    np.testing.assert_allclose(shuffled.scores, table.scores[order], rtol=1e-5, atol=1e-8)


def test_parts_that_choose_do_so_in_a_combination_too(images):
    count = []
    part = get_attack("sima-cn", timesteps=(100,))
    one = Combination(parts=(part, SIMA))
    table = score(one, memory_of(images[:N], count), images)
    alone_ = score(part, memory_of(images[:N]), images)
    assert table.chosen["parts"][0] == alone_.chosen and table.chosen["parts"][1] == {}
    assert one.with_chosen(json.loads(json.dumps(table.chosen))).parts[0] == part.with_chosen(alone_.chosen)
    assert table.queries == sum(count)


@pytest.mark.parametrize("copies", [1, 2], ids=["single", "copies"])
def test_a_part_that_memorises_gets_no_weight(copies, model, images):
    """Fitted on its own training part's scores, the regression would trust nothing else, and fail on the rest.

    So it would where every image comes twice, and a fold could know it from another.
    """
    labels, images = np.tile(is_member, copies), np.concatenate([images] * copies)
    with_it, without = (score(Combination(parts=parts), model, images, labels) for parts in ((Memoriser(), SIMA), (SIMA,)))
    reported = ~calibration_part(with_it.ids, labels)
    found, expected = (auc(table.scores[reported, 0], labels[reported]) for table in (with_it, without))
    assert found == pytest.approx(expected, abs=0.01)
    assert expected > 0.7


@pytest.mark.parametrize("copies", [1, 2], ids=["single", "copies"])
@pytest.mark.parametrize("part", [Memoriser(), get_attack("sima-c", timesteps=(50, 200))], ids=lambda part: part.name)
def test_permuted_labels_give_half(part, copies, model, images):
    """Also on the calibration part, and where every image comes twice."""
    labels = np.tile(np.random.default_rng(5).permutation(is_member), copies)
    table = score(Combination(parts=(part, SIMA)), model, np.concatenate([images] * copies), labels)
    calibration = calibration_part(table.ids, labels)
    for rows in (calibration, ~calibration):
        # Copies count once: they would make the interval too narrow.
        rows = np.flatnonzero(rows)
        rows = rows[np.unique([table.ids[i] for i in rows], return_index=True)[1]]
        low, high = delong(table.scores[rows, 0], labels[rows], confidence=0.999)
        assert low < 0.5 < high


def test_a_fitted_combination_scores_others_as_the_calibration_part_does(model, images):
    combination = Combination(parts=(SIMA, get_attack("sima-c", timesteps=(100,))))
    table = score(combination, model, images)
    calibration = calibration_part(table.ids, is_member)
    fitted = combination.fit(model, images[calibration], is_member[calibration], progress=False)
    others = fitted.score(model, images[~calibration], progress=False)
    np.testing.assert_allclose(others.scores, table.scores[~calibration], rtol=1e-5, atol=1e-8)
    with pytest.raises(AttackError, match="fitted on"):
        fitted.score(model, images[calibration][:3], progress=False)


def test_parts_by_name_and_what_they_need():
    combination = get_attack("combine", parts=("sima", "gsa1"), timesteps=(50, 100))
    assert [part.timesteps for part in combination.parts] == [(50, 100)] * 2
    assert (combination.timesteps, combination.access, combination.needs_gradients) == ((50, 100), "white", True)
    assert get_attack("combine", parts=("sima", SIMA)).timesteps == tuple(range(0, 201, 10))
    assert replace(combination) == combination
    assert eval(repr(Combination(parts=(SIMA, MC))), {"Combination": Combination} | vars(mia_hub.attacks)) == Combination(parts=(SIMA, MC))
    default = get_attack("combine")
    assert default.queries_per_image == sum(get_attack(part).queries_per_image for part in ("sima", "loss", "pia", "secmi"))
    assert (default.access, Combination.access) == ("gray", "gray")


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"parts": "sima"}, "attacks or names of attacks, such as"),
        ({"parts": ()}, "one or more attacks"),
        ({"parts": (3,)}, "one or more attacks"),
        ({"parts": ("sima", "simb")}, "There is no attack 'simb'"),
        ({"parts": ("sima", "sima")}, "each part once"),
        ({"parts": (SIMA, MC), "timesteps": (50,)}, "the parts have theirs already"),
        ({"parts": ("secmi",), "timesteps": (55,)}, "multiples of 10"),
        ({"parts": ("sima",), "timesteps": ("a",)}, "must be integers"),
    ],
)
def test_combinations_that_cannot_be_are_refused(parameters, says):
    with pytest.raises(AttackError, match=says):
        get_attack("combine", **parameters)


def test_what_a_part_refuses_its_combination_refuses(model, images):
    for parts, labels, says in (
        (("sima", "clid"), is_member, "isn't conditioned on text"),
        (("sima", "gsa1"), is_member, "plain function"),
        ((SIMA, MC), np.full(2 * N, -1), "is_member=…"),
        ((SIMA, MC), is_member[::-1][: 2 * N] * 0, "no members"),
    ):
        with pytest.raises(AttackError, match=says):
            score(Combination(parts=parts), model, images, labels)


@pytest.mark.parametrize(
    ("part", "queries", "timesteps"),
    [
        (get_attack("sima", timesteps=(0, 100)), 5, (0, 25, 50, 75, 100)),
        (get_attack("sima", timesteps=(100,)), 3, (0, 100, 200)),  # of its default ones, where it has just one
        (get_attack("sima", timesteps=(0, 3)), 9, (0, 1, 2, 3)),  # there are no more
        (get_attack("sima", timesteps=(0, 10, 200)), 3, (0, 10, 200)),
        (get_attack("pia", timesteps=(10, 20)), 5, (10, 13, 17, 20)),  # one query goes to ε(x0, 0)
        (get_attack("sima-mc", timesteps=(0, 100), draws=3), 8, (0, 100)),
        (get_attack("sima-mc", timesteps=(0, 100), draws=3), 9, (0, 50, 100)),
        (get_attack("secmi", timesteps=(0, 40)), 6, (0, 10, 20, 30, 40)),  # multiples of its step
        (get_attack("secmi-nns"), 40, (90,)),  # takes one timestep only
        (get_attack("random"), 40, (0,)),
        (get_attack("gsa1", timesteps=(0, 900)), 4, (0, 300, 600, 900)),
    ],
    ids=lambda value: value.name if hasattr(value, "name") else None,
)
def test_a_part_alone_gets_the_combinations_queries(part, queries, timesteps, tiny_pixel_repo):
    one = alone(part, queries, mia_hub.load_model(tiny_pixel_repo(size=SIDE), device="cpu"))
    assert one == Combination(parts=(replace(part, timesteps=timesteps),))
    assert one.queries_per_image <= queries
