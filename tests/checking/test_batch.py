"""The answers about a folder of images: the table, the findings, and the document to be filed."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from support.made_reports import NASTY, Text, a_check, doubtful, evidence

from mia_hub.checking.batch import COLUMNS, MOST_NAMED, Batch, CheckedFile, counts, findings, findings_text
from mia_hub.checking.batch_filing import MOST_SHOWN, batch_filing
from mia_hub.checking.verdicts import NO_NULL, NOT_COMPARABLE

REFERENCE = {
    "source": "the demo's non-members", "n_nonmembers": 400, "n_compared": 400, "hash": "sha256:55", "timestep": 80,
    "timestep_chosen": "t = 80 has the highest AUC",
}  # fmt: skip
VALUES = {
    "model": {"id": "demo", "revision": "sha256:12ab"}, "attack": "SimA(timesteps=(80,))", "reference": REFERENCE,
    "provenance": {"created": "now"},
}  # fmt: skip


def checked(check, name="a.png", path=Path("gone.png"), problem="") -> CheckedFile:
    return CheckedFile(path, name, "ab" * 32, check, problem)


def a_batch(*files: CheckedFile, **fields) -> Batch:
    return Batch(**{"folder": "works", "files": files, "values": VALUES, "no_set": "A reason."} | fields)


def mixed(name: str = "a.png", problem: str = "It is damaged.") -> Batch:
    return a_batch(
        checked(evidence(q_value=0.004), name), checked(doubtful(q_value=1.0), name),
        checked(a_check(3, verdict=NOT_COMPARABLE), name), checked(None, name, problem=problem),
    )  # fmt: skip


def test_the_findings_count_every_file_by_its_answer():
    assert [row[:2] for row in counts(mixed())] == [["evidence", "1"], ["cannot tell", "1"], ["not comparable", "1"], ["unreadable", "1"]]
    assert (
        findings(mixed())[0] == "3 images checked together on the model demo: evidence of membership for 1 of the 2 that could be judged."
    )
    strange = a_batch(*2 * [checked(a_check(3, verdict=NOT_COMPARABLE))])
    assert findings(strange)[0] == "2 images checked together on the model demo: none could be judged."
    none = a_batch(checked(doubtful(q_value=1.0)), checked(doubtful(q_value=1.0)))
    assert counts(none)[0] == ["evidence", "0", ""] and "for none" in findings_text(none) and "A reason." in findings_text(none)
    unknown = a_batch(checked(a_check(3, verdict=NO_NULL, bands=False)), values=VALUES | {"reference": None})
    assert [row[0] for row in counts(unknown)] == ["no verdict"] and "None: no images are known" in Text(batch_filing(unknown)).text


@pytest.mark.parametrize(("count", "shown"), [(MOST_NAMED, 0), (MOST_NAMED + 2, 2)])
def test_the_findings_name_some_files_and_the_table_all(count, shown):
    batch = a_batch(*(checked(doubtful(q_value=1.0), f"{i}.png") for i in range(count)))
    assert ("2 more, in the table" in counts(batch)[1][2]) == bool(shown)
    text = Text(batch_filing(batch)).text
    assert all(f"{i}.png cannot tell" in text for i in range(count))


def test_the_table_is_read_back_and_runs_no_formula():
    rows = list(csv.reader(io.StringIO(mixed("=1+1.png", "=cmd, with\na line").to_csv())))
    assert tuple(rows[0]) == COLUMNS and [row[1] for row in rows[1:]] == ["evidence", "cannot tell", "not comparable", "unreadable"]
    assert {row[0] for row in rows[1:]} == {"'=1+1.png"} and rows[-1][-1] == "'=cmd, with\na line"
    assert float(rows[1][2]) == pytest.approx(evidence().p_value) and float(rows[1][4]) == pytest.approx(evidence().score)
    assert float(rows[3][4]) < 0, "numbers stay numbers"


def test_text_from_outside_never_becomes_markup():
    hostile = replace(
        mixed(NASTY, NASTY), folder=NASTY, left_out=(NASTY,), no_set=NASTY, values=VALUES | {"attack": NASTY, "model": {"id": NASTY}}
    )
    assert {"script", "a"}.isdisjoint(Text(batch_filing(hostile, {NASTY: NASTY})).tags)


def test_images_with_evidence_are_shown_small_and_not_all_of_them(tmp_path):
    Image.new("L", (300, 200), 128).save(tmp_path / "a.png")
    files = [checked(evidence(q_value=0.004), f"{i}.png", tmp_path / "a.png") for i in range(MOST_SHOWN)]
    page = batch_filing(a_batch(*files, checked(evidence(q_value=0.004), "gone.png")))
    assert page.count('<img src="data:image/png;base64,') == MOST_SHOWN
    assert f"the first {MOST_SHOWN} are shown" in page and len(page) < 200_000
    assert "<img" not in batch_filing(mixed()), "a file that is gone costs its thumbnail alone"
