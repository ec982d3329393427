"""What the board reads and leaves out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.made_entries import honest_entry, put_entry, read_store

import leaderboard
from leaderboard.config import ENTRIES_FOLDER
from leaderboard.requests.request import Request
from leaderboard.results.index import FILE, read_index
from leaderboard.results.reader import ResultsReader
from leaderboard.stores.folder_store import ReadOnlyFolder
from leaderboard.stores.opening import open_store
from leaderboard.stores.store import as_json

ROOT = Path(leaderboard.__file__).parent.parent


def test_entries_of_both_places_are_read_and_nothing_is_made_in_them(store, tmp_path, one, other):
    put_entry(store, *one)
    shipped = tmp_path / "shipped"
    for path, content in other[1].items():
        target = shipped / "results" / other[0]["id"] / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    results = ResultsReader(store.folder, shipped).read()
    assert {entry["id"] for entry in results.entries} == {one[0]["id"], other[0]["id"]} and not results.omitted and results.problem is None
    assert results.entry(one[0]["id"]) == one[0] and results.read(other[0]["id"], "scores/00.parquet") == other[1]["scores/00.parquet"]
    assert not (shipped / ".store").exists()
    # The same entry in both places is one; a different one of the same id is said.
    put_entry(store, *other)
    assert len(ResultsReader(store.folder, shipped).read().entries) == 2
    changed = other[0] | {"command": "echo"}
    put_entry(store, changed, other[1] | {"entry.json": as_json(changed)})
    results = ResultsReader(store.folder, shipped).read()
    assert results.entry(other[0]["id"]) == other[0] and [omitted.id for omitted in results.omitted] == [other[0]["id"]]
    assert "differs from the entry of this id" in results.omitted[0].reason


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
    results = ResultsReader(store.folder).read()
    assert [omitted.id for omitted in results.omitted] == [SHIPPED_ONE] * left_out and results.entry(SHIPPED_ONE) == shipped


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
    results = read_store(store)
    assert [entry["id"] for entry in results.entries] == [one[0]["id"]]
    assert {written[omitted.id] for omitted in results.omitted} == set(BROKEN)
    assert all(omitted.reason and str(store) == omitted.where for omitted in results.omitted)


def test_an_entry_whose_attack_is_not_known_any_more_stays(store, tmp_path):
    entry, files = honest_entry(tmp_path, strengths={"sima": 1.0})
    request = Request(**entry["request"] | {"attacks": ("an-attack-of-before",)})
    entry |= {"id": request.id, "request": request.to_dict()}
    put_entry(store, entry, files | {"entry.json": as_json(entry)})
    assert [results["id"] for results in read_store(store).entries] == [request.id]


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
    results = ResultsReader("hub:alice/never-there", ENTRIES_FOLDER).read()
    assert results.problem and "alice/never-there" in results.problem
    store = open_store("hub:alice/short", token="hf_alice")
    put_entry(store, *one)
    reader = ResultsReader("hub:alice/short", None, check_every=0)
    assert len(reader.read().entries) == 1
    loopback_hub.delete_repo("dataset", "alice/short")
    results = reader.read()
    assert results.problem and [entry["id"] for entry in results.entries] == [one[0]["id"]]


def test_the_index_is_a_copy(store, one, other):
    put_entry(store, *one)
    put_entry(store, *other, index=False)
    assert set(read_index(store)) == {one[0]["id"]} and len(read_store(store).entries) == 2
    # What is in the index alone is said; an index that can't be read is done without.
    store.commit({f"results/{one[0]['id']}/entry.json": None}, "gone", parent=store.version())
    results = read_store(store)
    assert [entry["id"] for entry in results.entries] == [other[0]["id"]] and "its files are gone" in results.omitted[0].reason
    for broken in (b"PAR1", b""):
        store.commit({FILE: broken}, "broken", parent=store.version())
        assert [entry["id"] for entry in read_store(store).entries] == [other[0]["id"]]
    put_entry(store, *one)
    assert one[0]["id"] in read_index(store) and len(read_store(store).entries) == 2


def test_reading_and_ranking_need_neither_torch_nor_gradio():
    rooms = ["results.reader", "results.ranking", "results.claims", "page.tables", "page.standings", "page.entry_page", "verify"]
    code = "\n".join(f"import leaderboard.{room}" for room in rooms)
    code += "\nfrom leaderboard.page.standings import leaderboard\nleaderboard()\nimport sys, json; print(json.dumps(list(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = {name.split(".")[0] for name in json.loads(out.stdout.splitlines()[-1])}
    assert not loaded & {"torch", "gradio", "diffusers", "transformers", "datasets"}
