"""What people submit, on its way into the queue: by a function, the command line and pull requests, with a Hub of our own."""

import json
import os
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi
from support.tiny_pipelines import save, save_lora

from leaderboard.errors import AccessDenied, StoreError, SubmissionError
from leaderboard.requests import intake
from leaderboard.requests.intake import submitter_of
from leaderboard.requests.limits import Limits
from leaderboard.requests.queue import Queue, utc_now
from leaderboard.requests.request import Request
from leaderboard.requests.scores import LARGEST_SCORES, read_scores
from leaderboard.requests.status import Status, timestamp
from leaderboard.requests.submission_text import table_rows
from leaderboard.stores.hub_store import HubStore, git_name
from leaderboard.stores.opening import open_store
from leaderboard.stores.store import as_json
from leaderboard.stores.submitter import Submitter
from leaderboard.worker import work_folder
from mia_hub.cli import parser as cli
from mia_hub.scores import ScoreTable

DEMO = {"model": "demo", "split": "demo", "attacks": "sima"}
N = 40


def prepare(**asked):
    """`intake.prepare` of a draft with these fields."""
    options = {name: asked.pop(name) for name in ("submitter", "limits", "check", "local") if name in asked}
    return intake.prepare(intake.Draft(**asked), **options)


def submit(queue, asked, **options):
    return intake.submit(queue, intake.Draft(**asked), **options)


@pytest.fixture(scope="module")
def hub(loopback_hub, tiny_pixel_repo, tmp_path_factory):
    """Models and data sets of all kinds on the Hub."""
    folder = tmp_path_factory.mktemp("models")
    card = {"README.md": "x"}
    tiny = tiny_pixel_repo()
    loopback_hub.add_repo("model", "in/tiny", tiny)
    loopback_hub.add_repo("model", "in/private", tiny, private=True)
    loopback_hub.add_repo("model", "in/gated", tiny, gated=True)
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


# Names become commits


def test_branches_become_commits_and_stay(hub):
    asked = {"model": " in/tiny ", "split": "in/split", "attacks": "pia  sima:p=4\nrandom"}
    request, scores = prepare(**asked, revision="main", note=" two\nlines ", submitter="alice")
    assert (request.revision, request.split_revision) == (commit_of("in/tiny"), commit_of("in/split", "dataset"))
    assert (request.attacks, request.note, request.submitter, scores) == (("pia", "random", "sima"), "two lines", "alice", None)
    assert prepare(**asked)[0].id == request.id == prepare(**asked, revision=request.revision)[0].id
    before = request.revision
    hub.commit("model", "in/tiny", {"note.txt": "new"})
    assert prepare(**asked)[0].revision == commit_of("in/tiny") != before
    assert prepare(**asked, revision=before)[0].id == request.id


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
    ({"scores": b"x"}, "give its name, and no attacks"),
    ({"scores": b"x", "attacks": ""}, "Scores need the name"),
    ({"scores": b"x", "attacks": "", "attack_name": "mine"}, "can't be read"),
    ({"scores": "/nowhere", "attacks": "", "attack_name": "mine"}, "No such file"),
]


@pytest.mark.parametrize("changes, says", WRONG, ids=[says for _, says in WRONG])
def test_what_cannot_be_audited_is_refused_before_it_waits(hub, changes, says):
    with pytest.raises(SubmissionError, match=says.replace("(", r"\(")) as refused:
        prepare(**DEMO | changes)
    assert "\n" not in str(refused.value) and "log in" not in str(refused.value)


def test_weights_above_the_limit_are_refused_before_they_are_fetched(hub):
    with pytest.raises(SubmissionError, match="GiB are fetched"):
        prepare(model="in/tiny", split="in/split", attacks="sima", limits=Limits(model_gib=1e-6))
    assert not [path for path in hub.files_fetched("in/tiny") if path.endswith(".safetensors")]


# Scores


