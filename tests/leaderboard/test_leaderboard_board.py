"""From entries to tables, with answers known beforehand; and what a submission may say."""

import json
import re
import shlex
import time

import numpy as np
import pytest

from leaderboard.errors import StoreError, SubmissionError
from leaderboard.page import tables
from leaderboard.page.current import standing_of
from leaderboard.requests.request import Request
from leaderboard.requests.scores import check_scores
from leaderboard.results import board_rows, ranking
from leaderboard.results.entry import build_entry, build_row, parse_entry, reproduction_command
from leaderboard.results.reader import Results
from leaderboard.results.recomputation import discrepancies
from leaderboard.stores.store import as_json
from mia_hub.auditing.measurement import measure
from mia_hub.auditing.report import AuditReport, Cost
from mia_hub.cli.parser import build_parser
from mia_hub.flags import flag
from mia_hub.scores import ScoreTable

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DEMO = {"kind": "model", "model": "demo", "split": "demo", "attacks": ["sima"]}
N = 60


def estimate(value, half=0.02, n=100):
    return {"value": value, "low": max(0, value - half), "high": min(1, value + half), "n_members": n, "n_nonmembers": n}


def entry_of(model, split, aucs, *, origin="computed", shifted=False, created="2026-01-01", queries=None, id="e" * 16):
    rows = [
        {"attack": attack, "access": "gray", "queries": (queries or {}).get(attack, 1), "timestep": 100, "auc": estimate(auc),
         "asr": estimate(0.5), "tpr_at_fpr": {"0.01": estimate(auc / 2)}, "flags": []}
        for attack, auc in aucs.items()
    ]  # fmt: skip
    flags = [{"name": "distribution-shift", "raised_by": "", "meaning": ""}] if shifted else []
    return {
        "id": id, "origin": origin, "model": {"id": model, "revision": COMMIT}, "split": {"name": split, "hash": f"sha256:{split}"},
        "blind_auc": estimate(0.5), "flags": flags, "rows": rows,
        "request": {"submitter": "alice", "model": model, "revision": COMMIT}, "provenance": {"created": created},
    }  # fmt: skip


# The board


def test_attacks_are_ranked_over_settings_among_those_of_their_cost():
    entries = [
        entry_of("a/m", "s1", {"sima": 0.9, "pia": 0.8, "random": 0.5, "sima-mc": 0.95}, queries={"sima-mc": 30, "pia": 1}),
        entry_of("a/m", "s2", {"sima": 0.6, "pia": 0.7, "random": 0.5}, id="f" * 16),
    ]
    table = ranking.attack_ranking(entries)
    found = {row["attack"]: row for row in table}
    assert [row["attack"] for row in table] == ["pia", "sima", "random", "sima-mc"]
    assert [found[a]["mean_rank"] for a in ("sima", "pia", "random", "sima-mc")] == [0.25, 0.25, 1, 0.5]
    assert found["sima"]["settings"] == 2 and found["sima-mc"]["budget"] == "6 to 50 queries"
    # The mean of two independent figures of half width .02 has half width .02/√2.
    auc = found["sima"]["auc"]
    assert (auc["value"], auc["n"]) == (pytest.approx(0.75), 2)
    assert (auc["low"], auc["high"]) == (pytest.approx(0.75 - 0.02 / 2**0.5), pytest.approx(0.75 + 0.02 / 2**0.5))


def test_ties_share_their_rank():
    table = ranking.attack_ranking([entry_of("a/m", "s", {"one": 0.7, "two": 0.7, "three": 0.6})])
    assert [row["mean_rank"] for row in table] == [0.25, 0.25, 1]


