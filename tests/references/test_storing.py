"""A stored reference is what was saved, to the bit; whatever was changed in it is refused with the reason."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.known_blobs import members, nonmembers

import mia_hub
from mia_hub.errors import SplitError
from mia_hub.references.storing import NUMBERS, RECORD, content_hash
from mia_hub.system import files


@pytest.fixture(scope="module")
def model(tiny_pixel_repo):
    return mia_hub.load_model(str(tiny_pixel_repo()))


@pytest.fixture(scope="module", params=["sima", "sima-c"])
def reference(request, model, tmp_path_factory):
    home = pytest.MonkeyPatch()
    home.setenv("MIA_HUB_HOME", str(tmp_path_factory.mktemp("home")))
    attack = mia_hub.get_attack(request.param, timesteps=(20, 60, 100))
    yield mia_hub.Reference.build(model, nonmembers(), attack, members=members(), stated="drawn for this test", progress=False)
    home.undo()


def test_a_saved_reference_is_the_same_to_the_bit(reference, model, tmp_path):
    read = mia_hub.Reference.load(reference.save(tmp_path / "reference"))
    read.check_fits(model)
    assert np.array_equal(read.observations, reference.observations) and np.array_equal(read.profiles.scores, reference.profiles.scores)
    assert read.to_dict() == reference.to_dict() and read.configured == reference.configured
    new = [read.null.judge(row).p_value for row in reference.observations]
    assert new == [reference.null.judge(row).p_value for row in reference.observations]
    images = mia_hub.images.sources.as_images(members())
    assert [read.comparability.distance(image) for image in images] == [reference.comparability.distance(image) for image in images]
    assert {path.name for path in (tmp_path / "reference").iterdir()} == {RECORD, NUMBERS}
    assert reference.source == "the non-members given; stated: drawn for this test"


def rewrite(folder, change_record=lambda record: None, change_arrays=lambda arrays: None, honest=True):
    """Change a stored reference; ``honest``: the hash of the numbers is that of the changed ones."""
    arrays = load_file(folder / NUMBERS)
    change_arrays(arrays)
    save_file(arrays, folder / NUMBERS)
    record = json.loads((folder / RECORD).read_text())
    if honest:
        record["numbers"] = content_hash((folder / NUMBERS).read_bytes())
    change_record(record)
    (folder / RECORD).write_text(json.dumps(record))


def put(name, value, index=...):
    def change(arrays):
        array = arrays[name].copy()
        array[index] = value
        arrays[name] = array

    return change


def as_type(name, dtype):
    return lambda arrays: arrays.update({name: arrays[name].astype(dtype)})


def cut(name):
    return lambda arrays: arrays.update({name: arrays[name][:-1].copy()})


ARRAYS = {
    "a score is NaN": (put("scores", np.nan, (0, 0)), "scores has values that are NaN or infinite"),
    "an observation is infinite": (put("observations", np.inf, 0), "observations has values that are NaN"),
    "a feature is NaN": (put("appearance.features", np.nan, (1, 1)), "appearance.features has values that are NaN"),
    "a sign of treatment is missing": (
        lambda a: a.update({"appearance.signs": a["appearance.signs"][:, :-1].copy()}),
        "appearance.signs is",
    ),
    "scores are float32": (as_type("scores", np.float32), "scores is float32"),
    "labels are float": (as_type("is_member", np.float64), "is_member is float64"),
    "a row of scores is missing": (cut("scores"), r"scores is float64 \[\d+, 3\], and float64 \[\d+, 3\] is expected"),
    "a row of observations is missing": (cut("observations"), "observations is float64"),
    "ids are swapped": (lambda a: a.update(ids=a["ids"][::-1].copy()), "ids and labels are not those"),
    "an id stands twice": (lambda a: a.update(ids=np.repeat(a["ids"][:1], len(a["ids"]), 0)), "an image stands in it twice"),
    "a member becomes a non-member": (put("is_member", 0, 0), "and states"),
    "a label is 7": (put("is_member", 7, 0), "values other than 1"),
    "timesteps decrease": (lambda a: a.update(timesteps=a["timesteps"][::-1].copy()), "timesteps are not increasing"),
    "a timestep beyond the schedule": (put("timesteps", 10**6, -1), "timesteps are not increasing"),
    "an array is missing": (lambda a: a.pop("comparability.mean"), "its arrays differ"),
    "an array is added": (lambda a: a.update(further=np.zeros(1)), "its arrays differ"),
    "other scores than observed": (
        lambda a: a.update(scores=a["scores"] + 1),
        "are not the scores|sima-c",
    ),
    "images of another size": (put("comparability.size", 6000), "for images of another size than the model's 8 x 8"),
    "another number of features": (lambda a: a.update({"appearance.features": a["appearance.features"][:, :-1].copy()}), "has 95 columns"),
    "a smaller thumbnail": (
        lambda a: a.update(
            {
                key: a[f"comparability.{name}"][..., :-1].copy()
                for name in ("thumbnail_mean", "components")
                for key in (f"comparability.{name}",)
            }
        ),
        "thumbnail_mean has 255 columns",
    ),
    "one observation more": (lambda a: a.update(observations=np.hstack([a["observations"]] * 2)), "are not the scores|sima-c"),
    "too few non-members": (
        lambda a: (
            [a.update({key: a[key][:30].copy()}) for key in ("ids", "is_member", "scores", "observations")]
            and a.update({name: a[name][:10].copy() for name in ("appearance.features", "appearance.signs", "appearance.borders")})
        ),
        "and states|fewest",
    ),
    "the comparability limit is negative": (put("comparability.limit", -1), "scales that are not positive"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_changed_numbers_are_refused(reference, tmp_path, case):
    change, reason = ARRAYS[case]
    folder = reference.save(tmp_path / "reference")
    rewrite(folder, change_arrays=change)
    if reason.endswith("|sima-c") and reference.configured.name == "sima-c":
        mia_hub.Reference.load(folder)  # a conditional attack observes something else than its profile
        return
    with pytest.raises(SplitError, match=reason):
        mia_hub.Reference.load(folder)


def set_(*path, to):
    def change(record):
        *outer, last = path
        for key in outer:
            record = record[key]
        record[last] = to

    return change


RECORDS = {
    "an unknown field": (set_("further", to=1), "has no field 'further'"),
    "a count as text": (set_("n_nonmembers", to="20"), "n_nonmembers must be an integer"),
    "a negative timestep": (set_("timestep", to=-1), "timestep must be at least 0"),
    "another format": (set_("format", to=2), "format must be 1"),
    "another hash": (set_("numbers", to="sha256:" + "0" * 64), "its hash differs"),
    "no hash": (set_("hash", to="none"), "hash must be of the form"),
    "other captions": (set_("captions", to="some"), "captions must be"),
    "an unknown attack": (set_("attack", "name", to="simo"), "There is no attack 'simo'"),
    "other parameters": (set_("attack", "parameters", "timesteps", to=[10]), "can't be made from its name and parameters here"),
    "an attack parameter of a wrong type": (set_("attack", "parameters", "timesteps", to={"a": 1}), "attack"),
    "a date that is none": (set_("source", "made_after", to="yesterday"), "a date such as"),
    "a source that is a list": (set_("source", to=[]), "source must be a JSON object"),
    "a huge text": (set_("source", "description", to="x" * 3000), "description"),
    "a model without a schedule length": (set_("model", "num_train_timesteps", to="many"), "num_train_timesteps must be an integer"),
    "a model without an id": (lambda record: record["model"].pop("id"), "lacks the field 'id'"),
    "a huge model": (set_("model", "sample_shape", to=[1, 60000, 60000]), "sample_shape"),
    "another attack for verdicts": (set_("verdict_attack", to="SimA()"), "is not the one that was configured"),
    "another choice": (set_("chosen", to={"x": 1}), "attack can't be used here"),
    "another timestep": (set_("timestep", to=555), "timestep 555 is not among|not the one that was configured"),
}


@pytest.mark.parametrize("case", RECORDS)
def test_a_changed_record_is_refused(reference, tmp_path, case):
    change, reason = RECORDS[case]
    folder = reference.save(tmp_path / "reference")
    rewrite(folder, change)
    with pytest.raises(SplitError, match=reason):
        mia_hub.Reference.load(folder)


def test_observations_of_another_form_are_refused_at_the_first_image(reference, model, tmp_path):
    folder = reference.save(tmp_path / "reference")
    rewrite(folder, change_arrays=lambda arrays: arrays.update(observations=np.hstack([arrays["observations"]] * 2)))
    expected = "it is not of this attack" if reference.configured.name == "sima-c" else "are not the scores"
    with pytest.raises(SplitError, match=expected):
        mia_hub.check_image(members()[0], model, reference=folder, progress=False)


FILES = {
    "no record": (RECORD, None, "it has no reference.json"),
    "no numbers": (NUMBERS, None, "it has no reference.safetensors"),
    "a record that is no JSON": (RECORD, b"{", "is no JSON"),
    "a record with NaN": (RECORD, b'{"format": NaN}', "NaN is no number"),
    "a record that is a list": (RECORD, b"[]", "must be a JSON object"),
    "a record that is not UTF-8": (RECORD, b"\xff\xfe{}", "is no JSON"),
    "a deeply nested record": (RECORD, b"[" * 100_000, "is no JSON"),
    "a record that is too large": (RECORD, b" " * (2**20 + 1), "at most 1,048,576 are read"),
    "numbers that are a pickle": (NUMBERS, b"\x80\x04N.", "its hash differs"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_changed_file_is_refused(reference, tmp_path, case):
    name, content, reason = FILES[case]
    folder = reference.save(tmp_path / "reference")
    (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
    with pytest.raises(SplitError, match=reason):
        mia_hub.Reference.load(folder)


def test_two_gigabytes_of_numbers_are_refused_before_they_are_read(reference, tmp_path):
    folder = reference.save(tmp_path / "reference")
    with open(folder / NUMBERS, "r+b") as file:
        file.truncate(2**31)  # takes no room on the disk
    with pytest.raises(SplitError, match="at most 268,435,456 are read"):
        mia_hub.Reference.load(folder)


def test_numbers_that_are_no_safetensors_are_refused_though_their_hash_is_right(reference, tmp_path):
    folder = reference.save(tmp_path / "reference")
    for content in (b"", b"\x80\x04N.", b"\xff" * 100, (10**6).to_bytes(8, "little") + b"{}"):
        (folder / NUMBERS).write_bytes(content)
        record = json.loads((folder / RECORD).read_text()) | {"numbers": content_hash(content)}
        (folder / RECORD).write_text(json.dumps(record))
        with pytest.raises(SplitError, match="can't be read"):
            mia_hub.Reference.load(folder)


def test_a_folder_with_something_else_is_not_overwritten(reference, tmp_path):
    files.write_text(tmp_path / "thesis.txt", "years of work")
    with pytest.raises(SplitError, match=r"holds something other than a reference \(thesis.txt\)"):
        reference.save(tmp_path)
    reference.save(tmp_path / "again")
    reference.save(tmp_path / "again")  # another one of its own kind is
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def other_revision(info):
    return {"revision": "sha256:" + "0" * 64}


def other_size(info):
    return {"sample_shape": (1, 16, 16), "picture_shape": (1, 16, 16)}


@pytest.mark.parametrize("changes", [other_revision, other_size])
def test_a_reference_of_another_model_is_refused(reference, model, monkeypatch, changes):
    from dataclasses import replace

    monkeypatch.setattr(model, "info", replace(model.info, **changes(model.info)))
    with pytest.raises(SplitError, match=r"The reference is of the model .* and the model at hand"):
        mia_hub.check_image(members()[0], model, reference=reference, progress=False)


def test_a_reference_in_another_precision_is_refused(reference, tiny_pixel_repo):
    other = mia_hub.load_model(str(tiny_pixel_repo()), dtype="float64")
    with pytest.raises(SplitError, match=r"computed in float32, and .* computes in float64 here. Load it with dtype='float32'"):
        mia_hub.check_image(members()[0], other, reference=reference, progress=False)
