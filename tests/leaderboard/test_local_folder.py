"""Local models and splits: what an operator has in a folder is submitted, evaluated, shown and verified; no stranger reaches it."""

import json
import shlex
import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest
from support.board_setting import InProcess
from support.made_requests import prepare
from support.tiny_pipelines import save, save_lora

import mia_hub
from leaderboard.errors import StoreError, SubmissionError
from leaderboard.page.api import submit_model, submit_scores
from leaderboard.page.entry_page import entry_page
from leaderboard.requests import intake
from leaderboard.requests.limits import Limits
from leaderboard.requests.local_folder import LocalFolder
from leaderboard.requests.queue import Queue
from leaderboard.requests.request import Request
from leaderboard.requests.status import Status
from leaderboard.results.entry import reproduction_command
from leaderboard.results.ranking import model_ranking
from leaderboard.results.reader import ResultsReader
from leaderboard.stores.store import as_json
from leaderboard.verify import IN_ORDER, verify
from leaderboard.worker import command, work_folder
from leaderboard.worker.backend import RequestUnavailable
from leaderboard.worker.offer import reason_against
from mia_hub.cli import parser as cli
from mia_hub.splits.member_split import make_split

N = 30


HASH = "sha256:" + "0" * 64


FACTS = {
    "data": "noise-8", "source": "drawn <b>by hand</b>", "licence": "MIT", "members": N, "steps": 7, "recipe": {"batch": 4, "at": [1, 2]},
    "command": "python -m training.demo --out 'runs/<i>x</i>'",
}  # fmt: skip


@pytest.fixture(scope="module")
def operator_folder(tiny_model, tmp_path_factory):
    """A folder of a model with its facts, one without, a LoRA with its base, and a split."""
    folder = tmp_path_factory.mktemp("operator") / "models"
    shutil.copytree(tiny_model, folder / "tiny")
    (folder / "tiny" / "training.json").write_text(json.dumps(FACTS))
    save("sd1", folder / "draws")
    save_lora("sd1", folder / "lora")
    rng = np.random.default_rng(0)
    images = [list(rng.integers(0, 256, (N, 8, 8), dtype=np.uint8)) for _ in range(2)]
    mia_hub.write_split(make_split(*images), folder / "split", progress=False)
    return folder


@pytest.fixture
def stores(stores, monkeypatch):
    for store, name in zip(stores, ("REQUESTS", "RESULTS")):
        monkeypatch.setenv(f"MIA_HUB_{name}", str(store.folder))
    monkeypatch.delenv("MIA_HUB_LOCAL", raising=False)
    monkeypatch.setattr(command, "LocalBackend", InProcess)
    return stores