def test_the_strongest_attack_pays_for_having_been_picked():
    (one,) = ranking.model_ranking([entry_of("a/m", "s", {"sima": 0.7})])
    (many,) = ranking.model_ranking([entry_of("a/m", "s", {f"attack{i}": 0.5 + i / 100 for i in range(21)})])
    assert (one["auc"]["low"], one["auc"]["high"]) == (pytest.approx(0.68), pytest.approx(0.72))
    # 1 - .025/21 of a normal is at 3.037; of .975 at 1.960.
    assert many["auc"]["low"] == pytest.approx(0.7 - 0.02 * 3.0368 / 1.96, abs=1e-4) and many["attacks"] == 21
    leaky = entry_of("b/n", "s", {"sima": 0.8}, id="f" * 16)
    assert [row["model"] for row in ranking.model_ranking([entry_of("a/m", "s", {"sima": 0.7}), leaky])] == ["b/n", "a/m"]


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
    now = standing_of(Results((flagged, passed, small, fine)))
    said = {(row["split"], row["attack"]): row["shift_check"] for row in now.rows_apart if row["auc"]}
    assert said == {("s", "sima"): "fails", ("s", "pia"): "fails", ("small", "sima"): "not checked"}
    table = json.loads(tables.rows_table(tables.APART, now.rows_apart, "name", ""))
    place = [column["key"] for column in table["columns"]].index("shift_check")
    assert {row[place] for row in table["rows"]} == {"fails", "not checked", "known to differ"}


def test_the_shift_check_of_a_split_is_the_same_with_every_seed():
    from mia_hub import audit, compare
    from mia_hub.splits.loading import load_split

    split = load_split("demo", limit=40)
    options = {"model": "demo", "split": split, "progress": False}
    found = {audit(attack="random", seed=seed, **options).blind_auc for seed in (0, 1)}
    assert found | {compare(attacks=["random"], seed=2, **options).blind_auc} == found and len(found) == 1


@pytest.mark.parametrize("computed, says", [({}, "not yet"), ({"mine": 0.71}, "yes"), ({"mine": 0.8}, "no")])
def test_reported_figures_stand_beside_computed_ones_and_rank_nothing(computed, says):
    entries = [entry_of("a/m", "s", {"mine": 0.7}, origin="self-reported", id="f" * 16)]
    entries += [entry_of("a/m", "s", computed)] if computed else []
    (row,) = board_rows.board_rows(entries)
    assert row["reproduced"] == says and row["reported"]["auc"]["value"] == 0.7 and row["reported"]["by"] == "alice"
    assert (row["auc"] or {}).get("value") == computed.get("mine")
    assert [each["attack"] for each in ranking.attack_ranking(entries)] == list(computed)


@pytest.mark.parametrize(
    "name, requested, described, found",
    [("demo", None, "demo", "sha256:0"), (f"a/base + b/lora@{COMMIT}", COMMIT, f"a/base + b/lora@{COMMIT}", f"{COMMIT} + {COMMIT}")],
)
def test_what_was_reported_of_a_model_meets_what_was_computed_of_it(name, requested, described, found):
    request = {"submitter": "alice", "model": name, "revision": requested}
    computed = entry_of(name, "s", {"mine": 0.7}) | {"request": request, "model": {"id": described, "revision": found}}
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
        assert [tables.REPORTED_BY.of(row) for row in rows.values()] == list(rows)


def test_the_newest_of_two_computations_counts():
    entries = [entry_of("a/m", "s", {"sima": 0.6}, created="2026-02-01"), entry_of("a/m", "s", {"sima": 0.9}, created="2026-01-01")]
    assert [row["auc"]["value"] for row in board_rows.board_rows(entries)] == [0.6]


def test_ten_thousand_entries_are_tables_in_under_two_seconds():
    # Not a race against this machine: the bound leaves an order of magnitude.
    entries = [entry_of(f"a/m{i % 500}", f"s{i % 20}", {"sima": 0.5 + i % 50 / 100}, id=f"{i:016d}") for i in range(10_000)]
    started = time.process_time()
    assert len(ranking.attack_ranking(entries)) == 1 and len(ranking.model_ranking(entries)) == 500
    assert time.process_time() - started < 20


# Entries and their scores


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    scores = np.vstack([rng.normal(1, 1, (N, 2)), rng.normal(0, 1, (N, 2))])
    ids = [f"sha256:{i:064d}" for i in range(2 * N)]
    return ScoreTable(ids, np.repeat([1, 0], N), [50, 100], scores, attack="sima", model={"id": "demo", "revision": None})


def as_bytes(table, path) -> bytes:
    table.to_parquet(path)
    return path.read_bytes()


