"""A repository has one name: every spelling that leads to it makes the same request, which bans and counts meet alike."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.board_setting import write_split
from support.made_requests import DEMO, prepare, put, submit
from support.spelled_names import PARTS, SPELLINGS, SpelledNames
from support.tiny_pipelines import save, save_lora

from leaderboard.errors import SubmissionError
from leaderboard.requests.limits import Limits
from leaderboard.requests.queue import Queue
from leaderboard.requests.request import Request
from leaderboard.requests.resolution import check_still_there
from leaderboard.results.board_rows import board_rows, split_summaries
from leaderboard.results.claims import is_claimed_setting
from leaderboard.results.ranking import model_ranking
from leaderboard.stores.opening import open_store
from leaderboard.stores.store import as_json

NOT_ACCEPTED = "about this model or data set, are not accepted here"
every_name = pytest.mark.parametrize("part, spelling", [(part, spelling) for part in PARTS for spelling in SPELLINGS])


@pytest.fixture(scope="module")
def names(loopback_hub, tmp_path_factory):
    folder = tmp_path_factory.mktemp("spelled")
    return SpelledNames(loopback_hub, save("sd1", folder / "base"), save_lora("sd1", folder / "lora"), write_split(folder / "split"))


@pytest.fixture(scope="module")
def canonical(names):
    """The request with every name as the Hub spells it."""
    return prepare(**names.draft("model", "present"))[0]


def test_the_hub_answers_for_every_spelling_with_the_present_name(names):
    from huggingface_hub import HfApi

    for part, kind in zip(PARTS, ("model", "model", "dataset"), strict=True):
        assert {HfApi().repo_info(names.spelled(part, spelling), repo_type=kind).id for spelling in SPELLINGS} == {names.ids[part]}


@every_name
def test_two_spellings_are_one_request(names, canonical, part, spelling, tmp_path):
    queue = Queue(open_store(tmp_path), Limits(per_day=1))
    first = submit(queue, names.draft(part, spelling), submitter="alice")
    assert first.new and first.request.model == f"{names.ids['model']} + {names.ids['overlay']}@{names.commits['overlay']}"
    assert first.request.split == names.ids["data set"] and first.id == canonical.id
    # It is no further request of the day, either.
    again = submit(queue, names.draft("model", "present"), submitter="alice")
    assert not again.new and again.id == first.id and queue.listing()[0].request.model == first.request.model


def test_a_file_of_an_overlay_keeps_its_path_and_a_second_request_is_counted(names, tmp_path):
    queue = Queue(open_store(tmp_path), Limits(per_day=1))
    file = f"{names.spelled('overlay', 'renamed')}/pytorch_lora_weights.safetensors@main"
    draft = names.draft("model", "renamed") | {"model": f"{names.spelled('model', 'renamed')} + {file}"}
    accepted = submit(queue, draft, submitter="alice")
    assert accepted.request.model.endswith(f" + {names.ids['overlay']}/pytorch_lora_weights.safetensors@{names.commits['overlay']}")
    with pytest.raises(SubmissionError, match="alice has made 1 requests"):
        submit(queue, names.draft("model", "renamed"), submitter="alice")


BANNED = (*SPELLINGS, "present", "owner", "recased only owner")


@pytest.mark.parametrize("banned", BANNED)
@pytest.mark.parametrize("part", PARTS)
def test_a_ban_holds_for_every_spelling(names, part, banned, tmp_path):
    owner = names.owners[1]
    ban = {"owner": owner, "recased only owner": owner.upper()}.get(banned) or names.spelled(part, banned)
    queue = Queue(open_store(tmp_path), Limits(banned=("somebody/else", ban)))
    for given in ("present", "renamed and recased"):
        with pytest.raises(SubmissionError, match=NOT_ACCEPTED):
            submit(queue, names.draft(part, given), submitter="alice")


@every_name
def test_a_ban_of_the_earlier_owner_holds_for_the_earlier_name(names, part, spelling):
    limits = Limits(banned=(names.owners[0].lower(),))
    if spelling.startswith("renamed"):
        with pytest.raises(SubmissionError, match=NOT_ACCEPTED):
            prepare(**names.draft(part, spelling), limits=limits)
    else:
        assert prepare(**names.draft(part, spelling), limits=limits)


def test_a_ban_of_another_repository_holds_for_none_of_these(names, loopback_hub):
    loopback_hub.add_repo("model", f"{names.owners[1]}x/model", {"README.md": "x"})
    for ban in (f"{names.owners[1]}x", f"{names.owners[1]}x/model", "nobody/knows", "no name at all", "demo/x"):
        assert prepare(**names.draft("model", "renamed"), limits=Limits(banned=(ban,)))
        assert prepare(**DEMO, limits=Limits(banned=(ban,)))


@every_name
def test_a_stored_request_with_another_spelling_stays_what_it_is(names, canonical, part, spelling, tmp_path):
    """As stored before names were written as the Hub spells them, or as somebody wrote it by hand."""
    spelled = names.spelled(part, spelling)
    if part == "data set":
        stored = replace(canonical, split=spelled)
    else:
        stored = replace(canonical, model=canonical.model.replace(names.ids[part], spelled))
    store = open_store(tmp_path)
    put(store, {f"requests/{stored.id}/request.json": as_json(stored.to_dict())})
    queue = Queue(store)
    assert queue.request(stored.id) == stored == Request.from_dict(stored.to_dict())
    check_still_there(queue.request(stored.id), Limits())
    for ban in (names.ids[part], spelled, names.owners[1]):
        with pytest.raises(SubmissionError, match=NOT_ACCEPTED):
            check_still_there(stored, Limits(banned=(ban,)))
    other = {"split_revision": "0" * 40} if part == "data set" else {"revision": "0" * 40}
    with pytest.raises(SubmissionError, match="no revision"):
        check_still_there(replace(stored, **other), Limits())


def test_entries_whose_names_differ_in_case_are_of_one_model(one):
    entry = one[0]

    def named(model, created, id):
        return entry | {"id": id, "request": entry["request"] | {"model": model}, "provenance": {"created": created}}

    model = entry["request"]["model"]
    entries = [named(model, "2026-02-01", "b" * 16), named(model.upper(), "2026-01-01", "a" * 16)]
    rows = board_rows(entries)
    assert len(rows) == len(entry["rows"]) and {row["model"] for row in rows} == {model}, "spelled as in the newest"
    assert rows[0]["entries"] == ["a" * 16, "b" * 16] and len(model_ranking(entries)) == 1
    assert split_summaries(entries)[0]["models"] == 1
    assert len(board_rows([*entries, named(f"{model}x", "2026-01-01", "c" * 16)])) == 2 * len(entry["rows"])
    local = [named("local:A", "2026-01-01", "a" * 16), named("local:a", "2026-01-01", "b" * 16)]
    assert len({row["model"] for row in board_rows(local)}) == 2


@pytest.mark.parametrize("model, claimed", [("CompVis/sd", True), ("compvis/SD", True), ("compvis/sd2", False)])
@pytest.mark.parametrize("split, same", [("me/Sd-Coco", True), ("benchmark sd-coco, limit", True), ("me/sd-coco-2", False)])
def test_a_claim_belongs_to_a_model_in_any_case(model, claimed, split, same):
    claim = {"benchmark": "sd-coco", "model_id": "CompVis/sd"}
    assert is_claimed_setting({"model": model, "split": split}, claim) == (claimed and same)