@pytest.fixture
def folder(operator_folder, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(operator_folder, tmp_path / "models")


def submitted(capsys, *options, model="local:tiny", split="local:split") -> tuple[int, str, str]:
    fields = ["submit", "--model", model, "--split", split, "--attacks", "random", "sima:timesteps=50", "--seed", "3", "--json", *options]
    status = cli.main([str(part) for part in fields])
    output = capsys.readouterr()
    return status, output.out, output.err


def worked(tmp_path, *options) -> int:
    return command.main(["--once", "--device", "cpu", "--work", str(tmp_path / "work"), *map(str, options)])


def test_a_local_model_comes_all_the_way_to_the_board(folder, stores, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MIA_HUB_LOCAL", str(folder))
    assert command.worker_parser().parse_args([]).local == str(folder)
    status, output, _ = submitted(capsys)
    fields = json.loads(output)
    assert status == 0 and fields["request"]["model"] == "local:tiny" and fields["request"]["split"] == "local:split"
    model = mia_hub.load_model(folder / "tiny", device="cpu")
    assert fields["request"]["revision"] == model.info.revision and fields["request"]["revision"].startswith("sha256:")
    assert json.loads(submitted(capsys, "--local", folder)[1])["new"] is False
    assert worked(tmp_path, "--local", folder) == 0 and Queue(stores[0]).status(fields["id"]).state == "FINISHED"

    results = ResultsReader(stores[1].folder, None).read()
    (entry,) = results.entries
    assert not results.omitted and entry["origin"] == "computed" and entry["model"]["id"] == "local:tiny"
    assert entry["model"]["revision"] == model.info.revision and entry["split"]["name"] == "local:split"
    assert entry["split"]["hash"] == mia_hub.load_split(folder / "split").hash
    assert model_ranking([entry])[0]["model"] == "local:tiny"
    for path in stores[1].files():
        assert str(folder).encode() not in stores[1].read(path), "the operator's paths are shown nowhere"
    assert "a local model is no repository" in reason_against(entry, "")

    # All of it is there without the folder, but asking the model again.
    page = entry_page(results, entry["id"])
    assert "Trained on 30 images of noise-8 (drawn &lt;b&gt;by hand&lt;/b&gt;), licence MIT, for 7 steps; batch 4, at [1, 2]." in page.html
    assert "<code>python -m training.demo --out &#39;runs/&lt;i&gt;x&lt;/i&gt;&#39;</code>" in page.html and "<b>by" not in page.html
    assert model.info.revision in page.html and "huggingface.co/local" not in page.html
    assert verify([entry["id"]], str(stores[1].folder), write=lambda line: None) == IN_ORDER
    monkeypatch.chdir(folder)
    assert page.command == entry["command"] == reproduction_command(Request.from_dict(entry["request"]))
    again = [*shlex.split(page.command)[1:], "--device", "cpu", "--quiet", "--out", str(tmp_path / "out")]
    assert cli.main(again) == 0
    rows = json.loads((tmp_path / "out" / "comparison.json").read_text())["rows"]
    assert [row["report"]["auc"] for row in rows] == [row["auc"] for row in entry["rows"]]
    assert {row["report"]["model"]["revision"] for row in rows} == {model.info.revision}


def test_a_lora_on_top_is_pinned_with_its_base(operator_folder):
    local = LocalFolder(operator_folder)
    request, _ = prepare(model="local:draws  +  local:lora", split="local:split", attacks="sima", local=local)
    found = local.load_model(request.model, device="cpu")
    assert request.model == found.info.id == "local:draws + local:lora" and request.revision == found.info.revision
    assert Request.from_dict(request.to_dict()) == request and request.revision.count("sha256:") == 2
    assert "'./draws + ./lora'" in reproduction_command(request)


def changed_weights(folder):
    file = next((folder / "tiny" / "unet").glob("*.safetensors"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def changed_split(folder):
    rng = np.random.default_rng(1)
    images = [list(rng.integers(0, 256, (N, 8, 8), dtype=np.uint8)) for _ in range(2)]
    mia_hub.write_split(make_split(*images), folder / "split", progress=False)


def linked(folder):
    shutil.move(folder / "tiny", folder.parent / "outside")
    (folder / "tiny").symlink_to(folder.parent / "outside")


AFTERWARDS = {
    "other weights": (changed_weights, "local:tiny has changed since it was requested"),
    "other images": (changed_split, "local:split has changed since it was requested"),
    "no model any more": (lambda folder: shutil.rmtree(folder / "tiny"), "There is no local:tiny"),
    "no images any more": (lambda folder: shutil.rmtree(folder / "split"), "There is no local:split"),
    "a link in its place": (linked, "local:tiny is a link out of the folder"),
}


@pytest.mark.parametrize("case", AFTERWARDS)
def test_what_changed_after_it_was_asked_for_is_refused(folder, stores, tmp_path, capsys, case):
    change, message = AFTERWARDS[case]
    id = json.loads(submitted(capsys, "--local", folder)[1])["id"]
    change(folder)
    assert worked(tmp_path, "--local", folder) == 0
    status = Queue(stores[0]).status(id)
    assert status.state == "FAILED" and message in status.error and str(folder) not in status.error and not stores[1].files()


def test_an_evaluation_looks_at_what_it_has_loaded_itself(folder, tmp_path):
    """The folder may change between the worker's look and the evaluation's."""
    from leaderboard.worker.evaluate import REFUSED, main

    request, _ = prepare(model="local:tiny", split="local:split", attacks="random", local=LocalFolder(folder))
    (tmp_path / "limits.json").write_bytes(as_json(asdict(Limits()) | {"banned": []}))
    for change, message in (
        ({"revision": HASH}, "The model local:tiny is at"),
        ({"split_revision": HASH}, "The data set local:split is at"),
    ):
        (tmp_path / "request.json").write_bytes(as_json(replace(request, **change).to_dict()))
        assert main([str(tmp_path), "--device", "cpu", "--local", str(folder)]) == REFUSED
        assert message in (tmp_path / "error.txt").read_text()
    (tmp_path / "request.json").write_bytes(as_json(request.to_dict()))
    (folder / "tiny" / "model_index.json").write_text("[")
    assert main([str(tmp_path), "--device", "cpu", "--local", str(folder)]) == REFUSED
    output = (tmp_path / "error.txt").read_text()
    assert "local:tiny is broken" in output and str(folder) not in output


NAMES = {
    "up": ({"model": "local:.."}, "'local:NAME'"),
    "up and down": ({"model": "local:../models/tiny"}, "'local:NAME'"),
    "dots inside": ({"model": "local:ti..ny"}, "'local:NAME'"),
    "a path": ({"model": "local:tiny/unet"}, "'local:NAME'"),
    "an absolute path": ({"model": "local:/etc"}, "'local:NAME'"),
    "a blank": ({"split": "local: split"}, "'local:NAME'"),
    "nothing": ({"split": "local:"}, "'local:NAME'"),
    "too long": ({"model": "local:" + "x" * 100}, "'local:NAME'"),
    "a line break": ({"model": "local:tiny\nx"}, "line breaks"),
    "not there": ({"model": "local:gone"}, "There is no local:gone"),
    "no such split": ({"split": "local:gone"}, "There is no local:gone"),
    "a file": ({"model": "local:file"}, "There is no local:file"),
    "no model": ({"model": "local:split"}, "local:split is not a diffusion model"),
    "no split": ({"split": "local:tiny"}, "local:tiny doesn't say which images are members"),
    "a LoRA alone": ({"model": "local:lora"}, "with its base"),
    "a LoRA for another": ({"model": "local:tiny + local:lora"}, "diffusers puts none on"),
    "half on the Hub": ({"model": "local:tiny + owner/lora"}, "'local:NAME'"),
    "half here": ({"model": "owner/tiny + local:lora"}, "'local:NAME'"),
    "demo and more": ({"model": "demo + local:lora"}, "'local:NAME'"),
    "a link": ({"model": "local:link"}, "local:link is a link out of"),
    "a link inside": ({"model": "local:links"}, "local:links/unet is a link to a folder"),
    "a split's link inside": ({"split": "local:beside"}, "local:beside/data is a link to a folder"),
    "a file's link inside": ({"split": "local:linked-split"}, "local:linked-split/data/member-00000-of-00001.parquet is a link out of"),
    "another revision": ({"revision": HASH}, "and not sha256:000"),
    "a branch": ({"split_revision": "main"}, "and not main"),
    "an offer": ({"push": True}, "has no repository"),
    "too many images": ({"limits": Limits(images=10)}, "60 images; at most 10"),
}


@pytest.fixture(scope="module")
def with_links(operator_folder, tmp_path_factory):
    folder = shutil.copytree(operator_folder, tmp_path_factory.mktemp("links") / "models")
    outside = shutil.copytree(operator_folder, folder.parent / "outside")
    (folder / "link").symlink_to(outside / "tiny")
    shutil.copytree(folder / "tiny", folder / "links")
    shutil.rmtree(folder / "links" / "unet")
    (folder / "links" / "unet").symlink_to(outside / "tiny" / "unet")
    shutil.copytree(folder / "split", folder / "linked-split")
    file = folder / "linked-split" / "data" / "member-00000-of-00001.parquet"
    file.unlink()
    file.symlink_to(outside / "split" / "data" / file.name)
    (folder / "beside").mkdir()
    (folder / "beside" / "data").symlink_to(folder / "split" / "data")
    (folder / "inside").symlink_to(folder / "tiny")
    (folder / "file").write_text("x")
    return folder


@pytest.mark.parametrize("case", NAMES)
def test_names_that_lead_anywhere_else_are_refused(with_links, case):
    changes, message = NAMES[case]
    fields = {"model": "local:tiny", "split": "local:split", "attacks": "sima", "local": LocalFolder(with_links)}
    with pytest.raises(SubmissionError) as refused:
        prepare(**fields | changes)
    assert message in str(refused.value) and str(with_links) not in str(refused.value) and "\n" not in str(refused.value)


def test_a_link_within_the_folder_is_another_name(with_links):
    found = LocalFolder(with_links)
    assert found.revision("local:inside") == found.revision("local:tiny")


def test_a_folder_that_cannot_be_used_is_said(tmp_path, stores, capsys):
    (tmp_path / "a + b").mkdir()
    for folder, message in ((tmp_path / "none", "There is no folder"), (tmp_path / "a + b", r"has ' \+ ' in its name")):
        with pytest.raises(StoreError, match=message):
            LocalFolder(folder)
        assert submitted(capsys, "--local", folder)[0] == 2 and worked(tmp_path, "--local", folder) == 2
    assert worked(tmp_path, "--local", tmp_path, "--backend", "hf-jobs") == 2
    assert "can't see a folder of this machine" in capsys.readouterr().err


def by_the_api(**fields):
    submit_model(**fields, attacks="sima")


def by_the_page(**fields):
    raise SubmissionError(submit_scores("x.parquet", "mine", **fields, **_REST, profile=None, token=None, request=None)[0]["error"])


_REST = {"revision": "", "split_revision": "", "captions": "split", "seed": 0, "note": "", "push": False}


def by_a_proposal(**fields):
    class Hub:
        def propose(self, *_):
            raise AssertionError("it was proposed")

    queue = Queue(Hub(), Limits())
    intake.propose(queue, intake.Draft(**fields, attacks="sima"), submitter="mallory")


@pytest.mark.parametrize("way", [by_the_api, by_the_page, by_a_proposal])
@pytest.mark.parametrize("fields", [{"model": "local:tiny", "split": "demo"}, {"model": "demo", "split": "local:split"}], ids=str)
def test_no_way_that_strangers_have_takes_a_local_name(operator_folder, stores, monkeypatch, way, fields):
    monkeypatch.setenv("MIA_HUB_LOCAL", str(operator_folder))
    with pytest.raises(Exception, match="Only the person who runs the board can submit it, with 'mia-hub submit --local FOLDER'"):
        way(**fields)
    assert Queue(stores[0]).listing() == []


def test_the_command_line_takes_none_without_a_folder_nor_for_a_pull_request(operator_folder, stores, capsys):
    status, _, error = submitted(capsys)
    assert status == 2 and "Only the person who runs the board can submit it" in error
    status, _, error = submitted(capsys, "--local", operator_folder, "--pull-request")
    assert status == 2 and not Queue(stores[0]).listing()


def test_a_pull_request_that_brings_one_fails_and_an_operator_can_still_ask(operator_folder, stores):
    local, queue = LocalFolder(operator_folder), Queue(stores[0])
    request, _ = prepare(model="local:tiny", split="local:split", attacks="random", submitter="mallory", local=local)
    path = f"requests/{request.id}/request.json"
    stores[0].commit({path: as_json(request.to_dict())}, "put", parent=stores[0].version())
    assert queue.claim("w") is None
    status = queue.status(request.id)
    assert status.state == "FAILED" and "never accepted from a pull request" in status.error
    assert queue.submit(request)[2] and queue.claim("w") == request.id


def test_a_worker_without_the_folder_leaves_it_to_others(operator_folder, stores, tmp_path, capsys):
    id = json.loads(submitted(capsys, "--local", operator_folder)[1])["id"]
    with pytest.raises(RequestUnavailable, match="worker --local FOLDER"):
        work_folder.fill_work_folder(Queue(stores[0]), id, tmp_path / "work")
    assert worked(tmp_path) == 2 and "--local FOLDER" in capsys.readouterr().err
    status = Queue(stores[0]).status(id)
    assert (status.state, status.attempts) == ("PENDING", 0) and isinstance(status, Status)