@pytest.fixture
def made(table, tmp_path):
    """An honest entry, and the content of its scores."""
    measured = measure(table, seed=0)
    at = measured.at_selected
    report = AuditReport(
        attack="SimA()", model=table.model, split={"name": "demo", "hash": "sha256:1"}, selection=measured.selection, auc=at.auc,
        asr=at.asr, tpr_at_fpr=at.tpr_at_fpr, per_timestep=measured.rows, roc=measured.roc, blind_auc=None, flags=measured.flags,
        cost=Cost(1, 1, 1.0, 1.0, None), provenance={"created": "2026"}, scores=table,
    )  # fmt: skip
    content = as_bytes(table, tmp_path / "made.parquet")
    row = build_row("sima", report, "scores/00.parquet", content, access="gray", queries=1)
    parts = {
        "model": report.model,
        "split": report.split,
        "blind": None,
        "flags": [flag("duplicates", "x")],
        "provenance": {"created": "2026"},
    }
    return build_entry(Request.from_dict(DEMO), [row], **parts), content


def test_an_honest_entry_follows_from_its_scores(made):
    entry, content = made
    parsed = parse_entry(as_json(entry), entry["id"])
    assert parsed == entry and discrepancies(parsed, {"scores/00.parquet": content}.__getitem__) == []
    assert entry["command"] == "mia-hub compare --model demo --split demo --attacks sima --seed 0"


def test_a_command_names_what_was_asked_at_its_commits():
    asked = DEMO | {"model": "alice/m", "revision": COMMIT, "split": "alice/s", "split_revision": COMMIT[::-1], "captions": "empty"}
    words = shlex.split(reproduction_command(Request.from_dict(asked)))
    args = build_parser().parse_args(words[1:])
    assert (args.model, args.revision, args.split, args.split_revision) == ("alice/m", COMMIT, "alice/s", COMMIT[::-1])
    assert (args.attacks, args.captions, args.seed) == (["sima"], "empty", 0)
    assert build_parser().parse_args(["audit", "--split-revision", "main"]).split_revision == "main"


def forged(entry, **changes):
    return entry | {"rows": [entry["rows"][0] | changes]}


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda e: forged(e, auc=e["rows"][0]["auc"] | {"value": 0.9, "high": 0.95}), "sima: auc (value) is"),
        (lambda e: forged(e, timestep=51), "timestep"),
        (lambda e: forged(e, sha256="0" * 64), "its scores were changed"),
        (lambda e: forged(e, scores="scores/01.parquet"), "are missing"),
        (lambda e: forged(e, tpr_at_fpr={"0.001": estimate(0.5)}), "reports TPR at"),
    ],
)
def test_figures_that_do_not_follow_are_found(made, change, says):
    entry, content = made
    wrong = discrepancies(change(entry), {"scores/00.parquet": content}.__getitem__)
    assert wrong and says in wrong[0]


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
def test_entries_out_of_bounds_are_refused(made, change):
    with pytest.raises(StoreError, match="can't be understood"):
        parse_entry(as_json(change(made[0])), made[0]["id"])


