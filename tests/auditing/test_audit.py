"""Audits with known answers: of a model that knows its members by heart, of the demo, and what is refused before any compute."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.blobs import SIMA, blobs, perfect_memory

import mia_hub
from mia_hub.auditing.audit import held_out
from mia_hub.auditing.report import AuditReport
from mia_hub.defaults import DEMO_FOLDER
from mia_hub.errors import MiaHubError
from mia_hub.scores import ScoreTable


@pytest.fixture(scope="module")
def memory():
    """Members, and the perfect memory of them."""
    members = blobs(60, 0)
    return members, perfect_memory(members)


def test_audit_of_a_perfect_memory(memory):
    members, model = memory
    report = mia_hub.audit(model, SIMA, mia_hub.make_split(members, blobs(400, 1)), progress=False)
    assert report.auc.value == 1.0
    assert report.auc.low < 1  # 30 members can't prove perfection
    assert report.tpr_at_fpr[0.01].value == 1.0
    assert report.asr.value == 1.0
    assert report.selection["method"] == "calibration"
    assert (report.auc.n_members, report.auc.n_nonmembers) == (30, 200)
    assert {flag.name for flag in report.flags} == {"few-nonmembers"}
    assert report.blind_auc.low < 0.5 < report.blind_auc.high
    assert report.cost.queries == 460 * 3
    assert report.provenance["versions"]["mia_hub"] == mia_hub.__version__
    assert AuditReport.from_dict(json.loads(report.to_json())) == report


def test_audit_of_held_out_against_held_out_is_chance(memory):
    _, model = memory
    report = mia_hub.audit(model, SIMA, mia_hub.make_split(blobs(300, 2), blobs(300, 3)), progress=False)
    assert report.auc.low < 0.5 < report.auc.high
    assert "distribution-shift" not in {flag.name for flag in report.flags}


def test_audit_flags_a_shift_that_the_model_has_nothing_to_do_with(memory):
    _, model = memory
    report = mia_hub.audit(model, SIMA, mia_hub.make_split(blobs(100, 2) // 2, blobs(100, 3)), progress=False)
    assert "distribution-shift" in {flag.name for flag in report.flags}
    assert report.blind_auc.low > 0.9


def test_audit_refuses_before_any_compute(memory):
    members, _ = memory

    def never(x, t):
        raise AssertionError("the model was queried")

    model = mia_hub.wrap_denoiser(never, [0.9, 0.5], sample_shape=(1, 12, 12))
    attack = mia_hub.get_attack("sima", timesteps=(0, 1))
    split = mia_hub.make_split(members, blobs(60, 1))
    for options, message in (
        ({"attack": SIMA}, "runs from 0 to 1"),
        ({"seed": -1}, "seed must be an integer ≥ 0"),
        ({"device": "cpu"}, "loaded already"),
        ({"timestep": 5}, "not among the scored ones"),
        ({"fprs": (0.001,)}, "At least 1000 non-members"),
        ({"selection": "best"}, "'calibration' or 'oracle'"),
        ({"split": mia_hub.make_split(members, members[:20])}, "both members and non-members"),
        ({"split": mia_hub.make_split(members[:3], blobs(60, 1))}, "too few"),
    ):
        with pytest.raises(MiaHubError, match=message):
            mia_hub.audit(model, **({"attack": attack, "split": split, "progress": False} | options))


def test_what_chose_on_the_calibration_part_is_not_reported_on_it():
    split = mia_hub.load_split("demo", limit=24)
    model = mia_hub.load_model("demo", device="cpu")
    attack = mia_hub.get_attack("sima-cn", timesteps=(100,))
    report = mia_hub.audit(model, attack, split, timestep=100, shift_check=False, progress=False)
    assert report.scores.chosen and (report.auc.n_members, report.auc.n_nonmembers) == (12, 12)
    plain = mia_hub.audit(model, mia_hub.get_attack("sima", timesteps=(100,)), split, timestep=100, shift_check=False, progress=False)
    assert (plain.auc.n_members, plain.auc.n_nonmembers) == (24, 24)


# --- the demo ---


@pytest.fixture(scope="module")
def demo():
    return mia_hub.load_split("demo")


def test_the_demo_is_as_strong_as_its_card_says_and_its_control_is_chance(demo):

    report, control = (AuditReport.from_dict(json.loads((DEMO_FOLDER / f"{n}.json").read_text())) for n in ("audit", "held_out_audit"))
    assert report.auc.value >= 0.85
    assert report.tpr_at_fpr[0.01].value >= 0.15
    assert report.auc.n_nonmembers >= 2000
    assert "distribution-shift" not in {flag.name for flag in report.flags}
    assert control.auc.low < 0.5 < control.auc.high
    assert (control.split["name"], control.split["hash"]) == (held_out(demo).name, held_out(demo).hash)
    # The figures are those of the stored scores, recomputed.
    again = mia_hub.measure(ScoreTable.from_parquet(DEMO_FOLDER / "scores.parquet"))
    assert again.at_selected.auc == report.auc
    assert again.selection == report.selection
    card = (DEMO_FOLDER / "README.md").read_text()
    assert str(report.auc) in card and str(control.auc) in card
    assert not [path.name for path in DEMO_FOLDER.iterdir() if path.name != "README.md" and f"`{path.name}" not in card]
    assert sum(path.stat().st_size for path in DEMO_FOLDER.rglob("*") if path.is_file()) <= 20e6


def test_stored_scores_are_what_the_demo_model_gives(demo):
    table = ScoreTable.from_parquet(DEMO_FOLDER / "scores.parquet")
    rows = [0, 511, 512, 4511]
    images = [demo.images[i] for i in rows]
    assert [table.ids[i] for i in rows] == [image.id for image in images]
    model = mia_hub.load_model("demo", device="cpu")
    assert table.model["revision"] == model.info.revision
    fresh = mia_hub.get_attack("sima").score(model, images, progress=False)
    assert fresh.attack == table.attack
    np.testing.assert_allclose(fresh.scores, table.scores[rows], rtol=1e-5)


def test_members_and_nonmembers_of_the_demo_are_disjoint_and_counted(demo):
    assert (len(demo.members), len(demo.nonmembers)) == (512, 4000)
    members, others = ({image.id for image in part} for part in (demo.members, demo.nonmembers))
    assert (len(members), len(others)) == (512, 4000)
    assert not members & others
