"""What the board reads, leaves out, shows and verifies; and the entries that come with the software."""

import json
import shlex
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from support.board_setting import add_model_and_split
from support.made_entries import honest_entry, put_entry

import leaderboard
from leaderboard.config import ENTRIES_FOLDER
from leaderboard.errors import StoreError
from leaderboard.page import tables
from leaderboard.page.current import standing_of
from leaderboard.page.entry_page import attack_page, claim_page, entry_page, row_number
from leaderboard.requests.limits import Limits
from leaderboard.requests.request import Request
from leaderboard.results import board_rows, claims, ranking
from leaderboard.results.claims import published_claims
from leaderboard.results.entry import reproduction_command
from leaderboard.results.index import FILE, read_index
from leaderboard.results.reader import Results, ResultsReader
from leaderboard.stores.folder_store import FolderStore, ReadOnlyFolder
from leaderboard.stores.opening import open_store
from leaderboard.stores.store import as_json
from leaderboard.verify import DIFFERS, IN_ORDER, NOT_THERE, differences, main, verify
from leaderboard.worker.evaluate import Environment, evaluate
from mia_hub.cli import parser as cli

ROOT = Path(leaderboard.__file__).parent.parent
HOSTILE = "=cmd|'/C calc'!A0 <img src=x onerror=alert(1)>"


@pytest.fixture
def store(tmp_path) -> FolderStore:
    return open_store(tmp_path / "store")


@pytest.fixture
def one(tmp_path):
    return honest_entry(tmp_path)


@pytest.fixture
def other(tmp_path):
    return honest_entry(tmp_path, model="owner/other")


def read(store, **options) -> Results:
    return ResultsReader(store.folder, None, check_every=0, **options).read()


# Reading


def test_entries_of_both_places_are_read_and_nothing_is_made_in_them(store, tmp_path, one, other):
    put_entry(store, *one)
    shipped = tmp_path / "shipped"
    for path, content in other[1].items():
        target = shipped / "results" / other[0]["id"] / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    found = ResultsReader(store.folder, shipped).read()
    assert {entry["id"] for entry in found.entries} == {one[0]["id"], other[0]["id"]} and not found.omitted and found.problem is None
    assert found.entry(one[0]["id"]) == one[0] and found.read(other[0]["id"], "scores/00.parquet") == other[1]["scores/00.parquet"]
    assert not (shipped / ".store").exists()
    # The same entry in both places is one; a different one of the same id is said.
    put_entry(store, *other)
    assert len(ResultsReader(store.folder, shipped).read().entries) == 2
    changed = other[0] | {"command": "echo"}
    put_entry(store, changed, other[1] | {"entry.json": as_json(changed)})
    found = ResultsReader(store.folder, shipped).read()
    assert found.entry(other[0]["id"]) == other[0] and [left.id for left in found.omitted] == [other[0]["id"]]
    assert "differs from the entry of this id" in found.omitted[0].reason


SHIPPED_ONE = "d9ee68f526686fb1"


def again_elsewhere(entry):
    """A user's own run of it: later, on another machine, by somebody, with its scores in another file."""
    row = entry["rows"][0] | {"sha256": "0" * 64, "auc": entry["rows"][0]["auc"] | {"value": entry["rows"][0]["auc"]["value"] + 1e-6}}
    provenance = entry["provenance"] | {"created": "2027-01-01", "device": "cuda"}
    return entry | {"provenance": provenance, "request": entry["request"] | {"submitter": "me", "submitted": "2027"}, "rows": [row]}


