"""Logistic combinations of attacks, and attacks side by side: equal terms, honest fits, nothing scored twice, nothing unescaped."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from markupsafe import escape
from PIL import Image

import mia_hub
from mia_hub.attacks import get_attack, list_attacks
from mia_hub.attacks.combination import Combination, alone
from mia_hub.attacks.learning import TrainedAttack
from mia_hub.attacks.spelling import parse_attack, parse_parts, spell
from mia_hub.auditing.compare import UNFINISHED, compare, default_attacks
from mia_hub.auditing.comparison import Comparison, SkippedAttack
from mia_hub.cli import parser as cli
from mia_hub.errors import AttackError, MiaHubError
from mia_hub.metrics.intervals import delong
from mia_hub.metrics.roc import auc
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import ddpm_alphas_cumprod
from mia_hub.scores import ScoreTable
from mia_hub.splits.partition import calibration_part, folds
from mia_hub.system.memory import peak_memory_mb, reset_peak_memory

N, SIDE = 60, 8
NASTY = "<script>alert('x')</script> & \"`|*_[a](http://evil.example/) $x$"
is_member = np.repeat([1, 0], N)
SIMA, MC = get_attack("sima", timesteps=(50, 200)), get_attack("sima-mc", timesteps=(100,), draws=2)


@dataclass(frozen=True, kw_only=True)
class Memoriser(TrainedAttack):
    """Repeats what it was told of a image that it was fitted on, and knows nothing of any other: all overfitting, no skill."""

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
    return np.random.default_rng(4).integers(0, 256, (2 * N, SIDE, SIDE), dtype=np.uint8)


def memory_of(members, count=None, spread=12.0):
    """An unsure memory: the closed-form denoiser of some images, its posterior widened until it can't tell them all."""
    samples = torch.from_numpy(np.asarray(members)).double().flatten(1) / 127.5 - 1
    alphas = ddpm_alphas_cumprod()

    def epsilon(x, t):
        if count is not None:
            count.append(len(x))
        flat = x.flatten(1)
        signal_, noise = alphas[t].sqrt()[:, None], (1 - alphas[t]).sqrt()[:, None]
        distances = ((flat[:, None] - signal_[:, :, None] * samples) ** 2).sum(-1)
        mean = torch.softmax(-distances / (2 * (noise**2 + spread)), 1) @ samples
        return ((flat - signal_ * mean) / noise).reshape(x.shape)

    return wrap_denoiser(epsilon, alphas, sample_shape=(1, SIDE, SIDE), dtype=torch.float64, name="memory")


@pytest.fixture(scope="module")
def model(images):
    return memory_of(images[:N])


@pytest.fixture(scope="module")
def split(images):
    return mia_hub.make_split(images[:N], images[N:])


def score(attack, model, images, labels=is_member, **options) -> ScoreTable:
    return attack.score(model, images, is_member=labels, progress=False, **options)


# --- combinations ---------------------------------------------------------------------------------------------------------------


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


# --- comparisons ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def comparison(model, split):
    attacks = [get_attack("random"), SIMA, get_attack("sima-cn", timesteps=(50, 100)), get_attack("nearest-generated", samples=3, steps=2)]
    return compare(model, split, attacks, combine=[[SIMA, MC]], fprs=(0.1,), progress=False)


def test_every_row_is_what_an_audit_alone_reports(comparison, model, split):
    assert [row.label for row in comparison.rows] == [
        "random", "sima:timesteps=50,200", "sima-cn:timesteps=50,100", "nearest-generated:samples=3,steps=2",
        "sima:timesteps=50,200+sima-mc:timesteps=100,draws=2", "sima alone, ≤ 4 queries", "sima-mc:draws=2 alone, ≤ 4 queries",
    ]  # fmt: skip
    audited = [SIMA, get_attack("sima-cn", timesteps=(50, 100)), Combination(parts=(SIMA, MC))]
    for row, attack in zip((comparison.rows[i] for i in (1, 2, 4)), audited):
        report = mia_hub.audit(model, attack, split, fprs=(0.1,), progress=False)
        same = replace(row.report, cost=report.cost, provenance=report.provenance)
        assert same == report
        assert row.report.cost.queries == report.cost.queries
        np.testing.assert_array_equal(row.report.scores.scores, report.scores.scores)


