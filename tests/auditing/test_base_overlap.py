"""Bases that are well-known models: non-members of their training data are flagged or refused, and those of unknown origin are noted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from support.known_blobs import folder_of, members, nonmembers, parquet_of
from support.tiny_pipelines import save, save_lora

import mia_hub
from mia_hub.attacks import get_attack
from mia_hub.auditing.base_overlap import base_overlap
from mia_hub.auditing.known_training_data import is_of, training_data
from mia_hub.cli import parser as cli
from mia_hub.errors import SplitError
from mia_hub.references.reference import Reference
from mia_hub.splits.origins import Origin, stated_origins

ATTACK = get_attack("sima-b", timesteps=(100,))
CIFAR_MODEL, CIFAR = "google/ddpm-cifar10-32", "uoft-cs/cifar10"
TRAIN = Origin(CIFAR, "train", "plain_text")
SEEN, NOTED = "base-saw-nonmembers", "base-training-data"
QUIET = {"progress": False}
SAYS = f"the base {CIFAR_MODEL} was trained on {CIFAR}, split train, which the non-members come from"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MIA_HUB_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture(scope="module")
def cifar(loopback_hub, tiny_pixel_repo):
    """Stand-ins of the data set and its public model, under their names; the test split holds other images than the train split."""
    parts = {f"data/{name}-00000-of-00001.parquet": parquet_of(images) for name, images in (("train", members(80)), ("test", nonmembers()))}
    loopback_hub.add_repo("model", CIFAR_MODEL, tiny_pixel_repo(seed=1))
    loopback_hub.add_repo("dataset", CIFAR, parts)
    loopback_hub.add_repo("dataset", "other/copy", parts)
    yield loopback_hub
    loopback_hub.delete_repo("model", CIFAR_MODEL)
    for name in (CIFAR, "other/copy"):
        loopback_hub.delete_repo("dataset", name)


@pytest.fixture
def model(tiny_pixel_repo):
    return mia_hub.load_model(str(tiny_pixel_repo()), device="cpu")


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (TRAIN, True),
        (Origin("UOFT-CS/CIFAR10", "train"), True),
        (Origin(CIFAR, "train", "plain_text", "0" * 40), True),
        (Origin(CIFAR, "test", "plain_text"), False),
        (Origin(CIFAR, "test", revision="0" * 40), False),
        (Origin(CIFAR, "train", "another"), None),
        (Origin(CIFAR), None),
        (Origin("uoft-cs/cifar100", "train"), None),
        (Origin("cifar10", "train"), None),
        (None, None),
    ],
)
def test_images_are_of_a_data_set_if_name_split_and_configuration_say_so(origin, expected):
    assert is_of(origin, [TRAIN]) is expected and is_of(origin, []) is None
    assert is_of(origin, [Origin(CIFAR)]) is None, "of which split nobody says"


def test_the_data_of_every_public_model_of_a_setting_are_known_by_all_names_of_the_model(cifar):
    base = mia_hub.load_model(CIFAR_MODEL, device="cpu")
    assert training_data(base) == (TRAIN,)
    base.origin.repository.name = "runwayml/stable-diffusion-v1-5"
    sets = {(each.name, each.split) for each in training_data(base)}
    assert sets == {("antoniaaa/laion_mi", "members"), ("laion/laion2B-en-aesthetic", "train")}
    base.origin.repository.name = "facebook/DiT-XL-2-256"
    assert training_data(base) == (Origin("ILSVRC/imagenet-1k", "train"),)
    base.origin.repository.name = "google/ddpm-cat-256"
    assert training_data(base) == ()


def test_ones_own_table_says_what_ones_own_model_was_trained_on(cifar, home, tmp_path):
    entries = [
        {"models": [CIFAR_MODEL], "nonmembers": "me/data:test", "members": "me/data:train"},
        {"models": ["me/b"], "nonmembers": "me/data", "members": "benchmark:dit-imagenet"},
        {"models": ["me/c"], "nonmembers": "x", "members": str(tmp_path)},
    ]
    (home / "references.json").write_text(json.dumps({"known": entries}))
    base = mia_hub.load_model(CIFAR_MODEL, device="cpu")
    assert training_data(base) == (TRAIN, Origin("me/data", "train"))
    for name, data in (("me/b", (Origin("ILSVRC/imagenet-1k", "train"),)), ("me/c", ()), ("me/unknown", ())):
        base.origin.repository.name = name
        assert training_data(base) == data
    (home / "references.json").write_text("{")
    with pytest.raises(SplitError, match="can't be understood"):
        training_data(base)


def test_a_copy_in_the_cache_is_known_and_any_other_folder_is_not(cifar, tmp_path, tiny_pixel_repo):
    snapshot = huggingface_hub.snapshot_download(CIFAR_MODEL)
    assert training_data(mia_hub.load_model(snapshot, device="cpu")) == (TRAIN,)
    copy = Path(shutil.copytree(snapshot, tmp_path / "google" / "ddpm-cifar10-32"))
    assert training_data(mia_hub.load_model(str(copy), device="cpu")) == ()
    overlaid = mia_hub.load_model(f"{CIFAR_MODEL} + {tiny_pixel_repo(seed=3) / 'unet'}", device="cpu")
    assert training_data(overlaid) == (TRAIN,), "a fine-tune of it has seen what it has seen"


def test_a_model_beneath_a_lora_is_known(loopback_hub, tmp_path):
    name = "CompVis/stable-diffusion-v1-4"
    loopback_hub.add_repo("model", name, save("sd1", tmp_path / "sd1"))
    try:
        model = mia_hub.load_model(f"{name} + {save_lora('sd1', tmp_path / 'lora')}", device="cpu")
        labels = np.array([1, 0])
        seen = base_overlap(model, ["a", "b"], labels, None, [Origin("antoniaaa/laion_mi", each) for each in ("members", "nonmembers")])
        assert list(seen) == ["base-saw-members"]
    finally:
        loopback_hub.delete_repo("model", name)


SOURCES = {
    "the training split": (f"{CIFAR}:train", SEEN),
    "another split": (f"{CIFAR}:test", None),
    "a data set of another name": ("other/copy:train", NOTED),
    "a folder": ("folder", NOTED),
    "a Parquet file": ("table.parquet", NOTED),
    "images at hand": (nonmembers(), NOTED),
}


@pytest.fixture
def source_of(tmp_path):
    def source(source):
        if isinstance(source, str) and ":" not in source:
            folder_of(nonmembers(), tmp_path / "folder")
            (tmp_path / "table.parquet").write_bytes(parquet_of(nonmembers()))
            return str(tmp_path / source)
        return source

    return source


@pytest.mark.parametrize("case", SOURCES)
def test_a_reference_refuses_or_notes_what_its_base_may_have_seen(cifar, model, source_of, case):
    source, expected = source_of(SOURCES[case][0]), SOURCES[case][1]
    model = mia_hub.load_model(model, base=CIFAR_MODEL)

    def build():
        return Reference.build(model, source, ATTACK, **QUIET)

    def check():
        return mia_hub.check_image(nonmembers(1)[0], model, ATTACK, nonmembers=source, keep=False, **QUIET)

    if expected == SEEN:
        for call in (build, check):
            with pytest.raises(SplitError, match=f"neither the model nor its base, and {SAYS}. Give other non-members"):
                call()
        return
    caveats = build().origin.caveats
    noted = [caveat for caveat in caveats if caveat.startswith(f"The base {CIFAR_MODEL} was trained on images of {CIFAR}, split train.")]
    assert len(noted) == (expected == NOTED) == len(caveats)


def test_a_caveat_of_the_base_reaches_the_answers(cifar, tiny_pixel_repo, monkeypatch):
    from mia_hub.checking import treated_images

    monkeypatch.setattr(treated_images, "_measured", dict)
    model = mia_hub.load_model(str(tiny_pixel_repo()), device="cpu", base=CIFAR_MODEL)
    answer = mia_hub.check_image(nonmembers(60)[50], model, ATTACK, nonmembers=nonmembers(), keep=False, **QUIET)
    assert any("must be none of these" in caveat for caveat in answer.caveats)


@pytest.mark.parametrize(
    "build", [lambda model: Reference.build(model, f"{CIFAR}:train", get_attack("sima", timesteps=(100,)), **QUIET),
              lambda model: Reference.build(mia_hub.load_model(model, base=model_beside(model)), f"{CIFAR}:train", ATTACK, **QUIET)],
    ids=["no base", "a base that nobody knows"],
)  # fmt: skip
def test_without_a_known_base_nothing_is_said(cifar, model, build):
    assert build(model).origin.caveats == ()


def model_beside(model):
    other = mia_hub.load_model(model.origin.repository.name, device="cpu", size=8)
    with np.errstate(all="ignore"):
        for parameter in other.network.parameters():
            parameter.data.mul_(0.9)
    return mia_hub.wrap_denoiser(
        lambda x, t: other.predict_noise(x, t), other.schedule.signals**2, sample_shape=other.info.sample_shape, name="mine"
    )


def test_a_split_remembers_what_it_was_drawn_from_wherever_it_is_read(cifar, tmp_path):
    command = ["make-split", f"{CIFAR}", "--members", "20", "--nonmembers", "20", "--out", str(tmp_path / "halves"), "--quiet"]
    assert cli.main(command) == 0
    cifar.add_repo("dataset", "me/halves", tmp_path / "halves")
    try:
        for name in (str(tmp_path / "halves"), "me/halves"):
            (origin,) = mia_hub.load_split(name).origins
            assert (origin.name, origin.split) == (CIFAR, "train")
    finally:
        cifar.delete_repo("dataset", "me/halves")
    (tmp_path / "halves" / "split.json").unlink()
    assert mia_hub.load_split(str(tmp_path / "halves")).origins == ()
    assert [each.split for each in mia_hub.load_split("demo").origins] == []


@pytest.mark.parametrize(
    "origins",
    [None, 5, [], ["a"], [{}], [{"name": ""}], [{"name": 5}], [{"name": "a", "split": 1}], [{"name": "a"}] * 3, [{"name": "a"}, 5]],
)
def test_a_record_that_states_no_origins_states_none(origins):
    assert stated_origins({"origins": origins}) == stated_origins({}) == ()


@pytest.mark.parametrize(
    ("source", "expected"),
    [(CIFAR, {SEEN, "base-saw-members"}), ("folder", {NOTED}), (None, {NOTED}), ("two sources", {"base-saw-members"})],
)
def test_an_audit_is_flagged(cifar, model, tmp_path, source_of, source, expected):
    words = ["--members", "20", "--nonmembers", "20", "--out", str(tmp_path / "split"), "--quiet"]
    if source is None:
        split = mia_hub.make_split(members(), nonmembers())
    else:
        further = ["--nonmembers-from", "other/copy"] if source == "two sources" else []
        assert cli.main(["make-split", source_of(source) if source == "folder" else CIFAR, *further, *words]) == 0
        split = str(tmp_path / "split")
    if source == "two sources":
        record = json.loads((tmp_path / "split" / "split.json").read_text())
        record["origins"][1] |= {"name": CIFAR, "split": "test"}
        (tmp_path / "split" / "split.json").write_text(json.dumps(record))
    options = {"shift_check": False, "fprs": [0.2]} | QUIET
    report = mia_hub.audit(mia_hub.load_model(model, base=CIFAR_MODEL), ATTACK, split, **options)
    raised = {flag.name: flag.raised_by for flag in report.flags if flag.name.startswith("base-")}
    assert set(raised) == expected
    if SEEN in raised:
        assert raised[SEEN] == SAYS and "split train, which the non-members come from" in report.to_markdown()
    plain = mia_hub.audit(model, get_attack("sima", timesteps=(100,)), split, **options)
    assert not any(flag.name.startswith("base-") for flag in plain.flags)


def test_nothing_is_downloaded_to_tell(cifar, model):
    model = mia_hub.load_model(model, base=CIFAR_MODEL)
    before = len(cifar.log)
    base_overlap(model, ["a"], np.array([0]), None, [TRAIN])
    assert len(cifar.log) == before
