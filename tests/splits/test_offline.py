"""A split that was just used works without a network, and where it can't, the message says what to do."""

from __future__ import annotations

import json
import re
import secrets
import socket
import subprocess
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import datasets
import pytest
from huggingface_hub import snapshot_download
from support.loopback_web import Web
from support.parquet_files import bitmaps, cells, large_split, table

from mia_hub.errors import SplitError
from mia_hub.splits import hub_rows
from mia_hub.splits.hub_listing import open_listing
from mia_hub.splits.loading import load_split
from mia_hub.system import web as web_module

LABEL = datasets.ClassLabel(names=["nonmember", "member"])


def card_of(members: str, nonmembers: str, more: str = "") -> str:
    files = f"  - split: member\n    path: {members}\n  - split: nonmember\n    path: {nonmembers}\n"
    return f"---\nlicense: mit\nconfigs:\n- config_name: default\n  data_files:\n{files}{more}---\n"


def labelled(**more) -> dict:
    return {"data/train-00000-of-00001.parquet": table({"image": cells(4)} | more, **({"label": LABEL} if "label" in more else {}))}


def folder_of_images(web) -> dict:
    files = {f"images/{name}/{i}.bmp": image for k, name in enumerate("ab") for i, image in enumerate(bitmaps(3, k)[1].to_pylist())}
    return files | {"README.md": card_of("images/a/*", "images/b/*")}


def table_of_addresses(web, kind: str) -> dict:
    urls = {side: [f"{web.url}/good/{10 * k + i}" for i in range(3)] for k, side in enumerate(("member", "nonmember"))}
    if kind == "csv":
        files = {f"{side}.csv": "url,caption\n" + "".join(f"{url},a\n" for url in each) for side, each in urls.items()}
        return files | {"README.md": card_of("member.csv", "nonmember.csv")}
    return {f"data/{side}-00000-of-00001.parquet": table({"url": each}) for side, each in urls.items()}


def card_with_classes(web) -> dict:
    names = "        names:\n          '0': member\n          '1': nonmember\n"
    features = f"  - name: image\n    dtype: image\n  - name: label\n    dtype:\n      class_label:\n{names}"
    card = f"---\ndataset_info:\n  features:\n{features}---\n"
    return {"README.md": card, "data/train-00000-of-00001.parquet": table({"image": cells(4), "label": [0, 1, 1, 0]})}


FORMS = {
    "small Parquet": lambda web: large_split(30),
    "Parquet in several files": lambda web: {
        path.replace("00000-of-00001", f"{k:05}-of-00002"): file for k in range(2) for path, file in large_split(5 + k).items()
    },
    "a column of classes": lambda web: labelled(label=[1, 0, 0, 1]),
    "a column of true and false": lambda web: labelled(is_member=[True, False, True, True]),
    "classes in the card": card_with_classes,
    "a folder of images": folder_of_images,
    "a table of addresses": lambda web: table_of_addresses(web, "csv"),
    "Parquet of addresses": lambda web: table_of_addresses(web, "parquet"),
}


@pytest.fixture(scope="module")
def web():
    server = Web(bitmaps(64, 5)[1].to_pylist())
    yield server
    server.stop()


@pytest.fixture
def new_name():
    return f"offline/{secrets.token_hex(6)}"


@contextmanager
def without_network(monkeypatch, how: str):
    """No Hub: by the variable, or because nothing answers."""
    from huggingface_hub import constants

    with monkeypatch.context() as patch, socket.socket() as free:
        if how == "variable":
            patch.setattr(constants, "HF_HUB_OFFLINE", True)
            patch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
        else:
            free.bind(("127.0.0.1", 0))
            patch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
            patch.setattr(datasets.config, "HF_ENDPOINT", constants.ENDPOINT)
        yield


def content(split) -> tuple:
    """All that a result depends on."""
    texts = None if split.captions is None else list(split.captions)
    return split.name, split.revision, [image.id for image in split.images], split.is_member.tolist(), texts


def use(name: str, **options) -> tuple:
    with warnings.catch_warnings(action="ignore"):
        return content(load_split(name, fetch=True, **options))


@pytest.mark.parametrize(
    "form, how", [(form, "variable") for form in FORMS] + [("small Parquet", "no answer"), ("a folder of images", "no answer")]
)
def test_a_split_that_was_used_works_without_a_network(loopback_hub, web, new_name, monkeypatch, form, how):
    monkeypatch.setattr(web_module, "ALLOWED_INSIDE", frozenset({"127.0.0.1"}))
    commit = loopback_hub.add_repo("dataset", new_name, FORMS[form](web))
    expected = use(new_name)
    assert expected[1] == commit and len(expected[2]) > 3
    license = open_listing(new_name, commit).license
    loopback_hub.log.clear()
    web.requested.clear()
    with without_network(monkeypatch, how):
        for revision in (None, commit):
            assert use(new_name, revision=revision) == expected
        assert open_listing(new_name, commit).license == license
    assert not loopback_hub.log and not web.requested


@pytest.mark.parametrize("form", ["small Parquet", "a folder of images"])
def test_a_branch_is_what_it_was_when_it_was_last_used(loopback_hub, new_name, monkeypatch, form):
    first = loopback_hub.add_repo("dataset", new_name, FORMS[form](None))
    before = use(new_name)
    branch = loopback_hub.commit("dataset", new_name, {"note.txt": "x"}, branch="some/trial")
    trial = use(new_name, revision="some/trial")
    loopback_hub.commit("dataset", new_name, {"note.txt": "y"})
    with without_network(monkeypatch, "variable"):
        assert use(new_name)[1] == first == use(new_name, revision=first)[1]
        assert use(new_name, revision="some/trial") == trial and use(new_name, revision=branch) == trial
        assert before[2:] == trial[2:] and trial[1] == branch
        with pytest.raises(SplitError, match=r"at revision 'unused' could not be read .*not in the local cache.* --revision unused'"):
            load_split(new_name, revision="unused")