def test_rows_share_images_parts_and_counts(comparison):
    first = comparison.rows[0].report
    for report in comparison.reports:
        assert report.scores.ids == first.scores.ids
        assert report.split == first.split and report.blind_auc == first.blind_auc is not None
        assert (report.auc.n_members, report.auc.n_nonmembers) == (N // 2, N // 2)
        assert report.selection["n_calibration_members"] == N - N // 2
        assert list(report.tpr_at_fpr) == [0.1]
    assert comparison.flags == comparison.left_out == ()


def test_costs_of_a_row(comparison):
    by_label = {row.label: row for row in comparison.rows}
    costs = {label: (row.queries_at_timestep, row.report.cost.queries_per_image, row.setup_queries) for label, row in by_label.items()}
    neighbours = len(by_label["sima-cn:timesteps=50,100"].chosen["given"]) - 1
    assert costs == {
        "random": (0, 0, 0),
        "sima:timesteps=50,200": (1, 2, 0),
        "sima-cn:timesteps=50,100": (1 + neighbours, 2 * (1 + neighbours), 0),
        "nearest-generated:samples=3,steps=2": (0, 0, 6),
        "sima:timesteps=50,200+sima-mc:timesteps=100,draws=2": (4, 4, 0),
        "sima alone, ≤ 4 queries": (4, 4, 0),
        "sima-mc:draws=2 alone, ≤ 4 queries": (4, 4, 0),
    }
    assert all(row.seconds_per_image > 0 and row.report.cost.peak_memory_mb > 0 for row in comparison.rows)
    assert [row.one_score for row in comparison.rows] == [True, False, False, True, True, True, True]


def test_a_comparison_survives_its_json_form(comparison):
    again = Comparison.from_dict(json.loads(comparison.to_json()))
    assert again == comparison
    assert again.to_markdown() == comparison.to_markdown()
    assert again.plot_svg() == comparison.plot_svg()


def test_by_default_all_attacks_run_that_can(split):
    """Those that can't are listed with the reason; the toy predicts nothing, but every attack really runs on it."""
    model = wrap_denoiser(lambda x, t: 0.1 * x, ddpm_alphas_cumprod(), sample_shape=(1, SIDE, SIDE), name="toy")
    found = compare(model, split, limit=20, shift_check=False, progress=False)
    ran, left_out = [row.label for row in found.rows], {left.label: left.reason for left in found.left_out}
    assert [*ran, *left_out] == [*ran, *(name for name in default_attacks() if name not in ran)]
    assert ran[0] == "random" and {"sima", "sima-mc", "pia", "secmi", "loss"} <= set(ran)
    assert set(ran) | set(left_out) | {"combine"} == set(list_attacks())
    assert {"clid", "gsa1", "gsa2"} <= set(left_out)
    assert "isn't conditioned on text" in left_out["clid"] and "plain function" in left_out["gsa1"]
    assert "plain function" in found.to_markdown() and "plain function" in found.to_html()
    # With 10 non-members reported on, no rate can be measured, and the figure has one panel less.
    assert found.rates == [] and "FPR" not in found.plot_svg()


def never(x, t):
    raise AssertionError("the model was queried")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"attacks": ["sima", "gsa1"]}, "plain function"),
        ({"attacks": ["sima", "clid"]}, "isn't conditioned on text"),
        ({"attacks": ["simaa"]}, "Did you mean 'sima'"),
        ({"attacks": ["sima", get_attack("sima")]}, "sima is to be compared with itself"),
        ({"attacks": []}, "nothing to compare"),
        ({"attacks": ["sima"], "combine": ["sima+pia"]}, r"such as combine=\[\['sima', 'pia'\]\]"),
        ({"attacks": ["sima"], "combine": "sima"}, "takes a list of lists"),
        ({"attacks": ["sima"], "combine": [["sima", "gsa1"]]}, "plain function"),
        ({"attacks": ["sima"], "combine": [[]]}, "one or more attacks"),
        ({"attacks": [get_attack("sima", timesteps=(1000,))]}, "runs from 0 to 999"),
        ({"attacks": ["sima"], "combine": [["sima", "pia"]], "limit": 15}, "too few for the attack 'combine'"),
        ({"attacks": ["sima"], "seed": -1}, "seed must be an integer"),
        ({"attacks": ["sima"], "fprs": (0.001,)}, "At least 1000 non-members"),
        ({"attacks": ["sima"], "selection": "best"}, "'calibration' or 'oracle'"),
        ({"attacks": ["sima"], "limit": 3}, "too few"),
        ({"attacks": ["sima"], "device": "cpu"}, "loaded already"),
        ({"attacks": ["sima"], "folder": "FILE"}, "can't be made"),
    ],
)
def test_refusals_come_before_the_model_is_queried(options, says, split, tmp_path):
    (tmp_path / "file").touch()
    if "folder" in options:
        options = options | {"folder": tmp_path / "file" / "x"}
    model = wrap_denoiser(never, ddpm_alphas_cumprod(), sample_shape=(1, SIDE, SIDE))
    with pytest.raises(MiaHubError, match=says):
        compare(model, split, **{"shift_check": False, "progress": False} | options)


