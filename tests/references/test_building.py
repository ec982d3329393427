"""A reference is built once: found again by whoever asks, resumed after a kill, and the same whoever builds it."""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support.known_blobs import folder_of, members, nonmembers

import mia_hub
from mia_hub.errors import AttackError, MiaHubError, SplitError
from mia_hub.images.sources import as_images
from mia_hub.references.kept import CHECKED, KeptReferences, reference_id
from mia_hub.references.scoring import LabelledImages
from mia_hub.references.storing import NUMBERS

ROOT = Path(__file__).parents[2]
SIMA = {"attack": mia_hub.get_attack("sima", timesteps=(20, 60, 100)), "progress": False}


@pytest.fixture(scope="module")
def repo(tiny_pixel_repo):
    return tiny_pixel_repo()


@pytest.fixture
def model(repo):
    """A model that counts its queries in ``model.asked``, a list."""
    model = mia_hub.load_model(str(repo))
    predict, counts = model.predict_noise, []

    def counting(x, t, cond=None):
        counts.append(len(x))
        return predict(x, t, cond)

    model.predict_noise = counting
    model.counts = counts
    return model


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MIA_HUB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def numbers(home):
    return [path.read_bytes() for path in sorted(home.glob(f"references/built/*/{NUMBERS}"))]


def test_the_second_check_costs_the_queries_of_the_new_image_alone(model, repo):
    mia_hub.Reference.build(model, nonmembers(), **SIMA)
    model.counts.clear()
    assert mia_hub.Reference.build(model, nonmembers(), **SIMA).source == "the non-members given" and not model.counts
    first = mia_hub.check_image(members()[0], model, progress=False)
    assert sum(model.counts) == 3 and first.n_null == 40 and first.p_value is not None
    by_name = mia_hub.check_image(members()[0], str(repo), progress=False)  # another process would load it so
    assert by_name.p_value == first.p_value and by_name.score == first.score
    fresh = mia_hub.check_image(members()[0], model, **SIMA, nonmembers=nonmembers(), keep=False)
    assert (fresh.p_value, fresh.score, fresh.profile) == (first.p_value, first.score, first.profile)