# Submissions


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"kind": "gift"}, "kind must be 'model' or 'scores'"),
        ({"model": "../etc/passwd"}, "model must be 'demo' or a Hub id"),
        ({"model": "alice/..", "revision": COMMIT}, "Hub id"),
        ({"model": "alice/a\u202eb", "revision": COMMIT}, "control characters"),
        ({"model": "alice/a\nb", "revision": COMMIT}, "control characters"),
        ({"model": "a/b + ../c", "revision": COMMIT}, "'owner/name'"),
        ({"model": f"a/b + c/d/../e@{COMMIT}", "revision": COMMIT}, "'owner/name'"),
        ({"model": "a/b + c/d", "revision": COMMIT}, "needs a commit hash after an @"),
        ({"model": "a/b + c/d@main", "revision": COMMIT}, "needs a commit hash after an @"),
        ({"model": "x" * 1000}, "1,000 characters long"),
        ({"model": 7}, "model must be text"),
        ({"model": "alice/m"}, "revision must be a commit hash"),
        ({"model": "alice/m", "revision": "main"}, "revision must be a commit hash"),
        ({"revision": COMMIT}, "'demo' has none"),
        ({"split": "file:///etc"}, "split must be 'demo' or a Hub id"),
        ({"split": "alice/s"}, "split_revision must be a commit hash"),
        ({"attacks": []}, "names no attack"),
        ({"attacks": "sima"}, "must be a list"),
        ({"attacks": ["sima", "sima:p=4"]}, "named more than once"),
        ({"attacks": ["simma"]}, "Did you mean|unknown|no attack"),
        ({"attacks": ["sima:q=1"]}, "attacks: "),
        ({"attacks": ["sima"] * 40}, "attacks has 40 items; at most 24 are accepted"),
        ({"attacks": [5]}, r"attacks\[0\] must be text"),
        ({"attacks": ["nearest-generated:generated=/"]}, "generated of 'nearest-generated' takes something"),
        ({"attacks": ["nearest-generated:samples=5,generated=/nowhere"]}, "generated of 'nearest-generated' takes something"),
        ({"attacks": ["nearest-generated:given=complexity,generated=a,b"]}, "generated of 'nearest-generated' takes something"),
        ({"attacks": ["clid:importance=x"]}, "importance of 'clid' takes something"),
        ({"attacks": ["rediffuse:variation=x"]}, "variation of 'rediffuse' takes something"),
        ({"attacks": ["combine:parts=nearest-generated:generated=/,sima"]}, "no attack|no parameter|parts must be|only exists"),
        ({"attacks": ["combine:parts=sima,nearest-generated:generated=/"]}, "no attack"),
        ({"attacks": ["combine:parts=sima,pia,generated=/"]}, "no parameter 'generated'"),
        ({"attacks": ["sima-mc:draws=1000"]}, "21,000 queries per image; at most 10,000"),
        ({"attacks": ["pfami:crops=5000"]}, "queries per image; at most 10,000"),
        ({"attacks": ["nearest-generated:samples=100000"]}, "5,000,000 queries before the first image; at most 1,000,000"),
        ({"attacks": ["rediffuse:k=1,timesteps=10000000000"]}, "timesteps of 'rediffuse' may be 100,000 at most"),
        ({"attacks": ["sima:p=inf"]}, "p of 'sima' may be 100,000 at most"),
        ({"attacks": ["sima:p=nan"]}, "p of 'sima' may be 100,000 at most"),
        ({"captions": "swapped"}, "captions must be"),
        ({"seed": -1}, "seed must be"),
        ({"seed": True}, "seed must be"),
        ({"note": "x" * 501}, "at most 500"),
        ({"note": "a\x00b"}, "control characters"),
        ({"push": "yes"}, "push must be"),
        ({"reproduced": True}, "has no field 'reproduced'"),
        ({"scores": "0" * 64}, "scores is for kind 'scores'"),
        ({"kind": "scores"}, "scores must be the SHA-256"),
    ],
)
def test_a_hostile_or_wrong_request_is_refused(changes, says):
    with pytest.raises(SubmissionError, match=says):
        Request.from_dict(DEMO | changes)


def test_no_folder_is_looked_into_for_a_stranger(monkeypatch):
    from mia_hub.attacks import nearest_generated

    monkeypatch.setattr(nearest_generated, "find_images", lambda folder: pytest.fail(f"{folder} was looked into"))
    for text in ("nearest-generated:generated=/tmp", "nearest-generated:neighbours=1,generated=/tmp,given=complexity"):
        with pytest.raises(SubmissionError, match="can't be submitted"):
            Request.from_dict(DEMO | {"attacks": [text]})


def test_every_parameter_that_is_no_plain_value_is_local():
    from typing import get_type_hints

    from mia_hub.attacks import ATTACKS

    plain = {"int", "float", "str", "bool"}
    for attack in ATTACKS.values():
        hints = get_type_hints(attack)
        for name in attack.parameters():
            words = {word.split(".")[-1] for word in re.findall(r"[A-Za-z_.]+", re.sub(r"'[^']*'", "", str(hints[name])))}
            odd = words - plain - {"", "class", "tuple", "Literal", "Union", "Attack"}
            assert bool(odd) == (name in attack.local_parameters), (attack.name, name, odd)


def test_a_request_that_is_no_object_or_lacks_a_field_is_refused():
    for values in ([], "x", None):
        with pytest.raises(SubmissionError, match="JSON object"):
            Request.from_dict(values)
    for name in DEMO:
        with pytest.raises(SubmissionError, match=f"lacks the field '{name}'"):
            Request.from_dict({key: value for key, value in DEMO.items() if key != name})


