"""Entries: their format, bounds and command."""

import json
import shlex

import pytest
from support.board_setting import add_model_and_split, write_request
from support.made_entries import estimate
from support.made_requests import COMMIT, DEMO_REQUEST

from leaderboard.errors import StoreError
from leaderboard.requests.request import Request
from leaderboard.results.entry import build_entry, build_row, parse_entry, reproduction_command
from leaderboard.results.recomputation import discrepancies
from leaderboard.stores.store import as_json
from leaderboard.worker.evaluate import Environment, evaluate
from mia_hub.auditing.measurement import measure
from mia_hub.auditing.report import AuditReport, Cost
from mia_hub.cli import parser as cli
from mia_hub.cli.parser import build_parser
from mia_hub.flags import flag


@pytest.fixture
def honest(table, tmp_path):
    """An honest entry, and the content of its scores."""
    measured = measure(table, seed=0)
    at = measured.at_selected
    report = AuditReport(
        attack="SimA()", model=table.model, split={"name": "demo", "hash": "sha256:1"}, selection=measured.selection, auc=at.auc,
        asr=at.asr, tpr_at_fpr=at.tpr_at_fpr, per_timestep=measured.rows, roc=measured.roc, blind_auc=None, flags=measured.flags,
        cost=Cost(1, 1, 1.0, 1.0, None), provenance={"created": "2026"}, scores=table,
    )  # fmt: skip
    table.to_parquet(tmp_path / "made.parquet")
    content = (tmp_path / "made.parquet").read_bytes()
    row = build_row("sima", report, "scores/00.parquet", content, access="gray", queries=1)
    parts = {
        "model": report.model,
        "split": report.split,
        "blind": None,
        "flags": [flag("duplicates", "x")],
        "provenance": {"created": "2026"},
    }
    return build_entry(Request.from_dict(DEMO_REQUEST), [row], **parts), content


def test_an_honest_entry_follows_from_its_scores(honest):
    entry, content = honest
    parsed = parse_entry(as_json(entry), entry["id"])
    assert parsed == entry and discrepancies(parsed, {"scores/00.parquet": content}.__getitem__) == []
    assert entry["command"] == "mia-hub compare --model demo --split demo --attacks sima --seed 0"


def test_a_command_names_the_request_at_its_commits():
    fields = DEMO_REQUEST | {
        "model": "alice/m",
        "revision": COMMIT,
        "split": "alice/s",
        "split_revision": COMMIT[::-1],
        "captions": "empty",
    }
    words = shlex.split(reproduction_command(Request.from_dict(fields)))
    args = build_parser().parse_args(words[1:])
    assert (args.model, args.revision, args.split, args.split_revision) == ("alice/m", COMMIT, "alice/s", COMMIT[::-1])
    assert (args.attacks, args.captions, args.seed) == (["sima"], "empty", 0)
    assert build_parser().parse_args(["audit", "--split-revision", "main"]).split_revision == "main"


def forged(entry, **changes):
    return entry | {"rows": [entry["rows"][0] | changes]}


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda e: forged(e, auc=e["rows"][0]["auc"] | {"value": 0.9, "high": 0.95}), "sima: auc (value) is"),
        (lambda e: forged(e, timestep=51), "timestep"),
        (lambda e: forged(e, sha256="0" * 64), "its scores were changed"),
        (lambda e: forged(e, scores="scores/01.parquet"), "are missing"),
        (lambda e: forged(e, tpr_at_fpr={"0.001": estimate(0.5)}), "reports TPR at"),
    ],
)
def test_figures_that_do_not_follow_are_found(honest, change, message):
    entry, content = honest
    wrong = discrepancies(change(entry), {"scores/00.parquet": content}.__getitem__)
    assert wrong and message in wrong[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda e: e | {"origin": "self-reported"},
        lambda e: e | {"id": "0" * 16},
        lambda e: e | {"schema": 2},
        lambda e: e | {"rows": []},
        lambda e: e | {"request": e["request"] | {"seed": 1}},
        lambda e: forged(e, auc=e["rows"][0]["auc"] | {"value": 1.2}),
        lambda e: forged(e, auc=e["rows"][0]["auc"] | {"low": 0.99}),
        lambda e: forged(e, queries="few"),
        lambda e: {key: value for key, value in e.items() if key != "split"},
    ],
)
def test_entries_out_of_bounds_are_refused(honest, change):
    with pytest.raises(StoreError, match="can't be understood"):
        parse_entry(as_json(change(honest[0])), honest[0]["id"])


def test_the_command_of_an_entry_reproduces_it(loopback_hub, tiny_model, tmp_path):
    commits = add_model_and_split(loopback_hub, "again", tiny_model, tmp_path / "split")
    fields = {"kind": "model", "model": "again/tiny", "split": "again/split", "attacks": ["sima:timesteps=50"], "seed": 3}
    entry = evaluate(write_request(tmp_path / "work", Request.from_dict(fields | commits)), Environment(device="cpu"))
    # The data set goes on; what was audited stays.
    loopback_hub.commit("dataset", "again/split", {"data/member-00000-of-00001.parquet": b"PAR1"})
    command = [*shlex.split(entry["command"])[1:], "--device", "cpu", "--quiet", "--out", str(tmp_path / "out")]
    assert cli.main(command) == 0
    (row,) = json.loads((tmp_path / "out" / "comparison.json").read_text())["rows"]
    assert row["report"]["auc"] == entry["rows"][0]["auc"] and row["report"]["blind_auc"] == entry["blind_auc"]
    assert row["report"]["split"] == entry["split"] and entry["split"]["revision"] == commits["split_revision"]
