"""Published figures beside computed ones."""

import json

import pytest

from leaderboard.page import tables
from leaderboard.page.entry_page import claim_page
from leaderboard.page.standings import standings_of
from leaderboard.results import claims
from leaderboard.results.claims import published_claims
from leaderboard.results.reader import Results

CLAIM = {"benchmark": "set-1", "title": "", "model": "their model", "model_id": None, "shifted": False, "attack": "sima", "metric": "auc",
         "value": 0.9, "source": "a paper", "positive": "members", "selection": "reported images", "note": ""}  # fmt: skip


@pytest.mark.parametrize(
    "split, model_id, attack, matches",
    [
        ("alice/set-1", None, "sima", True),
        ("benchmark set-1", None, "sima:timesteps=50,100", True),
        ("benchmark set-1, with 5 of 6 members that could be had", None, "sima", True),
        ("alice/set-1", "owner/model", "sima", True),
        ("alice/set-1", "owner/another", "sima", False),
        ("alice/set-10", None, "sima", False),
        ("alice/other", None, "sima", False),
        ("alice/set-1", None, "sima-cn", False),
    ],
)
def test_a_claim_stands_beside_its_setting_and_attack_alone(split, model_id, attack, matches):
    row = {"model": "owner/model", "split": split, "attack": attack, "auc": {"value": 0.6}}
    rows = claims.rows_with_claims([row], [CLAIM | {"model_id": model_id}])
    assert len(rows) == 2 - matches and (len(rows[0]["claimed"]) == 1) == matches
    if not matches:
        assert rows[1]["auc"] is None and rows[1]["entry"] is None and rows[1]["claimed"][0]["value"] == 0.9


def test_every_published_figure_has_its_row_and_ranks_nothing():
    claims = published_claims()
    assert len(claims) > 40 and all(0 <= claim["value"] <= 1 and claim["source"] and claim["positive"] for claim in claims)
    now = standings_of(Results(()))
    shown = [claim for row in (*now.rows, *now.rows_apart) for claim in row["claimed"]]
    assert len(shown) == len(claims) and all(claim["shifted"] for row in now.rows_apart for claim in row["claimed"])
    assert json.loads(tables.attacks_table(now.ranked, ""))["rows"] == [] == json.loads(tables.models_table(now.ranked, ""))["rows"]
    page = claim_page(now.rows[0]["claimed"])
    assert "ranks nothing" in page.html and page.command.startswith("mia-hub benchmark run ")