@pytest.mark.parametrize("spelled", [str.upper, str.title])
def test_the_spelling_that_was_used_works_again(loopback_hub, new_name, monkeypatch, spelled):
    loopback_hub.add_repo("dataset", new_name, large_split(3))
    expected = use(spelled(new_name))
    with without_network(monkeypatch, "variable"):
        assert use(spelled(new_name)) == expected == use(new_name) and expected[0] == new_name


def run_command(message: str, *, in_this_process: bool = True) -> None:
    """Runs the command that a message names."""
    command = re.search(r"'hf (download [^']*)'", message)[1].split()
    _, name, *options = command
    if in_this_process:
        assert options[:2] == ["--repo-type", "dataset"] and options[2::2] in ([], ["--revision"])
        snapshot_download(name, repo_type="dataset", revision=dict(zip(options[::2], options[1::2])).get("--revision"))
        return
    done = subprocess.run([sys.executable, "-m", "huggingface_hub.cli.hf", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


PARTIAL = ["data/member-00000-of-00001.parquet", "data/nonmember-00000-of-00001.parquet"]


@pytest.mark.parametrize("by_commit", [False, True])
def test_what_was_read_in_parts_is_named_with_the_command_that_helps(loopback_hub, new_name, monkeypatch, by_commit):
    monkeypatch.setattr(hub_rows, "SMALL_FILE", 1000)
    commit = loopback_hub.add_repo("dataset", new_name, large_split(200, per_group=10))
    revision, draw = commit if by_commit else None, {"limit": 2, "seed": 0}
    expected = use(new_name, revision=revision, **draw)
    with without_network(monkeypatch, "variable"), pytest.raises(SplitError) as error:
        load_split(new_name, revision=revision, **draw)
    assert f"HF_HUB_OFFLINE is set), and the local cache lacks 2 files of the data set {new_name} at commit {commit}" in str(error.value)
    assert f": {', '.join(PARTIAL)}. " in str(error.value)
    run_command(str(error.value), in_this_process=by_commit)
    with without_network(monkeypatch, "variable"):
        assert use(new_name, revision=revision, **draw) == expected


def test_a_large_file_that_was_read_whole_works(loopback_hub, new_name, monkeypatch):
    monkeypatch.setattr(hub_rows, "SMALL_FILE", 1000)
    loopback_hub.add_repo("dataset", new_name, large_split(40, per_group=10))
    expected = use(new_name)
    with without_network(monkeypatch, "no answer"):
        assert use(new_name) == expected


@pytest.mark.parametrize("form", ["small Parquet", "a column of classes", "classes in the card", "a folder of images"])
def test_what_was_downloaded_and_never_used_works_as_the_message_says(loopback_hub, new_name, monkeypatch, form):
    loopback_hub.add_repo("dataset", new_name, FORMS[form](None))
    with without_network(monkeypatch, "variable"), pytest.raises(SplitError) as error:
        load_split(new_name)
    assert f"The data set {new_name} could not be read (HF_HUB_OFFLINE is set): the Hub can't be reached, and " in str(error.value)
    run_command(str(error.value))
    with without_network(monkeypatch, "variable"):
        offline = use(new_name)
    assert offline == use(new_name)


@pytest.mark.parametrize("lacks", ["a part by its number", "a file of the list"])
def test_half_of_a_download_is_never_the_split(loopback_hub, new_name, monkeypatch, lacks):
    from huggingface_hub import hf_hub_download

    parts = [f"data/train-0000{i}-of-00002.parquet" for i in range(2)]
    files = {path: table({"image": cells(4), "is_member": [True, False, True, True]}) for path in parts}
    loopback_hub.add_repo("dataset", new_name, files)
    if lacks == "a part by its number":
        hf_hub_download(new_name, parts[0], repo_type="dataset")
    else:
        snapshot_download(new_name, repo_type="dataset", allow_patterns=[parts[0]])
    with without_network(monkeypatch, "variable"), pytest.raises(SplitError, match=f"lacks 1 file of .*: {parts[1]}\\."):
        load_split(new_name)


@pytest.mark.parametrize("broken", ["", "[]", "{}", json.dumps({"name": 3})])
def test_a_record_that_cannot_be_read_is_none(loopback_hub, new_name, monkeypatch, broken):
    from huggingface_hub.constants import HF_HOME

    loopback_hub.add_repo("dataset", new_name, large_split(3))
    expected = use(new_name)
    (record,) = Path(HF_HOME, "mia_hub", "datasets", new_name.replace("/", "--")).glob("*.json")
    record.write_text(broken)
    with without_network(monkeypatch, "variable"), pytest.raises(SplitError, match="is not in the local cache"):
        load_split(new_name)
    assert use(new_name) == expected, "and it is written again"
    with without_network(monkeypatch, "variable"):
        assert use(new_name) == expected


def test_where_nothing_can_be_written_down_a_split_is_read_all_the_same(loopback_hub, new_name, monkeypatch, tmp_path):
    loopback_hub.add_repo("dataset", new_name, large_split(3))
    (tmp_path / "mia_hub").write_text("a file in the folder's place")
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path))
    assert len(load_split(new_name).members) == 3 and len(load_split(new_name.upper()).members) == 3