def test_when_no_attack_can_run_the_reason_is_the_error(split, monkeypatch):
    model = wrap_denoiser(never, [0.5], sample_shape=(1, SIDE, SIDE))
    monkeypatch.setattr("mia_hub.auditing.compare.default_attacks", lambda: ["sima", "gsa1"])
    with pytest.raises(AttackError, match=r"None of the attacks can run on custom .* runs from 0 to 0"):
        compare(model, split, progress=False)


# --- going on after an interruption ---------------------------------------------------------------------------------------------


@pytest.fixture
def tiny(tiny_pixel_repo):
    return tiny_pixel_repo(size=SIDE)


def counted(folder, **options):
    """The model in a folder, and the rows of its forward passes so far."""
    model = mia_hub.load_model(folder, device="cpu", **options)
    count, predict = [], model.predict_noise
    model.predict_noise = lambda x, t, cond=None: count.append(len(x)) or predict(x, t, cond)
    return model, count


def test_what_is_there_is_not_scored_again(tiny, tiny_pixel_repo, split, tmp_path):
    def run(attacks=(SIMA, MC), repo=tiny, split=split, **options):
        model, count = counted(repo, **{key: options.pop(key) for key in ("dtype",) if key in options})
        found = compare(model, split, attacks, folder=tmp_path, shift_check=False, progress=False, **options)
        return found, sum(count)

    first, queries = run()
    assert queries == 4 * 2 * N
    again, queries = run()
    assert queries == 0
    assert [row.report.cost for row in again.rows] == [row.report.cost for row in first.rows]
    assert [replace(a, provenance={}) for a in again.reports] == [replace(a, provenance={}) for a in first.reports]
    # Other figures of the same scores; another order; one attack more.
    loss = get_attack("loss", timesteps=(30,))
    more, queries = run((MC, loss, SIMA), fprs=(0.1,), selection="oracle")
    assert queries == 2 * N
    assert [row.label for row in more.rows] == [spell(attack) for attack in (MC, loss, SIMA)]
    assert list(more.reports[0].tpr_at_fpr) == [0.1]
    # Anything that a score depends on makes it anew.
    other = tiny_pixel_repo(size=SIDE, seed=1)
    for changed, expected in (
        ({"seed": 1}, 4 * 2 * N),
        ({"limit": 40}, 4 * 80),
        ({"limit": 40, "dtype": "float64"}, 4 * 80),
        ({"limit": 40, "repo": other}, 4 * 80),
        ({"limit": 40, "repo": other, "attacks": (replace(SIMA, p=2), MC)}, 2 * 80),
    ):
        assert run(**changed)[1] == expected, changed
        assert run(**changed)[1] == 0, changed


