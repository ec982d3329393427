"""Submitted scores: what is none, too large, or of another split is refused."""

import json
import os
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.made_requests import IMAGES, SCORED, parquet_of, prepare, put, score_table, submit

from leaderboard.errors import SubmissionError
from leaderboard.requests.queue import Queue
from leaderboard.requests.scores import LARGEST_SCORES, check_scores, read_scores
from leaderboard.stores.opening import open_store
from mia_hub.auditing.measurement import measure
from mia_hub.scores import ScoreTable


def with_metadata(**more):
    def change(arrow):
        output = json.loads(arrow.schema.metadata[b"mia_hub"]) | more
        return arrow.replace_schema_metadata({"mia_hub": json.dumps(output)})

    return change


def with_column(name, values):
    return lambda arrow: arrow.append_column(name, pa.array(values))


NAN = np.where(np.arange(2 * IMAGES).reshape(IMAGES, 2) == 3, np.nan, 0.5)


WRONG_SCORES = {
    "NaN": ({"scores": NAN}, None, "1 values that are NaN"),
    "a column twice": ({}, with_column("score_t50", np.zeros(IMAGES)), "can't be read"),
    "a timestep spelled twice": ({}, with_column("score_t050", np.zeros(IMAGES)), "two columns of one timestep"),
    "a timestep beyond numbers": ({}, with_column("score_t" + "9" * 30, np.zeros(IMAGES)), "can't be read"),
    "words for scores": ({}, with_column("score_t7", ["x"] * IMAGES), "can't be read"),
    "a forged mark": ({}, with_metadata(reproduced=True), "can't be read.*reproduced"),
    "a forged origin": ({}, with_metadata(origin="computed"), "can't be read.*origin"),
    "no metadata": ({}, lambda arrow: arrow.replace_schema_metadata({}), "can't be read"),
    "deep metadata": ({}, lambda arrow: arrow.replace_schema_metadata({"mia_hub": "[" * 100_000}), "can't be read"),
}


@pytest.mark.parametrize("case", WRONG_SCORES)
def test_scores_that_are_none_are_refused_at_once(tmp_path, case):
    changes, change, message = WRONG_SCORES[case]
    content = parquet_of(score_table(**changes), tmp_path / "t.parquet", change or (lambda arrow: arrow))
    with pytest.raises(SubmissionError, match=message):
        prepare(model="demo", split="demo", scores=content, attack_name="mine")


def test_two_gigabytes_are_refused_by_their_size(tmp_path):
    file = tmp_path / "large.parquet"
    with open(file, "wb") as stream:
        os.truncate(stream.fileno(), 2 * 2**30)
    with pytest.raises(SubmissionError, match="2,048 MiB; at most 50 MiB"):
        prepare(model="demo", split="demo", scores=file, attack_name="mine")
    with pytest.raises(SubmissionError, match="at most 50 MiB"):
        prepare(model="demo", split="demo", scores=bytes(LARGEST_SCORES + 1), attack_name="mine")


def test_a_small_file_that_is_large_inside_is_refused(tmp_path):
    path = tmp_path / "bomb.parquet"
    pq.write_table(pa.table({"id": pa.array(["x"]).take(pa.array(np.zeros(1_100_000, int)))}), path, compression="zstd")
    assert path.stat().st_size < 10_000
    with pytest.raises(SubmissionError, match="1,100,000 rows"):
        read_scores(path.read_bytes())


def written(path, columns, **options) -> bytes:
    pq.write_table(pa.table(columns), path, compression="zstd", **options)
    return path.read_bytes()


def repeated(value, rows):
    return pa.array([value]).take(pa.array(np.zeros(rows, int)))


LARGE_INSIDE = {
    "long ids": lambda: ({"id": repeated("x" * 2000, 100_000), "score_t1": np.zeros(100_000)}, "an id of 2,000 bytes"),
    "constant columns": lambda: (
        {"id": repeated("x", 60_000), **{f"score_t{t}": repeated(0.5, 60_000) for t in range(900)}},
        "412 MiB unpacked",
    ),
    "lists": lambda: ({"id": ["x"], "score_t1": [[0.5] * 100_000]}, "'score_t1' holds list"),
    "ids of numbers": lambda: ({"id": [1], "score_t1": [0.5]}, "id holds int64, and should hold text"),
    "text beside": lambda: ({"id": ["x"], "score_t1": [0.5], "y": ["y" * 1000]}, "'y' holds string, and should hold numbers"),
}


@pytest.mark.parametrize("case", LARGE_INSIDE)
def test_what_is_large_inside_is_refused_before_it_is_unpacked(tmp_path, monkeypatch, case):
    columns, message = LARGE_INSIDE[case]()
    monkeypatch.setattr(ScoreTable, "from_parquet", lambda path: pytest.fail("it was unpacked"))
    content, before = written(tmp_path / "t.parquet", columns), pa.total_allocated_bytes()
    assert len(content) < 2**20
    with pytest.raises(SubmissionError, match=message):
        read_scores(content)
    assert pa.total_allocated_bytes() - before < 2**23