@pytest.mark.parametrize(
    "change, left_out",
    [
        (lambda entry: entry, False),
        (lambda entry: entry | {"rows": [entry["rows"][0] | {"auc": entry["rows"][0]["auc"] | {"value": 0.935}}]}, True),
        (lambda entry: entry | {"rows": [entry["rows"][0] | {"timestep": 99}]}, True),
        (lambda entry: entry | {"rows": [entry["rows"][0] | {"tpr_at_fpr": {}}]}, True),
        (lambda entry: entry | {"rows": entry["rows"] * 2}, True),
        (lambda entry: entry | {"blind_auc": None}, True),
        (lambda entry: entry | {"split": entry["split"] | {"hash": "sha256:0"}}, True),
    ],
)
def test_a_shipped_entry_that_was_computed_again_is_no_problem(store, change, left_out):
    shipped = ReadOnlyFolder(ENTRIES_FOLDER).read_json(f"results/{SHIPPED_ONE}/entry.json")
    put_entry(store, shipped, {"entry.json": as_json(change(again_elsewhere(shipped)))})
    found = ResultsReader(store.folder).read()
    assert [left.id for left in found.omitted] == [SHIPPED_ONE] * left_out and found.entry(SHIPPED_ONE) == shipped


def test_a_folder_that_is_not_there_is_empty_and_is_not_made(tmp_path):
    found = ResultsReader(tmp_path / "none", None).read()
    assert found.entries == () and found.problem is None and not (tmp_path / "none").exists()
    with pytest.raises(StoreError, match="only read"):
        ReadOnlyFolder(tmp_path).commit({"a": b""}, "", parent="")


def changed(entry, **changes) -> bytes:
    return json.dumps(entry | changes).encode()


def row_changed(entry, **changes) -> bytes:
    return changed(entry, rows=[entry["rows"][0] | changes])


BROKEN = {
    "no JSON": lambda e: b"\x80\x04pickle",
    "empty": lambda e: b"",
    "nested": lambda e: b"[" * 100_000,
    "a list": lambda e: b"[]",
    "another id": lambda e: changed(e, id="0" * 16),
    "another request": lambda e: changed(e, request=e["request"] | {"seed": 3}),
    "another schema": lambda e: changed(e, schema=99),
    "another origin": lambda e: changed(e, origin="self-reported"),
    "no rows": lambda e: changed(e, rows=[]),
    "a thousand rows": lambda e: changed(e, rows=e["rows"] * 500),
    "NaN": lambda e: row_changed(e, auc=e["rows"][0]["auc"] | {"value": float("nan")}),
    "out of bounds": lambda e: row_changed(e, auc=e["rows"][0]["auc"] | {"high": 1.5}),
    "a figure of text": lambda e: row_changed(e, auc=e["rows"][0]["auc"] | {"value": "0.9"}),
    "a figure of a list": lambda e: row_changed(e, auc=[0.9]),
    "no images": lambda e: row_changed(e, auc=e["rows"][0]["auc"] | {"n_members": 0}),
    "a long attack": lambda e: row_changed(e, attack="x" * 5000),
    "an attack that turns the text around": lambda e: row_changed(e, attack="sima\u202e"),
    "an attack that is none": lambda e: row_changed(e, attack=None),
    "a path out of the entry": lambda e: row_changed(e, scores="../../secret"),
    "access": lambda e: row_changed(e, access="<b>"),
    "queries": lambda e: row_changed(e, queries="1"),
    "a model without a name": lambda e: changed(e, model={"id": 3}),
    "a split without a hash": lambda e: changed(e, split={"name": "x"}),
    "a note that turns the text around": lambda e: changed(e, split=e["split"] | {"notes": ["sima\u202e"]}),
    "flags of text": lambda e: changed(e, flags="distribution-shift"),
    "provenance": lambda e: changed(e, provenance=[]),
}


@pytest.mark.parametrize("index", [True, False], ids=["indexed", "by hand"])
def test_broken_and_hostile_entries_are_left_out_and_said(store, tmp_path, one, index):
    put_entry(store, *one)
    written = {}
    for number, (case, change) in enumerate(BROKEN.items()):
        entry, files = honest_entry(tmp_path, model=f"owner/broken-{number}", strengths={"sima": 1.0})
        content = change(entry)
        if index and case == "no JSON":
            content = b"no JSON"  # an index holds text
        put_entry(store, entry, files | {"entry.json": content}, index=index)
        written[entry["id"]] = case
    found = read(store)
    assert [entry["id"] for entry in found.entries] == [one[0]["id"]]
    assert {written[left.id] for left in found.omitted} == set(BROKEN)
    assert all(left.reason and str(store) == left.where for left in found.omitted)