def test_a_damaged_file_is_scored_again_and_a_nameless_model_always(tiny, split, model, tmp_path):
    options = {"folder": tmp_path, "shift_check": False, "progress": False}
    compare(counted(tiny)[0], split, [SIMA, MC], **options)
    damaged = next(tmp_path.glob("scores-sima-mc*"))
    damaged.write_bytes(damaged.read_bytes()[:500])
    (tmp_path / "comparison.json").write_text("{")
    again, count = counted(tiny)
    found = compare(again, split, [SIMA, MC], **options)
    assert sum(count) == 2 * 2 * N
    assert all(row.report.cost.peak_memory_mb > 0 for row in found.rows)
    first = compare(model, split, [SIMA], **options)
    other = compare(memory_of(np.zeros((1, SIDE, SIDE))), split, [SIMA], **options)
    assert first.reports[0].scores.model == other.reports[0].scores.model
    assert not np.allclose(first.reports[0].scores.scores, other.reports[0].scores.scores)


@pytest.fixture
def split_folder(tmp_path, images):
    folder = tmp_path / "split"
    for name, part in (("member", images[:30]), ("nonmember", images[N : N + 30])):
        (folder / name).mkdir(parents=True)
        for i, pixels in enumerate(part):
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def run(capsys, *arguments):
    status = cli.main(["compare", *(str(argument) for argument in arguments)])
    out, err = capsys.readouterr()
    return status, out, err


def test_a_killed_comparison_goes_on_where_it_was(tiny, split_folder, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["--model", tiny, "--split", split_folder, "--out", out, "--no-shift-check", "--device", "cpu"]
    arguments += ["--attacks", "sima:timesteps=50,100", "sima-mc:draws=150,timesteps=100", "random"]
    command = [sys.executable, "-m", "mia_hub", "compare", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 300
    while not list(out.glob("scores-sima-timesteps*.parquet")):
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    (finished,) = out.glob("scores-*.parquet")
    before = finished.stat().st_mtime_ns, finished.stat().st_ino
    partial = Comparison.from_dict(json.loads((out / "comparison.json").read_text()))
    assert [row.label for row in partial.rows] == ["sima:timesteps=50,100"]
    assert [left.reason for left in partial.left_out] == [UNFINISHED] * 2

    status, text, err = run(capsys, *arguments)
    assert status == 0
    assert "sima:timesteps=50,100: scores taken from" in err
    assert (finished.stat().st_mtime_ns, finished.stat().st_ino) == before
    whole = Comparison.from_dict(json.loads((out / "comparison.json").read_text()))
    assert [row.label for row in whole.rows] == ["sima:timesteps=50,100", "sima-mc:timesteps=100,draws=150", "random"]
    assert whole.left_out == ()
    assert whole.rows[0].report.cost == partial.rows[0].report.cost
    assert whole.to_markdown() in text
    assert {path.suffix for path in out.iterdir()} == {".json", ".md", ".html", ".svg", ".parquet"}
    for path in out.glob("*.parquet"):
        table = ScoreTable.from_parquet(path)
        row = next(row for row in whole.rows if row.report.attack == table.attack)
        assert mia_hub.measure(table).at_selected.auc == row.report.auc
    # A fresh comparison, never interrupted, finds the same.
    shutil.rmtree(out)
    assert run(capsys, *arguments, "--quiet")[0] == 0
    fresh = Comparison.from_dict(json.loads((out / "comparison.json").read_text()))
    assert [row.report.per_timestep for row in fresh.rows] == [row.report.per_timestep for row in whole.rows]


# --- what is read and written ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "attack"),
    [
        ("sima", get_attack("sima")),
        ("sima-mc:draws=30", get_attack("sima-mc", draws=30)),
        ("sima-mc:timesteps=50,100,draws=30", get_attack("sima-mc", draws=30, timesteps=(50, 100))),
        ("sima-mc:draws=4,form=norm-mean,antithetic=true", get_attack("sima-mc", draws=4, form="norm-mean", antithetic=True)),
        ("sima-cn:given=complexity,mirror+shift-right", get_attack("sima-cn", given=("complexity", "mirror+shift-right"))),
        ("sima-cn:given=mirror,", get_attack("sima-cn", given=("mirror",))),
        ("pia:timesteps=100,given=complexity,mirror", get_attack("pia", timesteps=(100,), given=("complexity", "mirror"))),
    ],
)
def test_attacks_in_one_word(text, attack):
    assert parse_attack(text) == attack
    assert spell(attack) == text


def test_combinations_in_one_word():
    assert parse_parts("sima+sima-cn:given=complexity,mirror+shift-right+pia:timesteps=100") == [
        get_attack("sima"), get_attack("sima-cn", given=("complexity", "mirror+shift-right")), get_attack("pia", timesteps=(100,))
    ]  # fmt: skip
    parts = Combination(parts=("sima", get_attack("pia", timesteps=(100,))))
    assert spell(parts) == "sima+pia:timesteps=100"
    assert tuple(parse_parts(spell(parts))) == parts.parts
    assert spell(get_attack("sima", timesteps=range(0, 100, 10))) == "sima:timesteps=0,…,90"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--attacks", "simaa"], "Did you mean 'sima'"),
        (["--attacks", "sima:"], "NAME:PARAMETER=VALUE"),
        (["--attacks", "sima:p"], "NAME:PARAMETER=VALUE"),
        (["--attacks", "sima:p=0"], "above 0"),
        (["--attacks", "sima:draws=3"], "no parameter 'draws'"),
        (["--attacks", "sima", "sima"], "compared with itself"),
        (["--combine", "sima+piaa"], "There is no attack 'piaa'"),
        (["--combine", "sima+"], "There is no attack ''"),
        (["--attacks", "clid"], "isn't conditioned on text"),
        (["--attacks", "sima", "--limit", "1"], "limit must be an integer"),
        (["--attacks", "sima", "--split", "nonsense"], "There is no split 'nonsense'"),
        (["--attacks", "sima", "--out", "FILE"], "can't be made"),
    ],
)
def test_mistakes_get_one_line_and_status_2(capsys, arguments, says, tiny, split_folder, tmp_path):
    (tmp_path / "file").touch()
    known = {"FILE": tmp_path / "file" / "x"}
    status, out, err = run(capsys, "--model", tiny, "--split", split_folder, *(known.get(a, a) for a in arguments), "--quiet")
    assert (status, out) == (2, "")
    assert says in err and err.startswith("mia-hub: ") and err.count("\n") == 1