def test_scores_are_filed_under_their_content(tmp_path):
    content = parquet_of(score_table(), tmp_path / "t.parquet")
    (tmp_path / "t.parquet").write_bytes(content)
    request, returned = prepare(model="demo", split="demo", scores=tmp_path / "t.parquet", attack_name=" =my\n<b>attack</b>")
    assert returned == content and request.kind == "scores" and request.attacks == ("=my <b>attack</b>",)
    assert prepare(model="demo", split="demo", scores=content, attack_name="=my <b>attack</b>")[0].id == request.id


def test_scores_are_those_that_were_named(tmp_path):
    store = open_store(tmp_path / "store")
    content = parquet_of(score_table(), tmp_path / "t.parquet")
    accepted = submit(Queue(store), {"model": "demo", "split": "demo", "scores": content, "attack_name": "mine"}, submitter="a")
    assert Queue(store).scores(accepted.id) == content
    put(store, {f"requests/{accepted.id}/scores.parquet": content + b" "})
    with pytest.raises(SubmissionError, match="SHA-256 differs"):
        Queue(store).scores(accepted.id)
    put(store, {f"requests/{accepted.id}/scores.parquet": bytes(LARGEST_SCORES + 1)})
    with pytest.raises(SubmissionError, match="MiB are read"):
        Queue(store).scores(accepted.id)
    assert Queue(store).claim("w") == accepted.id and Queue(store).fail(accepted.id, "w", "The scores are others.")
    again = {"model": "demo", "split": "demo", "scores": content, "attack_name": "mine", "note": "again"}
    assert submit(Queue(store), again, submitter="b").new and Queue(store).scores(accepted.id) == content
    assert Queue(store).request(accepted.id).note == "", "what was submitted first stays"


N = SCORED


def test_submitted_scores_are_of_the_split(table, tmp_path):
    content = parquet_of(table, tmp_path / "t.parquet")
    order = np.random.default_rng(1).permutation(2 * N)
    matched = check_scores(content, ids=[table.ids[i] for i in order], is_member=table.is_member[order])
    assert np.array_equal(matched.scores, table.scores[order])


def test_copies_of_an_image_are_scored_once_or_once_each(table, tmp_path):
    split = np.r_[np.arange(2 * N), 3, 3, 2 * N - 1]
    ids, is_member = [table.ids[i] for i in split], table.is_member[split]
    once = check_scores(parquet_of(table, tmp_path / "t.parquet"), ids=ids, is_member=is_member)
    assert np.array_equal(once.scores, table.scores[split]) and list(once.ids) == ids
    # As `score` makes a table of such a split; the model may be conditioned on other captions for each, and so have different scores.
    own = changed(table.select(split), scores=np.random.default_rng(2).normal(size=(len(split), 2)))
    order = np.r_[np.arange(len(split))[::2], np.arange(len(split))[1::2]]
    each = check_scores(parquet_of(own, tmp_path / "t.parquet"), ids=ids, is_member=is_member)
    assert np.array_equal(each.scores, own.scores) and "duplicates" in {flag.name for flag in measure(each).flags}
    assert len(check_scores(parquet_of(own.select(order), tmp_path / "t.parquet"), ids=ids, is_member=is_member)) == len(split)
    with pytest.raises(SubmissionError, match="2 times, but the split contains it 3 times; score it once"):
        check_scores(parquet_of(own.select(np.arange(2 * N + 1)), tmp_path / "t.parquet"), ids=ids, is_member=is_member)


def changed(table, **changes):
    return replace(table, **changes)


WRONG = {
    "NaN": (lambda t: changed(t, scores=np.where(np.arange(2 * N)[:, None] == 3, np.nan, t.scores)), "2 values that are NaN"),
    "infinity": (lambda t: changed(t, scores=t.scores + np.inf), "NaN or infinite"),
    "too few": (lambda t: t.select(np.arange(2 * N - 1)), "missing: "),
    "other ids": (lambda t: changed(t, ids=[f"{i}x" for i in t.ids]), "0 of them from the 120"),
    "ids twice": (lambda t: changed(t, ids=[t.ids[0], *t.ids[:-1]]), "missing: "),
    "an image too often": (lambda t: t.select(np.r_[0, np.arange(2 * N)]), "2 times, but the split contains it 1 times"),
    "labels": (lambda t: changed(t, is_member=1 - t.is_member), "labels that differ"),
    "no scores": (lambda t: changed(t, timesteps=[], scores=t.scores[:, :0]), "can't be read|no column"),
}


@pytest.mark.parametrize("case", WRONG)
def test_scores_of_something_else_are_refused(table, tmp_path, case):
    change, message = WRONG[case]
    with pytest.raises(SubmissionError, match=message):
        check_scores(parquet_of(change(table), tmp_path / "t.parquet"), ids=table.ids, is_member=table.is_member)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"\x80\x04pickle", b"x" * 1000])
def test_what_is_no_table_is_refused(content):
    with pytest.raises(SubmissionError, match="can't be read"):
        check_scores(content, ids=["a"], is_member=[1])


def test_a_file_that_is_too_large_is_not_opened(monkeypatch):
    from leaderboard.requests import scores

    monkeypatch.setattr(scores, "LARGEST_SCORES", 10)
    with pytest.raises(SubmissionError, match="at most"):
        check_scores(b"PAR1" * 10, ids=["a"], is_member=[1])