def test_an_entry_whose_attack_is_not_known_any_more_stays(store, tmp_path):
    entry, files = honest_entry(tmp_path, strengths={"sima": 1.0})
    request = Request(**entry["request"] | {"attacks": ("an-attack-of-before",)})
    entry |= {"id": request.id, "request": request.to_dict()}
    put_entry(store, entry, files | {"entry.json": as_json(entry)})
    assert [found["id"] for found in read(store).entries] == [request.id]


def test_only_what_changed_is_read_again(store, one, other):
    put_entry(store, *one)
    reader = ResultsReader(store.folder, None, check_every=0)
    first = reader.read()
    assert reader.read().version == first.version and reader.read().entries[0] is first.entries[0]
    put_entry(store, *other)
    assert len(reader.read().entries) == 2 and reader.read().version != first.version
    patient = ResultsReader(store.folder, None, check_every=600)
    assert patient.read() is patient.read()


def test_many_entries_on_the_hub_take_few_requests(loopback_hub, tmp_path):
    store = open_store("hub:alice/many", token="hf_alice")
    changes, ids = {}, []
    for number in range(40):
        entry, files = honest_entry(tmp_path, model=f"owner/model-{number}", strengths={"sima": 1.0})
        changes |= {f"results/{entry['id']}/{path}": content for path, content in files.items()}
        ids.append(entry["id"])
    from leaderboard.results.index import index_of

    index = index_of({id: changes[f"results/{id}/entry.json"] for id in ids})
    store.commit(changes | {FILE: index}, "all", parent=store.version())
    reader, before = ResultsReader("hub:alice/many", None, check_every=0), len(loopback_hub.log)
    assert {entry["id"] for entry in reader.read().entries} == set(ids)
    assert len(loopback_hub.log) - before < 15
    before = len(loopback_hub.log)
    reader.read()
    assert len(loopback_hub.log) - before <= 1
    assert reader.read().read(ids[0], "reports/00.json") == changes[f"results/{ids[0]}/reports/00.json"]
    loopback_hub.delete_repo("dataset", "alice/many")


def test_a_store_that_cannot_be_reached_is_said_and_what_was_read_stays(loopback_hub, tmp_path, one):
    found = ResultsReader("hub:alice/never-there", ENTRIES_FOLDER).read()
    assert found.problem and "alice/never-there" in found.problem
    store = open_store("hub:alice/short", token="hf_alice")
    put_entry(store, *one)
    reader = ResultsReader("hub:alice/short", None, check_every=0)
    assert len(reader.read().entries) == 1
    loopback_hub.delete_repo("dataset", "alice/short")
    found = reader.read()
    assert found.problem and [entry["id"] for entry in found.entries] == [one[0]["id"]]


def test_the_index_is_a_copy(store, one, other):
    put_entry(store, *one)
    put_entry(store, *other, index=False)
    assert set(read_index(store)) == {one[0]["id"]} and len(read(store).entries) == 2
    # What is in the index alone is said; an index that can't be read is done without.
    store.commit({f"results/{one[0]['id']}/entry.json": None}, "gone", parent=store.version())
    found = read(store)
    assert [entry["id"] for entry in found.entries] == [other[0]["id"]] and "its files are gone" in found.omitted[0].reason
    for broken in (b"PAR1", b""):
        store.commit({FILE: broken}, "broken", parent=store.version())
        assert [entry["id"] for entry in read(store).entries] == [other[0]["id"]]
    put_entry(store, *one)
    assert one[0]["id"] in read_index(store) and len(read(store).entries) == 2


