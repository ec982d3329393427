"""Figures of a score table: chosen on one part, reported on the other."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from support.made_scores import table

from mia_hub.auditing.measurement import measure
from mia_hub.errors import MetricError
from mia_hub.flags import FLAGS
from mia_hub.splits.partition import calibration_part


def test_the_timestep_is_chosen_on_one_part_and_reported_on_the_other():
    one = table(500, 500)
    found = measure(one)
    calibration = calibration_part(one.ids, one.is_member)
    assert found.selection["timestep"] == 20
    assert found.selection["method"] == "calibration"
    assert not (found.reported & calibration).any()
    rows = ~calibration
    assert found.at_selected.auc.value == pytest.approx(roc_auc_score(one.is_member[rows], one.scores[rows, 1]), abs=1e-12)
    assert found.at_selected.auc.n_members == 250


def test_reported_scores_have_no_say_in_what_is_chosen():
    one = table(200, 200)
    calibration = calibration_part(one.ids, one.is_member)
    scores = one.scores.copy()
    scores[~calibration, 2] += 10 * one.is_member[~calibration]  # t = 30 would win on the reported part
    honest = measure(table(200, 200, scores=scores))
    oracle = measure(table(200, 200, scores=scores), selection="oracle")
    assert (honest.selection["timestep"], oracle.selection["timestep"]) == (20, 30)
    assert [flag.name for flag in oracle.flags if flag.name == "oracle-selection"]
    assert "oracle-selection" not in [flag.name for flag in honest.flags]


def test_asr_of_scores_without_signal_is_a_half_unless_an_oracle_chooses():
    values = {"calibration": [], "oracle": []}
    for seed in range(30):
        one = table(100, 100, shifts=(0.0,) * 5, seed=seed)
        for selection, found in values.items():
            found.append(measure(one, selection=selection, fprs=()).at_selected.asr.value)
    # 30 × 100 reported images: standard error about .009 of the mean.
    assert np.mean(values["calibration"]) == pytest.approx(0.5, abs=0.03)
    assert np.mean(values["oracle"]) > 0.55


def test_a_fixed_timestep_reports_all_rows():
    found = measure(table(50, 50), timestep=30)
    assert found.reported.all()
    assert found.selection["method"] == "fixed"
    assert found.at_selected.timestep == 30
    assert found.at_selected.asr.n == 100  # thresholds are cross-fitted, so that every image is judged once


def test_permuted_labels_give_a_half():
    one = table(400, 400)
    labels = np.random.default_rng(1).permutation(one.is_member)
    auc = measure(table(400, 400, is_member=labels)).at_selected.auc
    assert auc.low < 0.5 < auc.high


def test_rates_too_low_to_resolve_are_left_out_with_a_flag_or_refused_when_asked_for():
    found = measure(table(300, 300))
    assert list(found.at_selected.tpr_at_fpr) == [0.01]
    assert "0.1 %" in next(flag.raised_by for flag in found.flags if flag.name == "few-nonmembers")
    few = measure(table(20, 20))
    assert few.at_selected.tpr_at_fpr == {}
    with pytest.raises(MetricError, match="At least 1000 non-members are needed"):
        measure(table(300, 300), fprs=(0.01, 0.001))


@pytest.mark.parametrize(
    ("changes", "options", "says"),
    [
        ({"is_member": np.ones(600)}, {}, "All 600 labels are 1"),
        ({"is_member": np.zeros(600)}, {}, "All 600 labels are 0"),
        ({"is_member": np.resize([1, 0, -1], 600)}, {}, "have no label"),
        ({"scores": np.full((600, 3), np.nan)}, {}, "NaN"),
        ({}, {"selection": "best"}, "'calibration' or 'oracle'"),
        ({}, {"timestep": 10, "selection": "oracle"}, "nothing left to choose"),
        ({}, {"timestep": 15}, "not among the scored ones: 10, 20, 30"),
        ({}, {"calibration_fraction": 1.0}, "between 0 and 1"),
        ({}, {"fprs": (0.0,)}, "above 0"),
        ({"n_members": 3}, {}, "too few to choose"),
    ],
)
def test_what_cannot_be_measured_is_refused(changes, options, says):
    with pytest.raises(MetricError, match=says):
        measure(table(**changes), **options)


def test_copies_raise_a_flag_and_flags_are_documented():
    one = table(100, 100)
    ids = list(one.ids)
    ids[1] = ids[0]
    found = measure(table(100, 100, ids=ids))
    copies = next(flag for flag in found.flags if flag.name == "duplicates")
    assert "1 of 200" in copies.raised_by
    assert copies.meaning == FLAGS["duplicates"][1]


def test_roc_for_plots_keeps_every_corner_where_scores_tie():
    one = table(4, 4, shifts=(0.0,), scores=np.array([[1], [1], [0], [0], [2], [2], [0], [0]]))
    found = measure(one, timestep=10)
    assert found.roc == {"fpr": [0, 0.5, 0.5, 1], "tpr": [0, 0, 0.5, 1]}


def test_roc_for_plots_is_a_curve_of_the_reported_scores():
    found = measure(table(20_000, 20_000, shifts=(1.0,)), timestep=10)
    fpr, tpr = np.array(found.roc["fpr"]), np.array(found.roc["tpr"])
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(fpr) >= 0).all() and (np.diff(tpr) >= 0).all()
    assert len(fpr) <= 2002
    assert np.trapezoid(tpr, fpr) == pytest.approx(found.at_selected.auc.value, abs=2e-3)
    assert len(json.dumps(found.roc)) < 120_000
