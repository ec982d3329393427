"""Verification, and the entries that come with the software."""

import pytest
from support.made_entries import put_entry, read_store

from leaderboard.config import ENTRIES_FOLDER
from leaderboard.page.standings import standings_of
from leaderboard.requests.request import Request
from leaderboard.results.entry import reproduction_command
from leaderboard.results.reader import ResultsReader
from leaderboard.stores.store import as_json
from leaderboard.verify import DIFFERS, IN_ORDER, NOT_THERE, differences, main, verify


def test_verify_finds_what_does_not_follow(store, tmp_path, one, other, capsys):
    put_entry(store, *one)
    assert verify([], str(store.folder)) == IN_ORDER and f"{one[0]['id']}  ok" in capsys.readouterr().out
    entry, files = other
    forged = entry | {"rows": [entry["rows"][0] | {"auc": entry["rows"][0]["auc"] | {"value": 0.9999, "high": 1.0}}, *entry["rows"][1:]]}
    put_entry(store, forged, files | {"entry.json": as_json(forged)})
    assert main(["--results", str(store.folder)]) == DIFFERS
    output = capsys.readouterr().out
    assert f"{entry['id']}  DIFFERS" in output and "sima: auc (value) is" in output and "its report has another auc" in output
    assert main([one[0]["id"], "--results", str(store.folder)]) == IN_ORDER
    assert main(["f" * 16, "--results", str(store.folder)]) == NOT_THERE and "is not there" in capsys.readouterr().out
    for arguments in (["../x"], ["--results", str(tmp_path / "nowhere")], ["--results", "hub:alice/never-there"]):
        assert main(arguments) == NOT_THERE and "python -m leaderboard.verify: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda files: files.pop("reports/00.json"), "reports/00.json is missing"),
        (lambda files: files.update({"reports/00.json": b"{"}), "can't be read"),
        (lambda files: files.pop("scores/00.parquet"), "are missing"),
        (lambda files: files.update({"scores/00.parquet": files["scores/01.parquet"]}), "its scores were changed"),
    ],
)
def test_verify_looks_at_every_file(store, one, change, message):
    entry, files = one
    change(files)
    put_entry(store, entry, files)
    assert any(message in line for line in differences(read_store(store), entry))


def test_verify_says_where_the_index_and_the_files_differ(store, one, other, capsys):
    put_entry(store, *one)
    put_entry(store, *other, index=False)
    assert verify([], str(store.folder)) == DIFFERS and f"{other[0]['id']}: not in the index" in capsys.readouterr().out


# An entry may only leave this list together with a line in the change log that says why.
SHIPPED = (
    "18b465d01e99d0f4",
    "19069cc1b92c367a",
    "1f4e43fffdda1a11",
    "2adc9e345d7987cd",
    "3583d1d22ad75f71",
    "45758f4151edeab1",
    "62b6abd42d10bf09",
    "641cfaf2e33f7e1e",
    "846858ea18071b1d",
    "b0d405db6dc1b359",
    "d9ee68f526686fb1",
    "f1bfc8a65946901b",
    "fd13d0a3bf58580d",
)


def test_no_shipped_entry_is_gone_and_every_figure_follows_from_its_scores(tmp_path):
    results = ResultsReader(tmp_path / "none").read()
    assert tuple(entry["id"] for entry in results.entries) == SHIPPED and results.omitted == ()
    for entry in results.entries:
        assert differences(results, entry) == []
        assert entry["command"] == reproduction_command(Request.from_dict(entry["request"]))
        numbers = [f"{number:02d}" for number in range(len(entry["rows"]))]
        files = ["entry.json", *(f"reports/{n}.json" for n in numbers), *(f"scores/{n}.parquet" for n in numbers)]
        assert results.stores[entry["id"]].files(f"results/{entry['id']}") == [f"results/{entry['id']}/{path}" for path in files]
    assert sum(path.stat().st_size for path in ENTRIES_FOLDER.rglob("*") if path.is_file()) < 29 * 2**20


def test_the_shipped_entries_show_a_leak_and_chance(tmp_path):
    now = standings_of(ResultsReader(tmp_path / "none").read())
    rows = {row["attack"]: row for row in now.rows if row["auc"] is not None}
    assert rows["random"]["auc"]["low"] <= 0.5 <= rows["random"]["auc"]["high"]
    assert max(row["auc"]["low"] for row in rows.values()) > 0.9 and not now.apart