def test_reading_and_ranking_need_neither_torch_nor_gradio():
    rooms = ["results.reader", "results.ranking", "results.claims", "page.tables", "page.current", "page.entry_page", "verify"]
    code = "\n".join(f"import leaderboard.{room}" for room in rooms)
    code += "\nfrom leaderboard.page.current import leaderboard\nleaderboard()\nimport sys, json; print(json.dumps(list(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = {name.split(".")[0] for name in json.loads(out.stdout.splitlines()[-1])}
    assert not loaded & {"torch", "gradio", "diffusers", "transformers", "datasets"}


# Claims, and what is shown of rows


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
    now = standing_of(Results(()))
    shown = [claim for row in (*now.rows, *now.rows_apart) for claim in row["claimed"]]
    assert len(shown) == len(claims) and all(claim["shifted"] for row in now.rows_apart for claim in row["claimed"])
    assert json.loads(tables.attacks_table(now.ranked, ""))["rows"] == [] == json.loads(tables.models_table(now.ranked, ""))["rows"]
    page = claim_page(now.rows[0]["claimed"])
    assert "ranks nothing" in page.html and page.command.startswith("mia-hub benchmark run ")


def test_captions_that_differ_are_rows_that_differ(tmp_path):
    told, _ = honest_entry(tmp_path)
    empty, _ = honest_entry(tmp_path, captions="empty")
    assert len(board_rows.board_rows([told, empty])) == 2 * len(board_rows.board_rows([told]))
    assert {row["settings"] for row in ranking.attack_ranking([told, empty])} == {2}


def test_tables_have_numbers_in_their_cells_and_a_link_to_the_entry(tmp_path):
    entry, _ = honest_entry(tmp_path)
    shifted, _ = honest_entry(tmp_path, name="shifted", shifted=True)
    reported, _ = honest_entry(tmp_path, kind="scores", strengths={HOSTILE: 1.0}, submitter="alice")
    now = standing_of(Results((entry, shifted, reported)))
    table = json.loads(tables.rows_table(tables.ALL_ROWS, now.rows, "name", ""))
    keys = [column["key"] for column in table["columns"]]
    rows = {row[keys.index("attack")]: dict(zip(keys, row)) for row in table["rows"] if row[0] == "owner/model"}
    assert set(rows) == {"sima", "random", HOSTILE}
    auc = entry["rows"][0]["auc"]
    assert rows["sima"]["auc"] == [round(auc[part], 6) for part in ("value", "low", "high")]
    assert rows[HOSTILE]["auc"] is None and rows[HOSTILE]["self_reported"] and rows[HOSTILE]["reproduced"] == "not yet"
    links = [link for link, row in zip(table["links"], table["rows"]) if row[keys.index("attack")] == HOSTILE]
    assert links == [f"entry={reported['id']}"]
    apart = json.loads(tables.rows_table(tables.APART, now.rows_apart, "name", ""))
    assert [link for link in apart["links"] if link.startswith("entry")] == [f"entry={shifted['id']}"] * 2
    ranked = json.loads(tables.attacks_table(now.ranked, ""))["rows"]
    assert [row[:2] for row in ranked] == [[1, "sima"], [2, "random"]]
    programs = tables.for_programs(now.rows[0])
    assert programs["auc"] == auc and json.loads(json.dumps(programs)) == programs


def test_the_command_of_an_entry_makes_it_again(loopback_hub, tiny_pixel_repo, tmp_path):
    commits = add_model_and_split(loopback_hub, "again", tiny_pixel_repo(), tmp_path / "split")
    asked = {"kind": "model", "model": "again/tiny", "split": "again/split", "attacks": ["sima:timesteps=50"], "seed": 3}
    work = tmp_path / "work"
    work.mkdir()
    (work / "request.json").write_bytes(as_json(asked | commits))
    (work / "limits.json").write_bytes(as_json(asdict(Limits()) | {"banned": []}))
    entry = evaluate(work, Environment(device="cpu"))
    # The data set goes on; what was audited stays.
    loopback_hub.commit("dataset", "again/split", {"data/member-00000-of-00001.parquet": b"PAR1"})
    command = [*shlex.split(entry["command"])[1:], "--device", "cpu", "--quiet", "--out", str(tmp_path / "out")]
    assert cli.main(command) == 0
    (row,) = json.loads((tmp_path / "out" / "comparison.json").read_text())["rows"]
    assert row["report"]["auc"] == entry["rows"][0]["auc"] and row["report"]["blind_auc"] == entry["blind_auc"]
    assert row["report"]["split"] == entry["split"] and entry["split"]["revision"] == commits["split_revision"]


