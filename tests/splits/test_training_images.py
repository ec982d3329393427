"""Images that a base is known to have been trained on: read from its files, flagged in audits, refused in references."""

from __future__ import annotations

import json

import numpy as np
import pytest

import mia_hub
from mia_hub.attacks import get_attack
from mia_hub.auditing.base_overlap import base_overlap
from mia_hub.errors import SplitError
from mia_hub.images.sources import as_images
from mia_hub.splits.training_images import TRAINING_IDS, trained_on_split, training_ids

ATTACK = get_attack("sima-b", timesteps=(100,))


def images(seed, n=30):
    return np.random.default_rng(seed).integers(0, 256, (n, 8, 8), dtype=np.uint8)


def ids_of(pixels):
    return [image.id for image in as_images(pixels)]


@pytest.fixture
def split():
    return mia_hub.make_split(images(0), images(1))


@pytest.fixture
def based(tiny_pixel_repo):
    """``based(**files)``: a model whose base states its training images in these files."""

    def make(**files):
        base = tiny_pixel_repo(seed=1)
        for name, text in files.items():
            (base / name.replace("__", ".")).write_text(text)
        return mia_hub.load_model(str(tiny_pixel_repo()), device="cpu", base=str(base))

    return make


def test_ids_are_read_from_the_folder_and_those_of_the_demo_are_its_members(based):
    ids = ids_of(images(1)[:4])
    base = based(**{"training_ids__txt": "\n".join([*ids, "no id", ""])}).base
    assert training_ids(base) == set(ids) and TRAINING_IDS == "training_ids.txt"
    assert training_ids(mia_hub.load_model("demo", device="cpu")) == {image.id for image in mia_hub.load_split("demo").members}
    assert training_ids(based().base) == frozenset()


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"split_hash": 5}', "[" * 100_000])
def test_facts_that_state_no_split_state_nothing(based, text):
    assert trained_on_split(based(training__json=text).base) is None


def test_an_audit_flags_what_the_base_has_seen(based, split):
    seen = [*ids_of(images(1)[:3]), *ids_of(images(0)[:2])]
    report = mia_hub.audit(based(training_ids__txt="\n".join(seen)), ATTACK, split, shift_check=False, progress=False, fprs=[0.2])
    raised = {flag.name: flag.raised_by for flag in report.flags}
    assert raised["base-saw-nonmembers"].endswith("was trained on 3 of the non-members")
    assert raised["base-saw-members"].endswith("was trained on 2 of the members")
    assert "Base: id" in report.to_markdown() and "in the training set of neither" in report.to_markdown()


def test_a_base_that_states_the_split_has_seen_its_members(based, split):
    labels, ids = split.is_member, [image.id for image in split.images]
    model = based(training__json=json.dumps({"split_hash": split.hash}))
    assert list(base_overlap(model, ids, labels, split.hash)) == ["base-saw-members"]
    assert base_overlap(model, ids, labels, "sha256:other") == {} == base_overlap(based(), ids, labels, split.hash)


def test_a_plain_attack_is_not_flagged(based, split):
    model = based(training_ids__txt="\n".join(ids_of(images(1))))
    report = mia_hub.audit(model, get_attack("sima", timesteps=(100,)), split, shift_check=False, progress=False, fprs=[0.2])
    assert not {"base-saw-nonmembers", "base-saw-members"} & {flag.name for flag in report.flags}


def test_nonmembers_that_the_base_was_trained_on_are_refused(based):
    model = based(training_ids__txt="\n".join(ids_of(images(1)[:3])))
    with pytest.raises(SplitError, match=r"neither the model nor its base, and .* was trained on 3 of the non-members\. Give other"):
        mia_hub.check_image(images(2)[0], model, ATTACK, nonmembers=images(1), keep=False, progress=False)