def test_given_nonmembers_are_found_again_for_the_same_images_alone(model, home, tmp_path):
    check = mia_hub.check_image(members()[0], model, nonmembers=nonmembers(), **SIMA)
    model.counts.clear()
    again = mia_hub.load_model(model.info.id)  # a new object, as in a new process
    folder = folder_of(nonmembers()[::-1], tmp_path / "reversed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(again, "predict_noise", model.predict_noise)
        same = mia_hub.check_image(members()[0], again, nonmembers=folder, **SIMA)
    assert sum(model.counts) == 3 and same.p_value == check.p_value
    assert mia_hub.check_image(members()[0], again, progress=False).verdict == "no-null", "images of one check answer for another"
    assert len(KeptReferences.of_this_machine().all(CHECKED)) == 1 and not KeptReferences.of_this_machine().all()


def test_nothing_is_kept_where_that_is_not_wanted(model, home):
    mia_hub.check_image(members()[0], model, nonmembers=nonmembers(), keep=False, **SIMA)
    assert not list(home.rglob("*.json"))


def test_a_models_checkers_are_reused_and_released_with_it(model):
    import gc
    import weakref

    for _ in range(3):
        mia_hub.check_image(members()[0], model, nonmembers=list(nonmembers()), keep=False, **SIMA)
    assert sum(model.counts) == 3 * (40 + 3)
    for seed in range(6):
        mia_hub.check_image(members()[0], model, nonmembers=nonmembers(20), seed=seed, keep=False, **SIMA)
    assert len(model._mia_hub_checkers) == 4
    assert not copy.deepcopy(model)._mia_hub_checkers, "a copy has its own"
    released = weakref.ref(model._mia_hub_checkers[next(iter(model._mia_hub_checkers))])
    model._mia_hub_checkers.clear()
    gc.collect()
    assert released() is None


def test_a_model_whose_weights_changed_is_scored_again(repo):
    model = mia_hub.load_model(str(repo))
    options = {"nonmembers": nonmembers(), "keep": False} | SIMA
    before = mia_hub.check_image(members()[0], model, **options)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.mul_(0.5)
    after = mia_hub.check_image(members()[0], model, **options)
    fresh = mia_hub.Checker(model, **options).check([members()[0]], progress=False)[0]
    assert (after.score, after.p_value) == (fresh.score, fresh.p_value) and after.score != before.score


def test_what_was_built_or_removed_since_counts_at_once(repo):
    store = KeptReferences.of_this_machine()
    for count in (40, 80):
        mia_hub.Reference.build(str(repo), nonmembers(count), **SIMA)
        assert mia_hub.check_image(members()[0], str(repo), progress=False).n_null == count
    mia_hub.Reference.build(str(repo), nonmembers(40), **SIMA)  # kept already; it is the newest now
    assert mia_hub.check_image(members()[0], str(repo), progress=False).n_null == 40
    for kept in store.all():
        store.remove(kept.id)
    assert mia_hub.check_image(members()[0], str(repo), progress=False).verdict == "no-null"


def test_what_is_stated_later_replaces_what_was_stated(model, home):
    mia_hub.Reference.build(model, nonmembers(), stated="OLD", **SIMA)
    model.counts.clear()
    again = mia_hub.Reference.build(model, nonmembers(), stated="NEW", caveats=("C",), **SIMA)
    assert not model.counts and again.source.endswith("stated: NEW") and again.origin.caveats == ("C",)
    (kept,) = KeptReferences.of_this_machine().all()
    assert kept.record.source.stated == "NEW" and kept.record.provenance == again.provenance


def test_a_home_that_can_not_be_written_costs_no_answer(model, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("MIA_HUB_HOME", str(tmp_path / "file"))
    assert mia_hub.check_image(members()[0], model, nonmembers=nonmembers(), **SIMA).p_value is not None
    with pytest.raises(MiaHubError, match="can't be written"):
        mia_hub.Reference.build(model, nonmembers(), **SIMA)


def test_whatever_lies_in_the_place_of_a_kept_reference_is_replaced(model, home):
    mia_hub.Reference.build(model, nonmembers(), **SIMA)
    (path,) = home.glob("references/built/*")
    (path / ".DS_Store").write_text("a visitor")
    (path / NUMBERS).write_text("damaged")
    mia_hub.Reference.build(model, nonmembers(), **SIMA)
    shutil.rmtree(path)
    path.write_text("a file")
    mia_hub.Reference.build(model, nonmembers(), **SIMA)
    path.with_name(f".{path.name}.abc").mkdir()
    shutil.copytree(path, path.with_name(f".{path.name}.def"))  # left by a kill
    assert [kept.id for kept in KeptReferences.of_this_machine().all()] == [path.name]


def test_captions_belong_to_their_images(model):
    known = LabelledImages(as_images(nonmembers(3)), np.zeros(3, np.int8), ["a", "b", "c"])
    ids = [image.id for image in known.images]
    reversed_captions = LabelledImages(known.images, known.is_member, ["c", "b", "a"])
    reversed_both = LabelledImages(known.images, known.is_member, ["c", "b", "a"])
    attack = SIMA["attack"]
    assert reference_id(model, attack, known, ids, 0) != reference_id(model, attack, reversed_captions, ids, 0)
    assert reference_id(model, attack, known, ids, 0) == reference_id(model, attack, reversed_both, ids[::-1], 0)


def test_captions_without_nonmembers_are_refused(model):
    reference = mia_hub.Reference.build(model, nonmembers(), **SIMA)
    for options in ({"reference": reference}, {}):
        with pytest.raises(SplitError, match="nonmember_captions belong to nonmembers"):
            mia_hub.Checker(model, nonmember_captions="a", **options)


@pytest.mark.parametrize("conditional", [False, True])
def test_a_build_that_was_interrupted_anywhere_resumes_and_gives_the_same(model, home, monkeypatch, conditional):
    attack = mia_hub.get_attack("sima", timesteps=(20, 60), **({"given": ("complexity", "shift-left")} if conditional else {}))
    options = {"attack": attack, "progress": False, "batch_size": 10} | ({} if conditional else {"members": members(20)})
    mia_hub.Reference.build(model, nonmembers(40), **options)
    (whole,) = numbers(home)
    in_all, calls = len(model.counts), 0
    moments = range(0, in_all, max(1, in_all // 3))
    for moment in moments:
        monkeypatch.setenv("MIA_HUB_HOME", str(home / str(moment)))
        left = [moment]

        def killed(x, t, cond=None, predict=model.predict_noise, left=left):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return predict(x, t, cond)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(model, "predict_noise", killed)
            with pytest.raises(KeyboardInterrupt):
                mia_hub.Reference.build(model, nonmembers(40), **options)
        assert not numbers(home / str(moment))
        model.counts.clear()
        mia_hub.Reference.build(model, nonmembers(40), **options)
        calls += len(model.counts)
        assert numbers(home / str(moment)) == [whole]
        assert not (home / str(moment) / "references" / "unfinished").exists() or not list((home / str(moment)).rglob("*.npz"))
    assert calls < in_all * len(moments), "nothing was resumed"


BUILD = """
import sys
import mia_hub
from support.known_blobs import nonmembers
mia_hub.Reference.build(sys.argv[1], nonmembers(), mia_hub.get_attack("sima", timesteps=(20, 60, 100)), batch_size=2, progress=False)
"""


@pytest.mark.slow
def test_two_processes_that_build_the_same_make_one(repo, home):
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    environment = os.environ | {"PYTHONPATH": paths}
    started = [subprocess.Popen([sys.executable, "-c", BUILD, str(repo)], env=environment) for _ in range(2)]
    assert [process.wait() for process in started] == [0, 0]
    (kept,) = KeptReferences.of_this_machine().all()
    mia_hub.Reference.load(kept.folder)
    assert not list(home.rglob("*.npz")) and not [path for path in home.rglob(".*") if path.is_dir()]


def _build_until_killed(repo, home, batches):
    import os

    os.environ["MIA_HUB_HOME"] = str(home)
    finished = [0]

    def on_batch(done, total):
        finished[0] += 1
        if finished[0] > batches:
            os.kill(os.getpid(), 9)

    mia_hub.Reference.build(str(repo), nonmembers(60), batch_size=2, on_batch=on_batch, **SIMA)


@pytest.mark.slow
def test_a_build_killed_at_thirty_moments_resumes_and_gives_the_same(repo, home, tmp_path, monkeypatch):
    mia_hub.Reference.build(str(repo), nonmembers(60), batch_size=2, **SIMA)
    (whole,) = numbers(home)
    context = multiprocessing.get_context("fork")
    monkeypatch.setenv("MIA_HUB_HOME", str(tmp_path / "killed"))
    for moment in range(30):
        process = context.Process(target=_build_until_killed, args=(repo, tmp_path / "killed", 1 if moment % 2 else 0))
        process.start()
        process.join()
        assert process.exitcode in (0, -9)
    mia_hub.Reference.build(str(repo), nonmembers(60), batch_size=2, **SIMA)
    assert numbers(tmp_path / "killed") == [whole]


def test_a_damaged_kept_reference_is_built_again(model, home):
    mia_hub.Reference.build(model, nonmembers(), **SIMA)
    (path,) = home.glob(f"references/built/*/{NUMBERS}")
    path.write_bytes(b"damaged")
    assert mia_hub.check_image(members()[0], model, progress=False).verdict == "no-null"
    model.counts.clear()
    mia_hub.Reference.build(model, nonmembers(), **SIMA)
    assert model.counts and mia_hub.check_image(members()[0], mia_hub.load_model(model.info.id), progress=False).p_value is not None


def test_a_reference_by_other_code_is_not_found_but_can_be_named(model, home):
    mia_hub.Reference.build(model, nonmembers(), **SIMA)
    (path,) = home.glob("references/built/*/reference.json")
    record = json.loads(path.read_text())
    record["computed_by"]["code"] = "0" * 64
    path.write_text(json.dumps(record))
    other = mia_hub.load_model(model.info.id)
    assert mia_hub.check_image(members()[0], other, progress=False).verdict == "no-null"
    assert mia_hub.check_image(members()[0], other, reference=path.parent.name[:-3], progress=False).p_value is not None


def test_the_attack_belongs_to_the_reference(model):
    reference = mia_hub.Reference.build(model, nonmembers(), **SIMA)
    checker = mia_hub.Checker(model, reference=reference, progress=False)
    assert checker.attack == SIMA["attack"]
    assert mia_hub.Checker(model, SIMA["attack"], reference=reference).attack == SIMA["attack"]
    with pytest.raises(AttackError, match=r"scored by the attack SimA.*Leave the attack out"):
        mia_hub.Checker(model, "pia", reference=reference)
    with pytest.raises(SplitError, match="not both"):
        mia_hub.Checker(model, reference=reference, nonmembers=nonmembers())


def test_what_was_stated_is_part_of_the_answer(model):
    stated = {"stated": "drawn by the artist in 2025", "made_after": "2024-01-31", "caveats": ("They are blobs.",)}
    mia_hub.Reference.build(model, nonmembers(40), **SIMA, **stated)
    check = mia_hub.check_image(nonmembers(41)[40], model, progress=False)
    assert check.source == "the non-members given; stated: drawn by the artist in 2025; made after 2024-01-31, which no file confirms"
    assert "They are blobs." in check.caveats


def test_the_power_is_that_of_the_reported_members(model):
    reference = mia_hub.Reference.build(model, nonmembers(160), members=members(60), **SIMA)
    assert (reference.power.n_members, len(reference.null)) == (30, 80) == (len(reference.members), 80)
    assert not set(np.array(reference.profiles.ids)[reference.profiles.is_member == 1]) - {
        image.id for image in mia_hub.images.sources.as_images(members(60))
    }
    assert "calibration part" in reference.timestep_chosen
    assert mia_hub.Reference.build(model, nonmembers(), **SIMA).power is None


WRONG = {
    "too few": ({"nonmembers": nonmembers(19)}, "19 different known non-members are too few"),
    "a limit of none": ({"limit": 0}, "limit must be an integer ≥ 1; got 0"),
    "a date that is none": ({"made_after": "soon"}, "made_after must be a date such as 2024-05-31; got 'soon'"),
    "an unknown attack": ({"attack": "simma"}, "There is no attack 'simma'"),
    "captions of an unconditional model": ({"captions": True}, "takes no captions"),
    "an attack that must be fitted": ({"attack": "gsa2"}, "fitted on known members too"),
    "the same images as members": ({"members": nonmembers()}, "both among the members"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_can_be_refused_is_refused_before_a_query(model, case):
    changes, reason = WRONG[case]
    with pytest.raises(MiaHubError) as error:
        mia_hub.Reference.build(model, **({"nonmembers": nonmembers()} | SIMA | changes))
    assert reason in str(error.value) and not model.counts