def test_an_interruption_says_where_the_finished_part_is(capsys, tiny, split_folder, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("mia_hub.auditing.preparation.PreparedAudit.report", stop)
    arguments = ["--model", tiny, "--split", split_folder, "--attacks", "sima", "--no-shift-check", "--quiet"]
    assert run(capsys, *arguments, "--out", tmp_path / "out")[::2] == (
        130, f"\nmia-hub: interrupted; finished work is in {tmp_path / 'out'}. The same command resumes it.\n"
    )  # fmt: skip
    assert run(capsys, *arguments)[::2] == (130, "\nmia-hub: interrupted; nothing was written.\n")


@pytest.fixture(scope="module")
def nasty(comparison):
    """What comes from outside, at its worst: names of the model, of the split, of an attack, and the reason of one left out."""
    rows = []
    for row in comparison.rows:
        model, split = row.report.model | {"id": NASTY}, row.report.split | {"name": NASTY}
        rows.append(replace(row, label=NASTY + row.label, report=replace(row.report, model=model, split=split, attack=NASTY)))
    return Comparison(tuple(rows), (SkippedAttack(NASTY, NASTY),))


def test_what_comes_from_outside_is_escaped(nasty):
    page, text, figure = nasty.to_html(), nasty.to_markdown(), nasty.plot_svg()
    assert "<script" not in page and "<script" not in figure
    assert escape(NASTY) in page
    for line in text.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) in (3, 11), line
    assert "](http://evil.example/)" not in text.replace("`", "").replace(r"]\(", "") or r"]\(http" in text
    assert not re.search(r"(?<!\\)<script", re.sub(r"`[^`\n]*`", "", text))
    ElementTree.fromstring(figure)
    assert ElementTree.fromstring(figure).attrib["role"] == "img"


def test_the_page_is_whole_and_asks_for_nothing(comparison):
    page = comparison.to_html()
    assert page.startswith("<!DOCTYPE html>") and "<script" not in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page.replace('xlink:href="#', ""))
    for row in comparison.rows:
        assert escape(row.label) in page and str(row.report.auc) in page and escape(row.report.attack) in page
    assert comparison.plot_svg() in page
    assert "one score" in page and "+ 6 once" in page
    assert "sima-cn:timesteps=50,100 chose given = complexity" in comparison.to_markdown()