def test_the_id_is_of_the_content_alone():
    request = Request.from_dict(DEMO | {"attacks": ["pia", "sima:p=4"], "submitter": "alice", "note": "n"})
    assert request.attacks == ("pia", "sima")
    assert request.id == Request.from_dict(DEMO | {"attacks": ["sima", "pia"]}).id != Request.from_dict(DEMO).id
    assert Request.from_dict(request.to_dict()) == request


def test_submitted_scores_are_of_the_split(table, tmp_path):
    content = as_bytes(table, tmp_path / "t.parquet")
    order = np.random.default_rng(1).permutation(2 * N)
    found = check_scores(content, ids=[table.ids[i] for i in order], is_member=table.is_member[order])
    assert np.array_equal(found.scores, table.scores[order])


def test_copies_of_a_image_are_scored_once_or_once_each(table, tmp_path):
    split = np.r_[np.arange(2 * N), 3, 3, 2 * N - 1]
    ids, is_member = [table.ids[i] for i in split], table.is_member[split]
    once = check_scores(as_bytes(table, tmp_path / "t.parquet"), ids=ids, is_member=is_member)
    assert np.array_equal(once.scores, table.scores[split]) and list(once.ids) == ids
    # As `score` makes a table of such a split; copies may have been told different captions, and so have different scores.
    own = changed(table.select(split), scores=np.random.default_rng(2).normal(size=(len(split), 2)))
    order = np.r_[np.arange(len(split))[::2], np.arange(len(split))[1::2]]
    each = check_scores(as_bytes(own, tmp_path / "t.parquet"), ids=ids, is_member=is_member)
    assert np.array_equal(each.scores, own.scores) and "duplicates" in {flag.name for flag in measure(each).flags}
    assert len(check_scores(as_bytes(own.select(order), tmp_path / "t.parquet"), ids=ids, is_member=is_member)) == len(split)
    with pytest.raises(SubmissionError, match="2 times, and the split has it 3 times; score it once"):
        check_scores(as_bytes(own.select(np.arange(2 * N + 1)), tmp_path / "t.parquet"), ids=ids, is_member=is_member)


def changed(table, **changes):
    from dataclasses import replace

    return replace(table, **changes)


WRONG = {
    "NaN": (lambda t: changed(t, scores=np.where(np.arange(2 * N)[:, None] == 3, np.nan, t.scores)), "2 values that are NaN"),
    "infinity": (lambda t: changed(t, scores=t.scores + np.inf), "NaN or infinite"),
    "too few": (lambda t: t.select(np.arange(2 * N - 1)), "missing: "),
    "other ids": (lambda t: changed(t, ids=[f"{i}x" for i in t.ids]), "of which 0 are among"),
    "ids twice": (lambda t: changed(t, ids=[t.ids[0], *t.ids[:-1]]), "missing: "),
    "an image too often": (lambda t: t.select(np.r_[0, np.arange(2 * N)]), "2 times, and the split has it 1 times"),
    "labels": (lambda t: changed(t, is_member=1 - t.is_member), "labels that differ"),
    "no scores": (lambda t: changed(t, timesteps=[], scores=t.scores[:, :0]), "can't be read|no column"),
}


@pytest.mark.parametrize("case", WRONG)
def test_scores_of_something_else_are_refused(table, tmp_path, case):
    change, says = WRONG[case]
    with pytest.raises(SubmissionError, match=says):
        check_scores(as_bytes(change(table), tmp_path / "t.parquet"), ids=table.ids, is_member=table.is_member)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"\x80\x04pickle", b"x" * 1000])
def test_what_is_no_table_is_refused(content):
    with pytest.raises(SubmissionError, match="can't be read"):
        check_scores(content, ids=["a"], is_member=[1])


def test_a_file_that_is_too_large_is_not_opened(monkeypatch):
    from leaderboard.requests import scores

    monkeypatch.setattr(scores, "LARGEST_SCORES", 10)
    with pytest.raises(SubmissionError, match="at most"):
        check_scores(b"PAR1" * 10, ids=["a"], is_member=[1])
