"""What people submit, on its way into the queue, with a Hub of our own."""

import pytest
from huggingface_hub import HfApi
from support.made_requests import DEMO, prepare, submit
from support.tiny_pipelines import save, save_lora

from leaderboard.errors import AccessDenied, SubmissionError
from leaderboard.requests import intake
from leaderboard.requests.intake import submitter_of
from leaderboard.requests.limits import Limits
from leaderboard.requests.queue import Queue
from leaderboard.requests.request import Request
from leaderboard.stores.hub_store import HubStore
from leaderboard.stores.opening import open_store
from leaderboard.stores.submitter import Submitter


@pytest.fixture(scope="module")
def hub(loopback_hub, tiny_model, tiny_pixel_repo, tmp_path_factory):
    """Models and data sets of all kinds on the Hub."""
    folder = tmp_path_factory.mktemp("models")
    card = {"README.md": "x"}
    loopback_hub.add_repo("model", "in/tiny", tiny_model)
    loopback_hub.add_repo("model", "in/private", tiny_model, private=True)
    loopback_hub.add_repo("model", "in/gated", tiny_model, gated=True)
    loopback_hub.add_repo("model", "in/pickled", tiny_pixel_repo(weights="bin"))
    loopback_hub.add_repo("model", "in/text", card)
    loopback_hub.add_repo("model", "in/draws", save("sd1", folder / "base"))
    loopback_hub.add_repo("model", "in/lora", save_lora("sd1", folder / "lora"))
    loopback_hub.add_repo("dataset", "in/split", {"data/train.parquet": "x" * 2000})
    loopback_hub.add_repo("dataset", "in/tables", {"data.csv": "image\n"})
    loopback_hub.add_repo("dataset", "in/private-split", card, private=True)
    loopback_hub.add_repo("dataset", "in/gated-split", card, gated=True)
    return loopback_hub


def commit_of(name, kind="model"):
    return HfApi().repo_info(name, repo_type=kind).sha


def test_branches_become_commits_and_stay(hub):
    fields = {"model": " in/tiny ", "split": "in/split", "attacks": "pia  sima:p=4\nrandom"}
    request, scores = prepare(**fields, revision="main", note=" two\nlines ", submitter="alice")
    assert (request.revision, request.split_revision) == (commit_of("in/tiny"), commit_of("in/split", "dataset"))
    assert (request.attacks, request.note, request.submitter, scores) == (("pia", "random", "sima"), "two lines", "alice", None)
    assert prepare(**fields)[0].id == request.id == prepare(**fields, revision=request.revision)[0].id
    before = request.revision
    hub.commit("model", "in/tiny", {"note.txt": "new"})
    assert prepare(**fields)[0].revision == commit_of("in/tiny") != before
    assert prepare(**fields, revision=before)[0].id == request.id


def test_what_lies_on_top_is_pinned_too(hub):
    request, _ = prepare(model="in/draws + in/lora", split="in/split", attacks=["sima"])
    lora = commit_of("in/lora")
    assert request.model == f"in/draws + in/lora@{lora}" and request.revision == commit_of("in/draws")
    assert Request.from_dict(request.to_dict()) == request
    hub.commit("model", "in/lora", {"note.txt": "new"})
    assert prepare(model=f"in/draws + in/lora@{lora}", split="in/split", attacks="sima")[0].id == request.id
    file = "in/lora/pytorch_lora_weights.safetensors"
    assert (
        prepare(model=f"in/draws + {file}@main", split="in/split", attacks="sima")[0].model == f"in/draws + {file}@{commit_of('in/lora')}"
    )


