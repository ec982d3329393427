"""From entries to rows, with answers known beforehand."""

import json

import pytest
from support.made_entries import entry_of, honest_entry
from support.made_requests import COMMIT

from leaderboard.page import columns, tables
from leaderboard.page.standings import standings_of
from leaderboard.results import board_rows, ranking
from leaderboard.results.reader import Results


def test_what_fails_the_shift_check_is_never_ranked():
    ranked, apart = board_rows.ranked_and_apart([entry_of("a/m", "s", {"sima": 0.9}), entry_of("b/n", "t", {"sima": 1.0}, shifted=True)])
    assert [e["model"]["id"] for e in ranked] == ["a/m"] and [e["model"]["id"] for e in apart] == ["b/n"]
    assert {row["split"]: row["shift_check"] for row in board_rows.split_summaries([*ranked, *apart])} == {"s": "passes", "t": "fails"}


def test_a_split_that_any_entry_flags_is_apart_in_all_of_them_and_so_is_one_that_was_not_checked():
    flagged, passed = entry_of("a/m", "s", {"sima": 0.9}, shifted=True), entry_of("b/n", "s", {"pia": 0.9}, id="f" * 16)
    small, fine = entry_of("a/m", "small", {"sima": 1.0}) | {"blind_auc": None}, entry_of("a/m", "fine", {"sima": 0.6})
    for entries in ([flagged, passed, small, fine], [fine, small, passed, flagged]):
        ranked, apart = board_rows.ranked_and_apart(entries)
        assert ranked == [fine] and len(apart) == 3
    now = standings_of(Results((flagged, passed, small, fine)))
    output = {(row["split"], row["attack"]): row["shift_check"] for row in now.rows_apart if row["auc"]}
    assert output == {("s", "sima"): "fails", ("s", "pia"): "fails", ("small", "sima"): "not checked"}
    table = json.loads(tables.rows_table(columns.APART, now.rows_apart, "name", ""))
    place = [column["key"] for column in table["columns"]].index("shift_check")
    assert {row[place] for row in table["rows"]} == {"fails", "not checked", "known to differ"}


def test_the_shift_check_of_a_split_is_the_same_with_every_seed(tiny_model, tiny_split):
    from mia_hub import audit, compare, load_split

    options = {"model": tiny_model, "split": load_split(tiny_split), "progress": False}
    intervals = {audit(attack="random", seed=seed, **options).blind_auc for seed in (0, 1)}
    assert (
        intervals | {compare(attacks=["random"], seed=2, **options).blind_auc} == intervals
        and len(intervals) == 1
        and None not in intervals
    )


@pytest.mark.parametrize("computed, message", [({}, "not yet"), ({"mine": 0.71}, "yes"), ({"mine": 0.8}, "no")])
def test_reported_figures_stand_beside_computed_ones_and_rank_nothing(computed, message):
    entries = [entry_of("a/m", "s", {"mine": 0.7}, origin="self-reported", id="f" * 16)]
    entries += [entry_of("a/m", "s", computed)] if computed else []
    (row,) = board_rows.board_rows(entries)
    assert row["reproduced"] == message and row["reported"]["auc"]["value"] == 0.7 and row["reported"]["by"] == "alice"
    assert (row["auc"] or {}).get("value") == computed.get("mine")
    assert [each["attack"] for each in ranking.attack_ranking(entries)] == list(computed)


@pytest.mark.parametrize(
    "name, requested, described, intervals",
    [("demo", None, "demo", "sha256:0"), (f"a/base + b/lora@{COMMIT}", COMMIT, f"a/base + b/lora@{COMMIT}", f"{COMMIT} + {COMMIT}")],
)
def test_what_was_reported_of_a_model_meets_what_was_computed_of_it(name, requested, described, intervals):
    request = {"submitter": "alice", "model": name, "revision": requested}
    computed = entry_of(name, "s", {"mine": 0.7}) | {"request": request, "model": {"id": described, "revision": intervals}}
    reported = entry_of(name, "s", {"mine": 0.71}, origin="self-reported", id="f" * 16)
    reported |= {"request": request, "model": {"id": name, "revision": requested}}
    (row,) = board_rows.board_rows([reported, computed])
    assert row["reproduced"] == "yes" and (row["model"], row["revision"]) == (name, requested or "")


@pytest.mark.parametrize("computed", [{}, {"mine": 0.71}])
def test_nobody_takes_the_place_of_what_another_reports(computed):
    def by(who, value, created):
        entry = entry_of("a/m", "s", {"mine": value}, origin="self-reported", created=created, id=who * 8)
        return entry | {"request": entry["request"] | {"submitter": who}}

    entries = [by("aa", 0.7, "2026-01-01"), by("bb", 0.99, "2026-03-01"), by("aa", 0.72, "2026-02-01")]
    entries += [entry_of("a/m", "s", computed)] if computed else []
    for order in (entries, entries[::-1]):
        rows = {row["reported"]["by"]: row for row in board_rows.board_rows(order)}
        assert {who: row["reported"]["auc"]["value"] for who, row in rows.items()} == {"aa": 0.72, "bb": 0.99}
        assert {who: row["reproduced"] for who, row in rows.items()} == (
            {"aa": "yes", "bb": "no"} if computed else dict.fromkeys(("aa", "bb"), "not yet")
        )
        assert [who for who, row in rows.items() if row["auc"]] == (["aa"] if computed else [])
        assert [each["settings"] for each in ranking.attack_ranking(order)] == [1] * len(computed)
        assert [columns.REPORTED_BY.of(row) for row in rows.values()] == list(rows)


def test_the_newest_of_two_computations_counts():
    entries = [entry_of("a/m", "s", {"sima": 0.6}, created="2026-02-01"), entry_of("a/m", "s", {"sima": 0.9}, created="2026-01-01")]
    assert [row["auc"]["value"] for row in board_rows.board_rows(entries)] == [0.6]


def test_captions_that_differ_are_rows_that_differ(tmp_path):
    own, _ = honest_entry(tmp_path)
    empty, _ = honest_entry(tmp_path, captions="empty")
    assert len(board_rows.board_rows([own, empty])) == 2 * len(board_rows.board_rows([own]))
    assert {row["settings"] for row in ranking.attack_ranking([own, empty])} == {2}