def table(**changes) -> ScoreTable:
    rng = np.random.default_rng(0)
    values = {"ids": [f"sha256:{i:064d}" for i in range(N)], "is_member": np.repeat([1, 0], N // 2), "timesteps": [50, 100]}
    values |= {"scores": rng.normal(size=(N, 2)), "attack": "mine", "model": {"id": "demo", "revision": None}}
    return ScoreTable(**values | changes)


def as_bytes(path, change=lambda arrow: arrow, **changes) -> bytes:
    table(**changes).to_parquet(path)
    pq.write_table(change(pq.read_table(path)), path)
    return path.read_bytes()


def with_metadata(**more):
    def change(arrow):
        said = json.loads(arrow.schema.metadata[b"mia_hub"]) | more
        return arrow.replace_schema_metadata({"mia_hub": json.dumps(said)})

    return change


def with_column(name, values):
    return lambda arrow: arrow.append_column(name, pa.array(values))


NAN = np.where(np.arange(2 * N).reshape(N, 2) == 3, np.nan, 0.5)
WRONG_SCORES = {
    "NaN": ({"scores": NAN}, None, "1 values that are NaN"),
    "a column twice": ({}, with_column("score_t50", np.zeros(N)), "can't be read"),
    "a timestep spelled twice": ({}, with_column("score_t050", np.zeros(N)), "two columns of one timestep"),
    "a timestep beyond numbers": ({}, with_column("score_t" + "9" * 30, np.zeros(N)), "can't be read"),
    "words for scores": ({}, with_column("score_t7", ["x"] * N), "can't be read"),
    "a forged mark": ({}, with_metadata(reproduced=True), "can't be read.*reproduced"),
    "a forged origin": ({}, with_metadata(origin="computed"), "can't be read.*origin"),
    "no metadata": ({}, lambda arrow: arrow.replace_schema_metadata({}), "can't be read"),
    "deep metadata": ({}, lambda arrow: arrow.replace_schema_metadata({"mia_hub": "[" * 100_000}), "can't be read"),
}


@pytest.mark.parametrize("case", WRONG_SCORES)
def test_scores_that_are_none_are_refused_at_once(tmp_path, case):
    changes, change, says = WRONG_SCORES[case]
    content = as_bytes(tmp_path / "t.parquet", change or (lambda arrow: arrow), **changes)
    with pytest.raises(SubmissionError, match=says):
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
    "long ids": ({"id": repeated("x" * 2000, 100_000), "score_t1": np.zeros(100_000)}, "an id of 2,000 bytes"),
    "constant columns": ({"id": repeated("x", 60_000), **{f"score_t{t}": repeated(0.5, 60_000) for t in range(900)}}, "412 MiB unpacked"),
    "lists": ({"id": ["x"], "score_t1": [[0.5] * 100_000]}, "'score_t1' holds list"),
    "ids of numbers": ({"id": [1], "score_t1": [0.5]}, "id holds int64, and should hold text"),
    "text beside": ({"id": ["x"], "score_t1": [0.5], "y": ["y" * 1000]}, "'y' holds string, and should hold numbers"),
}


@pytest.mark.parametrize("case", LARGE_INSIDE)
def test_what_is_large_inside_is_refused_before_it_is_unpacked(tmp_path, monkeypatch, case):
    columns, says = LARGE_INSIDE[case]
    monkeypatch.setattr(ScoreTable, "from_parquet", lambda path: pytest.fail("it was unpacked"))
    content, before = written(tmp_path / "t.parquet", columns), pa.total_allocated_bytes()
    assert len(content) < 2**20
    with pytest.raises(SubmissionError, match=says):
        read_scores(content)
    assert pa.total_allocated_bytes() - before < 2**23


def test_the_day_is_counted_before_scores_are_read(tmp_path, monkeypatch):
    queue = Queue(open_store(tmp_path / "store"), Limits(per_day=1))
    submit(queue, DEMO, submitter="alice")
    monkeypatch.setattr(intake, "read_scores", lambda content: pytest.fail("they were read"))
    with pytest.raises(SubmissionError, match="alice has made 1 requests"):
        submit(queue, {"model": "demo", "split": "demo", "scores": b"PAR1", "attack_name": "mine"}, submitter="alice")
    # What was asked before is no further request.
    assert not submit(queue, DEMO, submitter="alice").new


def test_scores_are_filed_under_their_content(tmp_path):
    content = as_bytes(tmp_path / "t.parquet")
    (tmp_path / "t.parquet").write_bytes(content)
    request, kept = prepare(model="demo", split="demo", scores=tmp_path / "t.parquet", attack_name=" =my\n<b>attack</b>")
    assert kept == content and request.kind == "scores" and request.attacks == ("=my <b>attack</b>",)
    assert prepare(model="demo", split="demo", scores=content, attack_name="=my <b>attack</b>")[0].id == request.id


# The command line


def run(capsys, *arguments) -> tuple[int, str, str]:
    status = cli.main([str(part) for part in arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_the_command_line_submits_and_follows(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MIA_HUB_REQUESTS", str(tmp_path / "requests"))
    monkeypatch.setenv("LOGNAME", "alice")
    assert "Nothing was submitted yet" in run(capsys, "submissions")[1]
    asked = ["submit", "--model", "demo", "--split", "demo"]
    status, said, _ = run(capsys, *asked, "--attacks", "sima", "pia:timesteps=200", "--note", "n", "--offer-result", "--json")
    made = json.loads(said)
    assert status == 0 and made["new"] and made["request"]["push"] and made["request"]["submitter"] == "alice"
    assert made["request"]["attacks"] == ["pia:timesteps=200", "sima"]
    (tmp_path / "t.parquet").write_bytes(as_bytes(tmp_path / "t.parquet"))
    status, said, _ = run(capsys, *asked, "--scores", tmp_path / "t.parquet", "--attack-name", "mine")
    assert status == 0 and "is in the queue" in said and "mia-hub submissions" in said
    queue = Queue(open_store(tmp_path / "requests"))
    assert queue.claim("w") == made["id"]
    queue.fail(made["id"], "w", "It \x1b[31mbroke\ndown.")
    _, said, _ = run(capsys, "submissions")
    assert "number 1 in the queue" in said and "Error: It [31mbroke down." in said and "\x1b" not in said
    _, said, _ = run(capsys, "submissions", made["id"])
    for part in ("failed", "pia:timesteps=200, sima", "Before", "claimed by w", "alice", "UTC"):
        assert part in said
    assert json.loads(run(capsys, "submissions", made["id"], "--json")[1])["status"]["error"] == "It \x1b[31mbroke\ndown."
    assert {each["id"] for each in json.loads(run(capsys, "submissions", "--json")[1])} > {made["id"]}
    assert "made before: waiting" not in run(capsys, *asked, "--attacks", "sima", "pia:timesteps=200", "--note", "n")[1]
    assert "made before: waiting" in run(capsys, *asked, "--attacks", "sima", "pia:timesteps=200")[1]


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["submit", "--model", "demo", "--split", "demo", "--attacks", "simma"], "Did you mean 'sima'"),
        (["submit", "--model", "demo", "--split", "demo", "--scores", "/nowhere", "--attack-name", "x"], "No such file"),
        (["submit", "--model", "demo", "--split", "demo", "--attacks", "sima", "--pull-request"], "Submit without one"),
        (["submissions", "0" * 16], "There is no request"),
    ],
)
def test_the_command_line_says_what_is_wrong(tmp_path, capsys, monkeypatch, arguments, says):
    monkeypatch.setenv("MIA_HUB_REQUESTS", str(tmp_path / "requests"))
    status, said, error = run(capsys, *arguments)
    assert status == 2 and said == "" and says in error


def test_what_became_of_an_offer_is_shown(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MIA_HUB_REQUESTS", str(tmp_path))
    queue = Queue(open_store(tmp_path))
    made = submit(queue, DEMO | {"push": True}, submitter="alice")
    assert queue.claim("w") == made.id and queue.finish(made.id, "w", offered="https://hub/x/discussions/1 \x1b[31m<b>\nnone")
    for arguments in (["submissions"], ["submissions", made.id]):
        _, said, _ = run(capsys, *arguments)
        assert "Offered" in said and "https://hub/x/discussions/1 [31m<b> none" in said and "\x1b" not in said
    ((state, *_),) = table_rows(queue.listing())
    assert state.endswith("; offered: https://hub/x/discussions/1 [31m<b> none")


# Pull requests


@pytest.fixture
def on_the_hub(hub):
    """Alice's data set of requests, into which Bob may not write: its address."""
    name = f"alice/requests-{len(hub.log)}"
    HubStore(name, token="hf_alice")
    yield name
    hub.delete_repo("dataset", name)


def test_a_request_comes_by_pull_request(on_the_hub, hub, capsys, monkeypatch):
    asked = ["submit", "--model", "in/tiny", "--split", "in/split", "--attacks", "sima", "--requests", f"hub:{on_the_hub}"]
    assert "nobody is logged in" in run(capsys, *asked)[2]
    monkeypatch.setenv("HF_TOKEN", "hf_bob")
    status, _, error = run(capsys, *asked)
    assert status == 2 and "--pull-request" in error and "can't be read or written" in error
    status, said, _ = run(capsys, *asked, "--pull-request")
    assert status == 0 and f"/datasets/{on_the_hub}/discussions/1" in said
    made = json.loads(run(capsys, *asked, "--pull-request", "--json")[1])
    assert made["pull_request"].endswith("/2")
    queue = Queue(HubStore(on_the_hub, token="hf_alice"))
    assert queue.listing() == []
    HfApi(token="hf_alice").merge_pull_request(on_the_hub, 1, repo_type="dataset")
    (found,) = queue.listing()
    assert (found.id, found.status, found.request.submitter, found.place) == (made["id"], Status(), "bob", 1)
    assert "a pull request brought it" in run(capsys, "submissions", "--requests", f"hub:{on_the_hub}")[1]
    assert "made before" in run(capsys, *asked, "--pull-request")[1]
    assert queue.claim("w") == made["id"]
    assert queue.status(made["id"]).submitter == "bob (pull request)" and queue.status(made["id"]).submitted
    queue.fail(made["id"], "w", "It broke.")
    assert "failed: It broke. A pull request can't submit it again" in run(capsys, *asked, "--pull-request")[2]


def test_who_submits_is_who_is_logged_in(on_the_hub, hub, tmp_path, monkeypatch):
    hub.organisations["bob"] = {"acme": "write", "museum": "read"}
    assert submitter_of(HubStore(on_the_hub, token="hf_bob")) == Submitter("bob", ("bob", "acme"))
    monkeypatch.setenv("LOGNAME", "carol")
    assert submitter_of(open_store(tmp_path)) == Submitter("carol"), "which is no login on the Hub"
    with pytest.raises(AccessDenied, match="hf auth login"):
        submitter_of(HubStore(on_the_hub))


OWNERS = [
    (Submitter("in", ("in",)), "in"),
    (Submitter("bob", ("bob", "in")), "in"),
    (Submitter("bob", ("bob",)), ""),
    (Submitter("in"), ""),
    ("in", ""),
]


@pytest.mark.parametrize("submitter, owns", OWNERS)
def test_whether_the_owner_of_a_model_asks_is_what_the_hub_says(hub, tmp_path, submitter, owns):
    asked = {"model": "in/draws + in/lora", "split": "in/split", "attacks": "sima", "push": True}
    queue = Queue(open_store(tmp_path))
    made = submit(queue, asked, submitter=submitter)
    assert queue.status(made.id).owns == owns and made.request.submitter == getattr(submitter, "name", submitter)


def test_the_name_in_a_pull_request_owns_nothing(tmp_path):
    store = open_store(tmp_path)
    request = Request.from_dict(GOOD.to_dict() | {"model": "bob/model", "revision": "0" * 40, "push": True})
    put(store, {f"requests/{request.id}/request.json": as_json(request.to_dict())})
    queue = Queue(store)
    assert queue.claim("w") == request.id and queue.status(request.id).owns == ""
    # Nor does whoever brings it once more have it offered.
    queue.fail(request.id, "w", "It broke.")
    queue.submit(request, namespaces=("bob",))
    assert queue.status(request.id).owns == ""


@pytest.mark.parametrize("space, says", [("", "hf auth login"), ("alice/board", "secret HF_TOKEN")])
def test_no_right_to_write_says_what_to_do(on_the_hub, monkeypatch, space, says):
    monkeypatch.setenv("SPACE_ID", space)
    with pytest.raises(AccessDenied, match=says):
        submit(Queue(HubStore(on_the_hub, token="hf_bob")), DEMO, submitter="bob")


GOOD = Request.from_dict({"kind": "model", "model": "demo", "split": "demo", "attacks": ["sima"], "seed": 1, "submitter": "bob"})
FORGED = {
    "no JSON": (b"{", "not readable JSON"),
    "no text": (b"\xff\xfe\x00", "not readable JSON"),
    "too deep": (b"[" * 100_000, "not readable JSON"),
    "a list": (b"[]", "should hold a JSON object"),
    "two megabytes": (b'{"note": "' + b"x" * 2**21 + b'"}', "MiB; at most 1 MiB are read"),
    "a further field": (as_json(GOOD.to_dict() | {"reproduced": True}), "has no field 'reproduced'"),
    "another request": (as_json(GOOD.to_dict() | {"seed": 2}), "is not what was submitted"),
    "a path": (as_json(GOOD.to_dict() | {"model": "../../etc"}), "Hub id"),
    "a lone surrogate": (json.dumps(GOOD.to_dict() | {"note": "\ud800"}).encode(), "control characters"),
    "numbers for texts": (as_json(GOOD.to_dict() | {"submitter": 7}), "submitter must be text"),
    "a banned user": (as_json((GOOD.to_dict()) | {"submitter": "Mallory"}), "not accepted here"),
    "scores that aren't there": (as_json(GOOD.to_dict() | {"kind": "scores", "scores": "0" * 64}), "is not what was submitted"),
}


@pytest.fixture(params=["folder", "hub"])
def store(request, tmp_path, on_the_hub):
    return open_store(tmp_path / "store") if request.param == "folder" else HubStore(on_the_hub, token="hf_alice")


def put(store, files):
    store.commit(files, "put", parent=store.version())


@pytest.mark.parametrize("case", FORGED)
def test_what_a_pull_request_brings_wrong_fails_visibly_and_holds_nobody_up(tmp_path, case):
    content, says = FORGED[case]
    store = open_store(tmp_path / "store")
    put(store, {f"requests/{GOOD.id}/request.json": content, "limits.json": as_json({"banned": ["mallory"]})})
    queue = Queue(store)
    assert [each.status.state for each in queue.listing()] == ["PENDING"]
    honest = submit(queue, DEMO, submitter="alice")
    assert queue.claim("w") == honest.id and queue.claim("w") is None
    status = queue.status(GOOD.id)
    assert status.state == "FAILED" and says in status.error and status.finished
    # It can be put right: the same request, submitted by somebody, replaces what is broken.
    if case != "a banned user":
        assert queue.submit(GOOD)[2] and queue.request(GOOD.id).seed == 1 and queue.claim("w") == GOOD.id


def test_odd_places_and_statuses_do_no_harm(store):
    now = timestamp(utc_now())
    statuses = {
        "state": {"state": "DONE"}, "attempts": {"attempts": "many"}, "time": {"submitted": "yesterday"}, "zone": {"lease": "2026-01-01"},
        "field": {"reproduced": True}, "history": {"history": [{"why": 1}]}, "text": {"error": "x" * 5000}, "list": {"history": 5},
    }  # fmt: skip
    files = {f"requests/{name}/status.json": as_json(values) for name, values in statuses.items()}
    files |= {f"requests/{name}/request.json": as_json(GOOD.to_dict()) for name in ("text", "my-request", "x" * 90)}
    files |= {
        "requests/loose.json": b"{}",
        "requests/a/b/c.json": b"{}",
        "requests/empty/scores.parquet": b"",
        "other/x/request.json": b"{}",
    }
    put(store, files)
    queue = Queue(store)
    assert queue.claim("w") is None
    found = {each.id: each for each in queue.listing()}
    assert set(found) == {*statuses, "my-request", "x" * 90, "empty"}
    assert {each.status.state for each in found.values()} == {"FAILED"} and all(each.status.error for each in found.values())
    assert submit(queue, DEMO, submitter="alice").new and queue.claim("w", at=utc_now()) is not None
    assert queue.status("my-request").submitted >= now


def test_a_status_that_was_lost_is_begun_again(tmp_path):
    store = open_store(tmp_path)
    queue = Queue(store)
    queue.submit(GOOD)
    put(store, {f"requests/{GOOD.id}/status.json": b"{"})
    assert queue.status(GOOD.id).state == "FAILED" and queue.claim("w") is None
    assert queue.submit(replace(GOOD, submitter="alice"))[2] and queue.claim("w") == GOOD.id
    status = queue.status(GOOD.id)
    assert (status.submitter, status.state) == ("alice", "RUNNING") and status.submitted


def test_names_in_pull_requests_have_a_count_of_their_own(store):
    requests = [Request.from_dict(GOOD.to_dict() | {"seed": seed, "submitter": "alice"}) for seed in range(4)]
    put(store, {f"requests/{each.id}/request.json": as_json(each.to_dict()) for each in requests} | {"limits.json": b'{"per_day": 3}'})
    queue = Queue(store)
    assert queue.claim("w") is not None
    states = sorted(status.state for _, status in queue.statuses().items())
    assert states == ["FAILED", "PENDING", "PENDING", "RUNNING"]
    (failed,) = [status for _, status in queue.statuses().items() if status.state == "FAILED"]
    assert "alice has made 3 requests in 24 hours; at most 3" in failed.error
    # Whoever really is alice still has all of hers.
    made = [submit(queue, DEMO | {"seed": seed}, submitter="alice") for seed in range(10, 13)]
    assert all(each.new for each in made)
    with pytest.raises(SubmissionError, match="alice has made 3 requests"):
        submit(queue, DEMO | {"seed": 13}, submitter="alice")


@pytest.mark.parametrize("name, shown", [("alice", "alice (pull request)"), ("a" * 96, "a" * 81 + " (pull request)")])
def test_a_name_from_a_pull_request_is_shown_as_one(tmp_path, name, shown):
    store = open_store(tmp_path / "store")
    claimed = replace(GOOD, submitter=name)
    put(store, {f"requests/{claimed.id}/request.json": as_json(claimed.to_dict())})
    queue = Queue(store)
    assert queue.claim("w") == claimed.id
    work_folder.fill(queue, claimed.id, tmp_path / "work")
    evaluated = Request.from_dict(json.loads((tmp_path / "work" / "request.json").read_text()))
    assert evaluated.submitter == queue.status(claimed.id).submitter == shown and evaluated.id == claimed.id
    honest = submit(queue, DEMO, submitter="alice").id
    work_folder.fill(queue, honest, tmp_path / "honest")
    assert json.loads((tmp_path / "honest" / "request.json").read_text())["submitter"] == "alice"


def test_trying_again_counts_and_goes_to_the_end(tmp_path):
    queue, start = Queue(open_store(tmp_path), Limits(per_day=2)), utc_now()
    at = [start + timedelta(minutes=minutes) for minutes in range(6)]
    alices = replace(GOOD, submitter="alice")
    queue.submit(alices, at=at[0])
    assert queue.claim("w", at=at[1]) == alices.id and queue.fail(alices.id, "w", "It broke.", at=at[1])
    others, _, _ = queue.submit(replace(GOOD, seed=7), at=at[2])
    assert queue.submit(alices, at=at[3])[2]
    assert {each.id: each.place for each in queue.listing()} == {others: 1, alices.id: 2}
    with pytest.raises(SubmissionError, match="alice has made 2 requests"):
        queue.submit(replace(alices, seed=8), at=at[4])
    assert queue.submit(replace(alices, seed=8), at=at[0] + timedelta(days=1, minutes=1))[2]


def test_scores_are_those_that_were_named(tmp_path):
    store = open_store(tmp_path / "store")
    content = as_bytes(tmp_path / "t.parquet")
    made = submit(Queue(store), {"model": "demo", "split": "demo", "scores": content, "attack_name": "mine"}, submitter="a")
    assert Queue(store).scores(made.id) == content
    put(store, {f"requests/{made.id}/scores.parquet": content + b" "})
    with pytest.raises(SubmissionError, match="SHA-256 differs"):
        Queue(store).scores(made.id)
    put(store, {f"requests/{made.id}/scores.parquet": bytes(LARGEST_SCORES + 1)})
    with pytest.raises(SubmissionError, match="MiB are read"):
        Queue(store).scores(made.id)
    assert Queue(store).claim("w") == made.id and Queue(store).fail(made.id, "w", "The scores are others.")
    again = {"model": "demo", "split": "demo", "scores": content, "attack_name": "mine", "note": "again"}
    assert submit(Queue(store), again, submitter="b").new and Queue(store).scores(made.id) == content
    assert Queue(store).request(made.id).note == "", "what was submitted first stays"


# Many requests


def test_a_long_list_costs_few_questions(on_the_hub, hub):
    many, start = 400, timestamp(utc_now())
    files = {}
    for seed in range(many):
        request = Request.from_dict(GOOD.to_dict() | {"seed": seed})
        files[f"requests/{request.id}/request.json"] = as_json(request.to_dict())
        files[f"requests/{request.id}/status.json"] = as_json(Status("FINISHED", submitted=start, submitter="bob").to_dict())
    hub.commit("dataset", on_the_hub, files)

    def asked(what) -> int:
        before = len(hub.log)
        what()
        return len(hub.log) - before

    store = HubStore(on_the_hub, token="hf_alice")
    cold = asked(lambda: Queue(store).listing())
    assert cold > many, "nothing is packed yet"
    assert asked(lambda: Queue(store).listing()) == 1, "what hasn't changed is not asked for again"
    submit(Queue(store), DEMO | {"seed": 5001}, submitter="alice")
    submit(Queue(store), DEMO | {"seed": 5000}, submitter="alice")
    fresh = HubStore(on_the_hub, token="hf_bob")
    assert asked(lambda: Queue(fresh).listing()) < 15, "a newcomer is served by the pack"
    assert len(Queue(fresh).listing()) == many + 2 and all(each.request for each in Queue(fresh).listing())


@pytest.mark.parametrize("pack", [b"{", b"[7]", b'{"a": "b"}', json.dumps(["forged"] * 3).encode()])
def test_a_forged_pack_is_of_no_use(on_the_hub, hub, monkeypatch, pack):
    monkeypatch.setattr("leaderboard.stores.hub_store.WORTH_A_PACK", 1)
    hub.commit("dataset", on_the_hub, {f"requests/{GOOD.id}/request.json": as_json(GOOD.to_dict()), HubStore.PACK: pack})
    (found,) = Queue(HubStore(on_the_hub, token="hf_alice")).listing()
    assert found.request == GOOD


def test_contents_are_named_as_git_names_them():
    # git hash-object of an empty file, and of "hello\n".
    assert (
        git_name(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391" and git_name(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"
    )


def test_a_store_that_is_away_is_said_and_nothing_is_lost(on_the_hub, hub):
    queue = Queue(HubStore(on_the_hub, token="hf_alice"))
    made = submit(queue, DEMO, submitter="alice")
    with hub.broken(500), pytest.raises(StoreError, match="can't be read or written"):
        queue.listing()
    assert queue.status(made.id).state == "PENDING"
