"""The page of an entry, and what the tables are drawn from."""

import json
from pathlib import Path

import pytest
from support.made_entries import honest_entry, put_entry, read_store

from leaderboard.page import columns, tables
from leaderboard.page.entry_page import attack_page, entry_page, row_number
from leaderboard.page.standings import standings_of
from leaderboard.results import board_rows
from leaderboard.results.reader import Results
from leaderboard.stores.store import as_json

HOSTILE = "=cmd|'/C calc'!A0 <img src=x onerror=alert(1)>"


def test_tables_have_numbers_in_their_cells_and_a_link_to_the_entry(tmp_path):
    entry, _ = honest_entry(tmp_path)
    shifted, _ = honest_entry(tmp_path, name="shifted", shifted=True)
    reported, _ = honest_entry(tmp_path, kind="scores", strengths={HOSTILE: 1.0}, submitter="alice")
    now = standings_of(Results((entry, shifted, reported)))
    table = json.loads(tables.rows_table(columns.ALL_ROWS, now.rows, "name", ""))
    keys = [column["key"] for column in table["columns"]]
    rows = {row[keys.index("attack")]: dict(zip(keys, row)) for row in table["rows"] if row[0] == "owner/model"}
    assert set(rows) == {"sima", "random", HOSTILE}
    auc = entry["rows"][0]["auc"]
    assert rows["sima"]["auc"] == [round(auc[part], 6) for part in ("value", "low", "high")]
    assert rows[HOSTILE]["auc"] is None and rows[HOSTILE]["self_reported"] and rows[HOSTILE]["reproduced"] == "not yet"
    links = [link for link, row in zip(table["links"], table["rows"]) if row[keys.index("attack")] == HOSTILE]
    assert links == [f"entry={reported['id']}"]
    apart = json.loads(tables.rows_table(columns.APART, now.rows_apart, "name", ""))
    assert [link for link in apart["links"] if link.startswith("entry")] == [f"entry={shifted['id']}"] * 2
    ranked = json.loads(tables.attacks_table(now.ranked, ""))["rows"]
    assert [row[:2] for row in ranked] == [[1, "sima"], [2, "random"]]
    programs = tables.for_programs(now.rows[0])
    assert programs["auc"] == auc and json.loads(json.dumps(programs)) == programs


def test_a_page_has_the_report_and_obeys_nothing_in_it(store, tmp_path):
    entry, files = honest_entry(
        tmp_path, kind="scores", strengths={HOSTILE: 1.0}, submitter="<i>alice</i>", note="<script>alert(1)</script>"
    )
    entry["split"]["notes"] = ["3 of the 9 members are missing.", "<b>beware</b>"]
    files["entry.json"] = as_json(entry)
    put_entry(store, entry, files)
    results = read_store(store)
    page = entry_page(results, entry["id"], row_number(entry, HOSTILE))
    assert "3 of the 9 members are missing." in page.html and "&lt;b&gt;beware" in page.html and "<b>beware" not in page.html
    assert "<img src=x" not in page.html and "<script>" not in page.html and "<i>alice" not in page.html
    assert "&lt;script&gt;" in page.html and "Self-reported" in page.html and page.html.count("<svg") == 2
    assert page.command == f"python -m leaderboard.verify {entry['id']}"
    for name in ("Scores (Parquet)", "Entry (JSON)", "Report (JSON)", "Report (HTML)"):
        assert f">{name}</a>" in page.html


def test_what_is_too_large_for_a_link_is_named_and_not_read(store, one, monkeypatch):
    entry, files = one
    put_entry(store, entry, files | {"scores/00.parquet": bytes(2 * 2**20), "reports/01.json": bytes(2 * 2**20)})
    monkeypatch.setattr("leaderboard.page.entry_page.LARGEST_LINK", 2**20)
    read_bytes, sizes = Path.read_bytes, []
    monkeypatch.setattr(Path, "read_bytes", lambda path: sizes.append(path.stat().st_size) or read_bytes(path))
    first, second = (entry_page(read_store(store), entry["id"], row).html for row in (0, 1))
    assert f"Scores (Parquet): more than 1 MiB, results/{entry['id']}/scores/00.parquet in the folder" in first
    assert "mia-problem" in second and sizes and max(sizes) < 2**20


def test_the_page_of_an_attack_names_its_settings(tmp_path):
    entries = [honest_entry(tmp_path, name=name)[0] for name in ("a", "b")]
    page = attack_page([row for row in board_rows.board_rows(entries) if row["attack"] == "sima"], "sima")
    assert page.html.count("?entry=") == 2 and "owner/model on data/b" in page.html and not page.command


@pytest.mark.parametrize(
    "report",
    [
        None,
        b"no JSON",
        b"[]",
        b"[" * 100_000,
        lambda values: values | {"auc": values["auc"] | {"value": 0.99}},
        lambda values: {key: value for key, value in values.items() if key != "cost"},
        lambda values: values | {"roc": {"fpr": ["<b>"], "tpr": [1]}},
        lambda values: values | {"provenance": "x", "flags": [{"name": 1, "raised_by": 2, "meaning": 3}]},
    ],
)
def test_a_report_that_is_forged_or_broken_is_not_shown(store, tmp_path, one, report):
    entry, files = one
    values = json.loads(files.pop("reports/00.json"))
    if report is not None:
        files["reports/00.json"] = report if isinstance(report, bytes) else json.dumps(report(values)).encode()
    put_entry(store, entry, files)
    page = entry_page(read_store(store), entry["id"], 0)
    assert "mia-problem" in page.html and "<svg" not in page.html and "<b>" not in page.html