# The page of an entry


def test_a_page_has_the_report_and_obeys_nothing_in_it(store, tmp_path):
    entry, files = honest_entry(
        tmp_path, kind="scores", strengths={HOSTILE: 1.0}, submitter="<i>alice</i>", note="<script>alert(1)</script>"
    )
    entry["split"]["notes"] = ["3 of the 9 members are missing.", "<b>beware</b>"]
    files["entry.json"] = as_json(entry)
    put_entry(store, entry, files)
    results = read(store)
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
    first, second = (entry_page(read(store), entry["id"], row).html for row in (0, 1))
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
    page = entry_page(read(store), entry["id"], 0)
    assert "mia-problem" in page.html and "<svg" not in page.html and "<b>" not in page.html


# Verification


def test_verify_finds_what_does_not_follow(store, tmp_path, one, other, capsys):
    put_entry(store, *one)
    assert verify([], str(store.folder)) == IN_ORDER and f"{one[0]['id']}  ok" in capsys.readouterr().out
    entry, files = other
    forged = entry | {"rows": [entry["rows"][0] | {"auc": entry["rows"][0]["auc"] | {"value": 0.9999, "high": 1.0}}, *entry["rows"][1:]]}
    put_entry(store, forged, files | {"entry.json": as_json(forged)})
    assert main(["--results", str(store.folder)]) == DIFFERS
    said = capsys.readouterr().out
    assert f"{entry['id']}  DIFFERS" in said and "sima: auc (value) is" in said and "its report has another auc" in said
    assert main([one[0]["id"], "--results", str(store.folder)]) == IN_ORDER
    assert main(["f" * 16, "--results", str(store.folder)]) == NOT_THERE and "is not there" in capsys.readouterr().out
    for arguments in (["../x"], ["--results", str(tmp_path / "nowhere")], ["--results", "hub:alice/never-there"]):
        assert main(arguments) == NOT_THERE and "python -m leaderboard.verify: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda files: files.pop("reports/00.json"), "reports/00.json is missing"),
        (lambda files: files.update({"reports/00.json": b"{"}), "can't be read"),
        (lambda files: files.pop("scores/00.parquet"), "are missing"),
        (lambda files: files.update({"scores/00.parquet": files["scores/01.parquet"]}), "its scores were changed"),
    ],
)
def test_verify_looks_at_every_file(store, one, change, says):
    entry, files = one
    change(files)
    put_entry(store, entry, files)
    assert any(says in line for line in differences(read(store), entry))


def test_verify_says_where_the_index_and_the_files_differ(store, one, other, capsys):
    put_entry(store, *one)
    put_entry(store, *other, index=False)
    assert verify([], str(store.folder)) == DIFFERS and f"{other[0]['id']}: not in the index" in capsys.readouterr().out


# The entries that come with the software

# An entry may only leave this list together with a line in the change log that says why.
SHIPPED = (
    "18b465d01e99d0f4",
    "1f4e43fffdda1a11",
    "62b6abd42d10bf09",
    "846858ea18071b1d",
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
    assert sum(path.stat().st_size for path in ENTRIES_FOLDER.rglob("*") if path.is_file()) < 12 * 2**20


def test_the_shipped_entries_show_a_leak_and_chance(tmp_path):
    now = standing_of(ResultsReader(tmp_path / "none").read())
    rows = {row["attack"]: row for row in now.rows if row["auc"] is not None}
    assert rows["random"]["auc"]["low"] <= 0.5 <= rows["random"]["auc"]["high"]
    assert max(row["auc"]["low"] for row in rows.values()) > 0.9 and not now.apart
