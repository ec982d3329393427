"""Results offered to the model: one pull request, with what its owner must know, and never a second one."""

import copy

import pytest
import yaml
from huggingface_hub import HfApi, ModelCard, parse_eval_result_entries
from support.board_setting import InProcess, N, add_model_and_split
from support.clock import Clock

from leaderboard.requests.naming import target_of
from leaderboard.requests.queue import Queue
from leaderboard.requests.request import Request
from leaderboard.results.board_rows import SHIFTED, estimate_text
from leaderboard.results.entry import parse_entry
from leaderboard.stores.opening import open_store
from leaderboard.worker.offer import OfferError, pull_request_title, reason_against
from leaderboard.worker.offer import offer as offer_as
from leaderboard.worker.worker import Worker

BOT, OWNER = "bot", "offered"


OTHERS = """---
license: mit  # theirs
model-index:
- name: Their name
  results:
  - task: {type: image-generation, something: of theirs}
    dataset: {type: cifar10, name: CIFAR-10}
    metrics: [{type: fid, value: 3.2, name: FID}]
---
# Their card

Text.
"""


@pytest.fixture(scope="module")
def hub(loopback_hub, tiny_model, tiny_split):
    return add_model_and_split(loopback_hub, "offered", tiny_model, tiny_split)


@pytest.fixture(autouse=True)
def logged_in(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", f"hf_{BOT}")


def pushed(hub, **changes) -> Request:
    about = {
        "kind": "model",
        "model": "offered/tiny",
        "split": "offered/split",
        "attacks": ["random", "sima:timesteps=50,100"],
        "push": True,
    }
    return Request.from_dict(about | hub | changes)


@pytest.fixture(scope="module")
def evaluated(hub, loopback_hub, tmp_path_factory):
    """A worker that is killed after it offered a result, and the one that goes on: the store, the id and the status in the end."""
    folder = tmp_path_factory.mktemp("stores")
    stores = open_store(folder / "requests"), open_store(folder / "results")
    id, _, _ = Queue(stores[0]).submit(pushed(hub, submitter="alice", note="<script>"), namespaces=("alice", OWNER))
    options = {"folder": folder / "work", "backend": InProcess(device="cpu")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", f"hf_{BOT}")
        clock = Clock(patch)
        killed = Worker(*stores, name="killed", **options)
        patch.setattr(killed.queue, "finish", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            killed.step()
        assert len(discussions(loopback_hub, "offered/tiny")) == 1 and Queue(stores[0]).status(id).state == "RUNNING"
        clock.passed += 600
        survivor = Worker(*stores, name="survivor", **options)
        patch.setattr(survivor.backend, "start", lambda *_: pytest.fail("what is published is not evaluated again"))
        assert survivor.step() == id
    return stores[1], id, Queue(stores[0]).status(id)


def offer(entry: dict, owns: str = OWNER, **options) -> str:
    return offer_as(entry, owns=owns, **options)


def discussions(hub, repo_id: str) -> list[dict]:
    return hub._repos["model", repo_id].discussions


@pytest.fixture
def entry(evaluated) -> dict:
    results, id, _ = evaluated
    return parse_entry(results.read(f"results/{id}/entry.json"), id)


def about(entry: dict, loopback_hub, name: str, files: dict) -> dict:
    """The same result about another model, which is put on the Hub."""
    loopback_hub.add_repo("model", name, files)
    changed = copy.deepcopy(entry)
    changed["request"]["model"] = name
    return changed


def in_pull_request(repo_id: str, path: str, number: int = 1) -> str:
    with open(HfApi().hf_hub_download(repo_id, path, revision=f"refs/pr/{number}"), encoding="utf-8") as file:
        return file.read()


def test_a_worker_killed_after_offering_opens_no_second_pull_request(evaluated, entry, loopback_hub):
    _, id, status = evaluated
    opened = discussions(loopback_hub, "offered/tiny")
    assert status.state == "FINISHED" and status.attempts == 2 and status.worker == "survivor"
    assert (
        len(opened) == 1
        and opened[0]["title"] == pull_request_title(entry)
        and id in opened[0]["title"]
        and opened[0]["author"] == {"name": BOT}
    )
    assert status.offered == f"{loopback_hub.url}/offered/tiny/discussions/1"
    assert "README.md" not in HfApi().list_repo_files("offered/tiny"), "the owner's branch is left alone"
    for state in ("closed", "merged"):
        opened[0]["status"] = state
        assert offer(entry) == status.offered and len(opened) == 1


def test_the_pull_request_says_what_the_figures_mean(entry, loopback_hub):
    output = discussions(loopback_hub, "offered/tiny")[0]["description"]
    row = entry["rows"][1]
    for part in (
        "A high value means leakage",
        "Members are the positive class",
        estimate_text(row["auc"]),
        estimate_text(entry["blind_auc"]),
        "`sima:timesteps=50,100`",
        "chosen on one half",
        f"offered/split) at commit `{entry['request']['split_revision']}`",
        f"{N} members and {N} non-members",
        entry["command"],
        "yours to decide",
    ):
        assert part in output, part
    assert "<script>" not in output and "alice" not in output


def test_eval_results_and_model_index_are_read_by_the_hubs_own_client(entry, loopback_hub):
    for number, row in enumerate(entry["rows"]):
        content = yaml.safe_load(in_pull_request("offered/tiny", f".eval_results/mia_hub_{entry['id']}_{number:02d}.yaml"))
        (result,) = parse_eval_result_entries(content)
        assert (result.dataset_id, result.dataset_revision) == ("offered/split", entry["request"]["split_revision"])
        assert result.value == row["auc"]["value"] and result.task_id == "membership-inference" and result.date
        assert "A high value means that the model leaks" in result.notes and row["attack"] in result.notes
    card = ModelCard(in_pull_request("offered/tiny", "README.md"))
    values = {(result.metric_name, result.metric_value) for result in card.data.eval_results}
    assert ("AUC of sima:timesteps=50,100", entry["rows"][1]["auc"]["value"]) in values
    assert card.data.eval_results[0].dataset_revision == entry["request"]["split_revision"]


def test_what_is_in_the_card_already_stays(entry, loopback_hub):
    other = about(entry, loopback_hub, "offered/carded", {"README.md": OTHERS})
    link = "https://huggingface.co/datasets/o/results/blob/main/results/x/entry.json"
    assert offer(other, link=link) == f"{loopback_hub.url}/offered/carded/discussions/1"
    text = in_pull_request("offered/carded", "README.md")
    assert text.endswith("# Their card\n\nText.\n")
    (index,) = yaml.safe_load(text.split("---\n")[1])["model-index"]
    assert index["name"] == "Their name" and len(index["results"]) == 2
    assert index["results"][0] == yaml.safe_load(OTHERS.split("---\n")[1])["model-index"][0]["results"][0]
    assert index["results"][1]["source"] == {"name": "mia_hub leaderboard", "url": link}
    assert link in discussions(loopback_hub, "offered/carded")[0]["description"]
    # Another one, while this one is open, is one too many.
    first = discussions(loopback_hub, "offered/carded")[0]
    first["title"] = first["title"].replace(entry["id"], "0" * 16)
    with pytest.raises(OfferError, match=r"an earlier pull request is still open there, http.*/offered/carded/discussions/1\."):
        offer(other, link=link)
    # Once more, after it was merged: our figures are replaced and not repeated.
    loopback_hub.commit("model", "offered/carded", {"README.md": text})
    first["status"] = "merged"
    offer(other, link=link)
    assert len(yaml.safe_load(in_pull_request("offered/carded", "README.md", 2).split("---\n")[1])["model-index"][0]["results"]) == 2


@pytest.mark.parametrize(
    "name, card",
    [
        ("broken-yaml", "---\na: [\n---\ntext"),
        ("no-mapping", "---\n- a\n---\ntext"),
        ("odd-index", "---\nmodel-index: 3\n---\n"),
        ("odd-results", "---\nmodel-index:\n- results: [7]\n---\n"),
        ("no-dataset", "---\nmodel-index:\n- name: x\n  results:\n  - task: {type: x}\n    metrics: []\n---\n"),
        ("no-text", b"\xff\xfe\x00"),
        ("huge", "a" * 2_000_000),
    ],
)
def test_a_card_that_cannot_be_read_is_left_alone(entry, loopback_hub, name, card):
    other = about(entry, loopback_hub, f"offered/{name}", {"README.md": card})
    offer(other)
    files = HfApi().list_repo_files(f"offered/{name}", revision="refs/pr/1")
    assert sum(path.startswith(".eval_results/") for path in files) == 2
    tree = {ref: loopback_hub._repos["model", f"offered/{name}"].commits[commit].tree for ref, commit in refs(loopback_hub, name).items()}
    assert tree["main"]["README.md"] == tree["refs/pr/1"]["README.md"]


def refs(loopback_hub, name: str) -> dict[str, str]:
    return loopback_hub._repos["model", f"offered/{name}"].refs


def test_ours_is_found_among_many(entry, loopback_hub):
    other = about(entry, loopback_hub, "offered/busy", {"README.md": "busy"})
    repo = loopback_hub._repos["model", "offered/busy"]
    loopback_hub.add_discussion(repo, "mallory", pull_request_title(entry), pull_request=True)
    mine = loopback_hub.add_discussion(repo, BOT, pull_request_title(entry), pull_request=True)
    for number in range(25):
        loopback_hub.add_discussion(repo, BOT, f"Add membership-inference results ({number:016d})", pull_request=True)
    assert offer(other) == f"{loopback_hub.url}/offered/busy/discussions/{mine}"


CHANGES = {
    "it is what others report": ({"origin": "self-reported"}, "never reported ones"),
    "the demo": ({"request": {"model": "demo"}}, "demo model is no repository"),
    "two on top": ({"request": {"model": "a/b + c/d + e/f"}}, "none of them alone"),
    "another's model": ({"request": {"model": "google/ddpm"}}, "only google may request that"),
    "something of another's on top": ({"request": {"model": f"offered/tiny + google/lora@{'0' * 40}"}}, "only google may request"),
    "the demo's split": ({"request": {"split": "demo"}}, "no data set on the Hub"),
    "no shift check": ({"blind_auc": None}, "was not checked for a shift"),
    "a shift": ({"flags": [{"name": SHIFTED, "raised_by": "", "meaning": ""}]}, "fails the shift check"),
}


@pytest.mark.parametrize("changes, message", CHANGES.values(), ids=CHANGES)
def test_what_is_not_offered(entry, loopback_hub, changes, message):
    before = len(loopback_hub.log)
    changed = {key: entry[key] | value if isinstance(value, dict) else value for key, value in changes.items()}
    assert reason_against(entry, OWNER) is None and message in reason_against(entry | changed, OWNER)
    with pytest.raises(OfferError, match="not offered"):
        offer(entry | changed)
    with pytest.raises(OfferError, match="only offered may request that"):
        offer(entry, owns="")
    assert len(loopback_hub.log) == before


def test_a_result_with_something_on_top_is_offered_to_that(entry, loopback_hub):
    lora = about(entry, loopback_hub, "offered/lora", {"README.md": "lora"})
    lora["request"]["model"] = f"offered/tiny + offered/lora@{'0' * 40}"
    assert target_of(lora["request"]["model"]) == "offered/lora" and offer(lora) == f"{loopback_hub.url}/offered/lora/discussions/1"
    assert "`offered/tiny + offered/lora@0" in discussions(loopback_hub, "offered/lora")[0]["description"]


def test_an_owner_who_takes_none_fails_no_request(evaluated, entry, hub, loopback_hub, tmp_path, monkeypatch):
    """The request is finished, and its status says why nothing was offered."""
    requests, results = open_store(tmp_path / "requests"), open_store(tmp_path / "results")
    worker = Worker(requests, results, name="w", folder=tmp_path / "work")
    closed = about(entry, loopback_hub, "offered/closed", {"README.md": "closed"})
    loopback_hub._repos["model", "offered/closed"].takes_discussions = False

    def offered(entry: dict) -> str:
        id, _, _ = Queue(requests).submit(pushed(hub, seed=len(Queue(requests).listing()) + 1), namespaces=(OWNER,))
        assert Queue(requests).claim("w") == id
        return worker._offer(id, entry)

    assert "could not be offered to offered/closed: the Hub answered 403 (Discussions are disabled" in offered(closed)
    gone = copy.deepcopy(entry)
    gone["request"]["model"] = "offered/gone"
    assert "could not be offered to offered/gone: the Hub has no model" in offered(gone)
    with loopback_hub.broken("<html>"):
        assert "could not be offered to offered/closed" in offered(closed)
    monkeypatch.delenv("HF_TOKEN")
    assert "nobody is logged in" in offered(closed)
    assert discussions(loopback_hub, "offered/closed") == []
    with monkeypatch.context() as patch:
        patch.setattr("leaderboard.worker.offer.reason_against", lambda *_: [][0])
        assert "because of an error of ours (IndexError)" in offered(closed)
    # Nobody asked for it; or somebody else has the request now.
    id, _, _ = Queue(requests).submit(pushed(hub, push=False, seed=99))
    assert worker._offer(id, entry) == ""
    id, _, _ = Queue(requests).submit(pushed(hub, seed=98))
    assert worker._offer(id, entry) == ""