WRONG = [
    ({"model": "in/gone"}, "no public model 'in/gone'"),
    ({"model": "in/private"}, "no public model 'in/private'"),
    ({"model": "in/gated"}, "gated"),
    ({"model": "in/pickled"}, "only pickled weights"),
    ({"model": "in/text"}, "not a diffusion model"),
    ({"model": "in/lora"}, "with its base"),
    ({"model": "in/tiny", "revision": "gone"}, "no revision 'gone'"),
    ({"model": "in/tiny", "revision": "0" * 40}, "no revision"),
    ({"model": "in/draws + in/gone"}, "no public model 'in/gone'\\."),
    ({"model": "in/draws + in/lora/other.safetensors"}, "no file or part other.safetensors"),
    ({"model": "in/draws + in/lora@gone"}, "no revision 'gone'"),
    ({"model": "in/draws + in/lora + in/lora + in/lora"}, "At most 2"),
    ({"model": "in/../x"}, "Hub id"),
    ({"model": "in/x\u202ey"}, "Hub id"),
    ({"model": "demo", "revision": "main"}, "has no revision"),
    ({"model": "demo + in/lora"}, "takes no overlays here"),
    ({"split": "in/gone"}, "no public data set 'in/gone'"),
    ({"split": "in/private-split"}, "no public data set 'in/private-split'"),
    ({"split": "in/gated-split"}, "gated"),
    ({"split": "in/split", "split_revision": "gone"}, "no revision 'gone'"),
    ({"split": "in/tables"}, "no Parquet files.*mia-hub make-split … --push"),
    ({"split": "in/split", "limits": Limits(split_gib=1e-6)}, "GiB of Parquet files; at most 1e-06 GiB.*mia-hub make-split"),
    ({"split": "/etc"}, "Hub id"),
    ({"split": "demo", "split_revision": "main"}, "has no revision"),
    ({"attacks": ""}, "names no attack"),
    ({"attacks": "simma"}, "Did you mean 'sima'"),
    ({"attacks": ["sima", "sima"]}, "more than once"),
    ({"attack_name": "mine"}, "for scores of your own"),
    ({"captions": "swapped"}, "captions must be"),
    ({"seed": 1.5}, "seed must be"),
    ({"note": "x" * 501}, "at most 500"),
    ({"push": "yes"}, "push must be"),
    ({"model": 7}, "model must be text"),
    ({"scores": b"x"}, "give its name, and leave attacks empty"),
    ({"scores": b"x", "attacks": ""}, "Scores need the name"),
    ({"scores": b"x", "attacks": "", "attack_name": "mine"}, "can't be read"),
    ({"scores": "/nowhere", "attacks": "", "attack_name": "mine"}, "No such file"),
]


@pytest.mark.parametrize("changes, message", WRONG, ids=[message for _, message in WRONG])
def test_what_cannot_be_audited_is_refused_before_it_waits(hub, changes, message):
    with pytest.raises(SubmissionError, match=message.replace("(", r"\(")) as refused:
        prepare(**DEMO | changes)
    assert "\n" not in str(refused.value) and "log in" not in str(refused.value)


def test_weights_above_the_limit_are_refused_before_they_are_fetched(hub):
    with pytest.raises(SubmissionError, match="here at most"):
        prepare(model="in/tiny", split="in/split", attacks="sima", limits=Limits(model_gib=1e-6))
    assert not [path for path in hub.files_fetched("in/tiny") if path.endswith(".safetensors")]


def test_the_day_is_counted_before_scores_are_read(tmp_path, monkeypatch):
    queue = Queue(open_store(tmp_path / "store"), Limits(per_day=1))
    submit(queue, DEMO, submitter="alice")
    monkeypatch.setattr(intake, "read_scores", lambda content: pytest.fail("they were read"))
    with pytest.raises(SubmissionError, match="alice has made 1 requests"):
        submit(queue, {"model": "demo", "split": "demo", "scores": b"PAR1", "attack_name": "mine"}, submitter="alice")
    # What was asked before is no further request.
    assert not submit(queue, DEMO, submitter="alice").new


def test_who_submits_is_who_is_logged_in(store_on_the_hub, hub, tmp_path, monkeypatch):
    hub.organisations["bob"] = {"acme": "write", "museum": "read"}
    assert submitter_of(HubStore(store_on_the_hub, token="hf_bob")) == Submitter("bob", ("bob", "acme"))
    monkeypatch.setenv("LOGNAME", "carol")
    assert submitter_of(open_store(tmp_path)) == Submitter("carol"), "which is no login on the Hub"
    with pytest.raises(AccessDenied, match="hf auth login"):
        submitter_of(HubStore(store_on_the_hub))


OWNERS = [
    (Submitter("in", ("in",)), "in"),
    (Submitter("bob", ("bob", "in")), "in"),
    (Submitter("bob", ("bob",)), ""),
    (Submitter("in"), ""),
    ("in", ""),
]


@pytest.mark.parametrize("submitter, owns", OWNERS)
def test_whether_the_owner_of_a_model_asks_is_what_the_hub_says(hub, tmp_path, submitter, owns):
    fields = {"model": "in/draws + in/lora", "split": "in/split", "attacks": "sima", "push": True}
    queue = Queue(open_store(tmp_path))
    accepted = submit(queue, fields, submitter=submitter)
    assert queue.status(accepted.id).owns == owns and accepted.request.submitter == getattr(submitter, "name", submitter)


@pytest.mark.parametrize("space, message", [("", "hf auth login"), ("alice/board", "secret HF_TOKEN")])
def test_no_right_to_write_says_what_to_do(store_on_the_hub, monkeypatch, space, message):
    monkeypatch.setenv("SPACE_ID", space)
    with pytest.raises(AccessDenied, match=message):
        submit(Queue(HubStore(store_on_the_hub, token="hf_bob")), DEMO, submitter="bob")
