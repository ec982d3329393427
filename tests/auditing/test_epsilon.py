"""The lower bound on ε of an audit: which method a split allows, what is refused, and what the report says."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from scipy.stats import binom
from support.blobs import SIMA, blobs, perfect_memory
from support.made_reports import fair

import mia_hub
from mia_hub.auditing import epsilon as epsilon_of_audits
from mia_hub.auditing.epsilon import measure_epsilon
from mia_hub.auditing.report import AuditReport
from mia_hub.defaults import DEMO_FOLDER
from mia_hub.errors import MiaHubError
from mia_hub.images.sources import as_images
from mia_hub.metrics.epsilon_choices import one_run_audit
from mia_hub.scores import ScoreTable
from mia_hub.splits.coins import CoinDraw, toss
from mia_hub.splits.drawing import draw_by_coins
from mia_hub.splits.member_split import split_hash
from mia_hub.splits.origins import Origin
from mia_hub.splits.partition import calibration_mask, calibration_part
from mia_hub.splits.sources import Pool


@lru_cache
def drawn():
    """A split that coins drew, and the model that knows its members by heart."""
    split = draw_by_coins(Pool(Origin("blobs"), as_images(blobs(160, 0))), seed=3, progress=False).split
    return split, perfect_memory(np.array([image.pixels[..., 0] for image in split.members]))


def audit(model, split, **options) -> AuditReport:
    return mia_hub.audit(model, **({"attack": SIMA, "split": split, "shift_check": False, "progress": False} | options))


def table_by_coins(epsilon: float, seed: int, n: int = 400, steps: int = 3) -> ScoreTable:
    """Scores of ε-private randomised response at one timestep, and of nothing at the others."""
    rng = np.random.default_rng(seed)
    ids = [f"{number:032x}" for number in rng.integers(0, 2**63, n)]
    labels = toss(seed, ids).astype(np.int8)
    order = np.argsort(-labels, kind="stable")
    ids, labels = [ids[i] for i in order], labels[order]
    said = np.where(rng.random(n) < 1 / (1 + np.exp(-epsilon)), labels, 1 - labels)
    scores = rng.random((n, steps))
    scores[:, 1] = said + 0.5 * rng.random(n)
    return ScoreTable(ids, labels, np.arange(steps), scores, "made", {"id": "made"}, {"hash": split_hash(ids, labels)})


def draw_of(table: ScoreTable, seed: int) -> CoinDraw:
    return CoinDraw(seed, split_hash(table.ids, table.is_member))


def test_a_perfect_memory_has_no_small_epsilon_and_the_report_says_what_that_supports():
    split, model = drawn()
    report = audit(model, split)
    assert [(bound.method, bound.delta) for bound in report.epsilon.bounds] == [("one-run", 0.0), ("one-run", 1e-5)]
    first = report.epsilon.bounds[0]
    # About half of 160 images are reported. If all are guessed, and rightly, q^80 = .05 gives 3.26.
    assert 2.5 < first.bound < 3.5 and first.correct >= first.guesses - 2 and 60 <= first.m <= 100
    assert AuditReport.from_dict(json.loads(report.to_json())) == report
    for text in (report.to_markdown(), report.to_html()):
        assert "ε is at least" in text and "What it supports: with the stated confidence" in text and f"{first.bound:.2f}" in text
        assert "What it doesn't support: that the training is private" in text.replace("&#39;", "'").replace("\\", "")


def test_a_monitor_of_a_training_bounds_epsilon_as_an_audit_does():
    split, model = drawn()
    monitor = mia_hub.TrainingMonitor(split, attack=SIMA, shift_check=False)
    expected = audit(model, split, timestep=SIMA.timesteps[0]).epsilon
    assert monitor(1, model).epsilon == expected and expected.method == "one-run" and not expected.reason
    # A part of a split has no coins.
    assert mia_hub.TrainingMonitor(split, attack=SIMA, shift_check=False, limit=40)(1, model).epsilon.method == "clopper-pearson"


def test_a_model_of_other_images_gives_a_bound_of_nothing():
    split, _ = drawn()
    report = audit(perfect_memory(blobs(60, 9)), split)
    assert [bound.bound for bound in report.epsilon.bounds] == [0.0, 0.0] and "no ε is refuted" in report.to_markdown()


def test_a_fixed_split_gives_a_bound_that_is_named_for_what_it_is():
    _, model = drawn()
    members = blobs(60, 0)
    report = audit(perfect_memory(members), mia_hub.make_split(members, blobs(400, 1)))
    # 30 of 30 members, none of 200 others: log(.025^(1/30) / (1 - .025^(1/200))).
    assert report.epsilon.method == "clopper-pearson" and 3.5 < report.epsilon.bounds[0].bound < 3.95
    for text in (report.to_markdown(), report.to_html()):
        assert "a bound on the ε of the training with this confidence" in text and "make-split --coin-flip" in text.replace("\\", "")
    assert audit(model, mia_hub.make_split(members, blobs(60, 1)), epsilon="none").epsilon is None


def test_what_the_split_or_the_attack_does_not_allow_is_refused_before_any_query():
    split, _ = drawn()

    def never(x, t):
        raise AssertionError("the model was queried")

    model = mia_hub.wrap_denoiser(never, [0.9, 0.5], sample_shape=(1, 12, 12))
    attack = mia_hub.get_attack("sima", timesteps=(0, 1))
    fixed = mia_hub.make_split(blobs(20, 0), blobs(20, 1))
    for options, message in (
        ({"split": fixed, "epsilon": "one-run"}, "was not drawn by coins, .* mia-hub make-split --coin-flip before training"),
        ({"split": split, "epsilon": "one-run", "limit": 30}, "only a part of one that was"),
        ({"split": replace(split, members=split.members[1:]), "epsilon": "one-run"}, "some were added, left out or changed"),
        ({"split": split, "epsilon": "one-run", "attack": mia_hub.get_attack("sima-cn", timesteps=(0, 1))}, "learns or chooses"),
        ({"split": fixed, "epsilon": "best"}, "must be one of 'auto', 'one-run', 'clopper-pearson', 'none'; got 'best'"),
    ):
        with pytest.raises(MiaHubError, match=message):
            audit(model, **({"attack": attack} | options))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"fitted": True}, "learns or chooses"),
        ({"coins": CoinDraw(0, "sha256:other")}, "some were added, left out or changed"),
        ({"wrong seed": True}, "images are on the other side"),
    ],
)
def test_where_coins_drew_the_split_and_there_is_no_one_run_bound_the_report_says_why(change, says):
    table = table_by_coins(3.0, 0)
    coins = draw_of(table, 1) if change.pop("wrong seed", False) else draw_of(table, 0)
    options = {"coins": coins} | change
    finding = measure_epsilon(table, **options)
    assert finding.method == "clopper-pearson" and says in finding.reason
    assert says in replace(fair(), epsilon=finding).to_markdown().replace("\\", "")
    with pytest.raises(MiaHubError, match=says):
        measure_epsilon(table, "one-run", **options)


def test_the_timestep_is_chosen_on_the_calibration_part_and_the_bound_seldom_exceeds_epsilon():
    runs, exceeded, found = 40, 0, []
    for seed in range(runs):
        table = table_by_coins(1.5, seed)
        finding = measure_epsilon(table, coins=draw_of(table, seed), seed=seed)
        exceeded += finding.bounds[0].bound > 1.5
        found.append(finding.timestep)
        assert finding.bounds[1].bound <= finding.bounds[0].bound
    assert exceeded <= binom.ppf(0.999, runs, 0.05) and found.count(1) == runs
    assert measure_epsilon(table, coins=draw_of(table, seed), timestep=2).timestep == 2


def test_no_label_has_a_say_in_which_images_are_reported(monkeypatch):
    """With a part that is balanced by label, the coins of the reported images would depend on each other."""
    masks = []

    def recorded(scores, coins, mask, **options):
        masks.append(mask)
        return one_run_audit(scores, coins, mask, **options)

    monkeypatch.setattr(epsilon_of_audits, "one_run_audit", recorded)
    table = table_by_coins(2.0, 1)
    measure_epsilon(table, coins=draw_of(table, 1))
    assert len(masks) == 2 and all((mask == calibration_mask(table.ids)).all() for mask in masks)
    assert (masks[0] != calibration_part(table.ids, table.is_member)).any()


def test_too_few_images_leave_the_bound_out_and_reports_of_earlier_versions_open():
    table = table_by_coins(3.0, 2, n=4)
    assert measure_epsilon(table, coins=draw_of(table, 2)) is None or measure_epsilon(table).method == "clopper-pearson"
    with pytest.raises(MiaHubError, match=r"can't give a 95 % bound|both classes"):
        measure_epsilon(table, "one-run", coins=draw_of(table, 2))
    stored = json.loads((DEMO_FOLDER / "held_out_audit.json").read_text())
    stored.pop("epsilon", None)
    report = AuditReport.from_dict(stored)
    assert report.epsilon is None and "epsilon" not in report.to_dict() and "lower bound on ε" not in report.to_html()