def test_the_headline_begins_with_the_caution(comparison):
    from mia_hub.auditing.comparison_pages import comparison_headline

    best = max(comparison.rows, key=lambda row: row.report.auc.value)
    assert comparison_headline(comparison).startswith(f"The highest AUC among 7 attacks is {best.report.auc} ({best.label})")
    shifted = replace(comparison.rows[0].report.blind_auc, value=0.8, low=0.7, high=0.9)
    rows = tuple(replace(row, report=replace(row.report, blind_auc=shifted)) for row in comparison.rows)
    assert comparison_headline(Comparison(rows)).startswith("Not evidence of memorisation: a classifier that never sees the model")
    assert comparison_headline(Comparison(comparison.rows[:1])).startswith("No attack can be told from guessing")


def test_flags_that_only_some_attacks_raise_say_which(comparison):
    from mia_hub.flags import flag

    raised = flag("duplicates", "3 copies")
    rows = [replace(row, report=replace(row.report, flags=(raised,) if i in (1, 2) else ())) for i, row in enumerate(comparison.rows)]
    (found,) = Comparison(tuple(rows)).flags
    assert found.raised_by == "sima:timesteps=50,200: 3 copies; and so for 1 more of the 7 attacks"


def test_the_figure_can_be_read_on_a_phone(comparison, nasty, browser, tmp_path):
    """At 390 pixels nothing is cut off at the sides, nothing is smaller than small print, and no name covers another."""
    for one in (comparison, nasty):
        file = tmp_path / "page.html"
        file.write_text(one.to_html(), encoding="utf-8")
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.goto(file.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        box = page.evaluate("(b => [b.left, b.right, b.top, b.bottom])(document.querySelector('figure svg').getBoundingClientRect())")
        texts = page.evaluate(
            "[...document.querySelectorAll('figure svg text')].map(t => [t.textContent, ...(b => [b.left, b.right, b.top, b.bottom])"
            "(t.getBoundingClientRect()), parseFloat(getComputedStyle(t).fontSize)])"
        )
        scale = (box[1] - box[0]) / 360
        assert len(texts) > 20
        for said, left, right, top, bottom, size in texts:
            assert box[0] - 1 <= left and right <= box[1] + 1 and box[2] - 1 <= top and bottom <= box[3] + 1, said
            assert size * scale >= 10, said
        for i, a in enumerate(texts):
            for b in texts[:i]:
                overlap = min(a[2], b[2]) - max(a[1], b[1]), min(a[4], b[4]) - max(a[3], b[3])
                assert min(overlap) < 3, (a[0], b[0])
        page.close()


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="only Linux can start a process's peak anew")
def test_an_attack_does_not_inherit_an_earlier_peak():
    cpu = torch.device("cpu")
    before = peak_memory_mb(cpu)
    large = np.ones(300 * 2**20 // 8)
    peak = peak_memory_mb(cpu)
    del large
    assert peak >= before + 100
    reset_peak_memory(cpu)
    assert peak_memory_mb(cpu) < peak - 250


def test_the_benchmark_measures_both_sides(capsys, tiny, split_folder, tmp_path):
    from benchmarks import compare as benchmark
    from benchmarks.reporting import finish

    main = partial(finish, benchmark._parser(), benchmark.run)
    options = ["--model", tiny, "--split", split_folder, "--limit", 24, "--batch-size", 16, "--rounds", 1, "--device", "cpu"]
    assert main([*map(str, options), "--attacks", "sima", "random", "--json", str(tmp_path / "figures.json")]) == 0
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert [row["what"].split(",")[0] for row in rows] == ["sima", "random", "  reading", "compare", "  the same in processor time"]
    assert rows[0]["values"]["rows"] == rows[3]["values"]["rows"] == 21 * 48
    assert rows[3]["verdict"] in ("PASS", "MISSED") and rows[3]["values"]["bare_seconds"][0] > 0
    assert rows[4]["values"]["bare_seconds"][0] > 0 and rows[4]["values"]["seconds"][0] > 0
    assert main([*map(str, options[:6]), "--batch-size", "13"]) == 2
    assert "whole batches" in capsys.readouterr().err
