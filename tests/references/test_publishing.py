"""A published reference answers elsewhere as it does here, also without a network; what was tampered with does not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, load_file, save
from support.known_blobs import folder_of, members, nonmembers, parquet_of

import mia_hub
from mia_hub.errors import SplitError
from mia_hub.references import storing
from mia_hub.references.kept import KeptReferences
from mia_hub.references.publishing import check_publishable
from mia_hub.references.storing import NUMBERS, RECORD, content_hash
from mia_hub.references.verification import verify_reference

ATTACK = mia_hub.get_attack("sima", timesteps=(20, 60, 100))


@pytest.fixture(scope="module")
def hub(loopback_hub, tiny_pixel_repo):
    """The loopback Hub with a model and its non-members."""
    loopback_hub.add_repo("model", "ref/tiny-ddpm", tiny_pixel_repo())
    loopback_hub.add_repo("dataset", "ref/heldout", {"data/test-00000-of-00001.parquet": parquet_of(nonmembers(120))})
    return loopback_hub


@pytest.fixture(scope="module")
def model(hub):
    return mia_hub.load_model("ref/tiny-ddpm")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_ref")
    monkeypatch.setenv("MIA_HUB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def home_with_reference(model, tmp_path_factory):
    """A home in which the reference of 120 images is kept; scored once."""
    home = tmp_path_factory.mktemp("built") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIA_HUB_HOME", str(home))
        mia_hub.Reference.build(model, "ref/heldout:test", ATTACK, progress=False)
    return home


@pytest.fixture
def built(home_with_reference, model, home):
    """``built(**statements) -> Reference``: as `Reference.build`, where its scores are kept already."""

    def build(**statements):
        shutil.copytree(home_with_reference, home, dirs_exist_ok=True)
        return mia_hub.Reference.build(model, "ref/heldout:test", ATTACK, progress=False, **statements)

    return build


def test_a_published_reference_gives_the_same_p_values_elsewhere_and_offline(hub, model, built, tmp_path, monkeypatch):
    folder = folder_of(nonmembers(120), tmp_path / "at hand")
    at_hand = mia_hub.check_images(list(members(9)), model, ATTACK, nonmembers=folder, keep=False, progress=False)
    reference = built(stated="never released")
    commit = reference.push("ref/reference")
    monkeypatch.setenv("MIA_HUB_HOME", str(tmp_path / "elsewhere"))
    fetched = mia_hub.Reference.load("ref/reference")
    answers = mia_hub.check_images(list(members(9)), model, reference="ref/reference", progress=False)
    assert [answer.p_value for answer in answers] == [answer.p_value for answer in at_hand]
    assert [answer.score for answer in answers] == [answer.score for answer in at_hand]
    assert fetched.source == "120 images of ref/heldout, split test; stated: never released" and fetched.origin.revision
    found = mia_hub.check_image(members()[0], mia_hub.load_model("ref/tiny-ddpm"), progress=False)
    assert found.p_value is not None, "a fetched reference answers for its model"
    with hub.broken(503):
        for name in ("ref/reference", sorted((tmp_path / "elsewhere" / "references" / "built").iterdir())[0].name):
            offline = mia_hub.Reference.load(name)
            assert np.array_equal(offline.observations, reference.observations)
    assert mia_hub.Reference.load("ref/reference", revision=commit).to_dict() == fetched.to_dict()


@pytest.mark.parametrize("keep", [True, False])
def test_a_fetched_reference_is_validated_once(hub, built, tmp_path, monkeypatch, keep):
    reference = built()
    reference.push("ref/reference")
    monkeypatch.setenv("MIA_HUB_HOME", str(tmp_path / "elsewhere"))
    validate, validated = storing._problem, []
    monkeypatch.setattr(storing, "_problem", lambda record, arrays: validated.append(record.hash) or validate(record, arrays))
    fetched = mia_hub.Reference.load("ref/reference", keep=keep)
    assert len(validated) == 1 and np.array_equal(fetched.observations, reference.observations)


def test_nothing_that_is_published_is_an_image(hub, built):
    built().push("ref/reference")
    from huggingface_hub import HfApi, hf_hub_download

    names = set(HfApi().list_repo_files("ref/reference", repo_type="dataset"))
    assert names - {".gitattributes"} == {"README.md", RECORD, NUMBERS}
    card = Path(hf_hub_download("ref/reference", "README.md", repo_type="dataset")).read_text(encoding="utf-8")
    assert "mia-hub check image.png --model ref/tiny-ddpm --reference ref/reference" in card and "Power unknown" in card
    assert "evidence (p ≤ 0.01) takes a score above those of all 120 non-members" in card
    arrays = load_file(hf_hub_download("ref/reference", NUMBERS, repo_type="dataset"))
    assert max(array.shape[1] for name, array in arrays.items() if array.ndim == 2 and len(array) >= 120) < 200


def tampered(hub, reference, change):
    reference.push("ref/reference")
    record, numbers = reference.encoded()
    arrays = load(numbers)
    change(arrays)
    content = save(arrays)
    values = record.model_dump(mode="json") | {"numbers": content_hash(content)}
    hub.commit("dataset", "ref/reference", {NUMBERS: content, RECORD: json.dumps(values).encode()})


def put_observations(arrays, observations):
    """Change the observations of plain SimA, and the same scores in the profiles."""
    arrays["observations"] = observations
    arrays["scores"][:, 1:2] = observations


def swap(arrays):
    put_observations(arrays, arrays["observations"][::-1].copy())


def shift(arrays):
    put_observations(arrays, arrays["observations"] - 1.0)


def shift_beside_an_outlier(arrays):
    """An outlier makes the reference's own spread huge."""
    shifted = arrays["observations"] - 50
    shifted[0] = 1e9
    put_observations(arrays, shifted)


def shift_the_other_timesteps(arrays):
    arrays["scores"][:, 0] += 1.0


def change_the_looks(arrays):
    arrays["appearance.features"] = arrays["appearance.features"] + 0.1


@pytest.mark.parametrize("change", [swap, shift, shift_beside_an_outlier, shift_the_other_timesteps, change_the_looks])
def test_consistent_tampering_is_noticed_when_images_are_scored_again(hub, model, built, change):
    tampered(hub, built(), change)
    outcome = verify_reference(mia_hub.Reference.load("ref/reference"), model, progress=False)
    assert not outcome.genuine and "not genuine" in outcome.text()


def test_a_genuine_reference_is_verified_by_its_own_source_or_another(hub, model, built, tmp_path):
    reference = built()
    outcome = verify_reference(reference, model, progress=False)
    assert (outcome.genuine, outcome.nonmembers, outcome.members, outcome.unverified) == (True, 20, 0, "")
    folder = folder_of(nonmembers(120), tmp_path / "at hand")
    assert verify_reference(reference, model, folder, n=5, progress=False).genuine
    with pytest.raises(SplitError, match="only 0 are in"):
        verify_reference(reference, model, folder_of(members(), tmp_path / "others"), progress=False)


def test_which_images_are_verified_can_not_be_foreseen(model, built, monkeypatch):
    reference = built()
    chosen = []
    monkeypatch.setattr("mia_hub.references.verification._difference", lambda r, m, images, p: chosen.append({i.id for i in images}) or 0.0)
    for _ in range(2):
        verify_reference(reference, model, progress=False)
    assert chosen[0] != chosen[1]


def test_members_are_verified_where_their_source_is_stated(hub, model, built):
    hub.add_repo("dataset", "ref/trained", {"data/train-00000-of-00001.parquet": parquet_of(members(60))})
    outcome = verify_reference(built(members="ref/trained"), model, progress=False)
    assert (outcome.genuine, outcome.nonmembers, outcome.members) == (True, 20, 20)


def test_what_is_looked_at_is_not_kept(hub, model, built):
    built().push("ref/reference")
    store = KeptReferences.of_this_machine()
    for kept in store.all():
        store.remove(kept.id)
    mia_hub.Reference.load("ref/reference", keep=False)
    assert not store.all() and mia_hub.check_image(members()[0], model, progress=False).verdict == "no-null"
    mia_hub.Reference.load("ref/reference")
    assert len(store.all()) == 1
    (store.all()[0].folder / "fetched.json").write_text("damaged")
    assert mia_hub.Reference.load("ref/reference").source


def test_no_path_of_this_machine_is_published(hub, model, tmp_path):
    from huggingface_hub import hf_hub_download

    folder = folder_of(nonmembers(30), tmp_path / "secret" / "held out")
    mia_hub.Reference.build(model, str(folder), ATTACK, progress=False).push("ref/private")
    record = Path(hf_hub_download("ref/private", RECORD, repo_type="dataset")).read_text()
    assert "secret" not in record and "held out" in record


@pytest.mark.parametrize("revision", [None, "sha256:" + "0" * 64, "abc + sha256:" + "0" * 64])
def test_a_reference_of_a_model_that_nobody_else_has_is_not_published(revision):
    private = {"id": "google/x + /home/me/secret/lora.safetensors", "revision": revision}
    with pytest.raises(SplitError, match=r"The model lora\.safetensors .* nobody else could use the reference"):
        check_publishable(private)
    with pytest.raises(SplitError, match=r"The base lora\.safetensors .* nobody else could use the reference"):
        check_publishable({"id": "google/x", "revision": "abc", "base": private})


def test_a_published_reference_given_a_base_names_it(hub, tiny_pixel_repo):
    hub.add_repo("model", "ref/tiny-base", tiny_pixel_repo(seed=1))
    attack = mia_hub.get_attack("sima-b", timesteps=(100,))
    reference = mia_hub.Reference.build("ref/tiny-ddpm", "ref/heldout:test", attack, base="ref/tiny-base", limit=30, progress=False)
    reference.push("ref/with-base")
    from huggingface_hub import hf_hub_download

    card = Path(hf_hub_download("ref/with-base", "README.md", repo_type="dataset")).read_text(encoding="utf-8")
    assert "--model ref/tiny-ddpm --reference ref/with-base --base ref/tiny-base" in card
    fetched = mia_hub.Reference.load("ref/with-base", keep=False)
    model = mia_hub.load_model("ref/tiny-ddpm", base="ref/tiny-base")
    assert verify_reference(fetched, model, n=5, progress=False).genuine
    with pytest.raises(SplitError, match="Give base="):
        verify_reference(fetched, mia_hub.load_model("ref/tiny-ddpm"), n=5, progress=False)


def test_a_reference_of_images_at_hand_says_that_they_are_needed(model):
    reference = mia_hub.Reference.build(model, nonmembers(), ATTACK, progress=False)
    with pytest.raises(SplitError, match="does not say where its images are; give them with --nonmembers"):
        verify_reference(reference, model, progress=False)


REFUSED = {
    "somebody else's name": ("other/reference", "can't write to other/reference"),
    "no name": ("reference", "of the form 'owner/name'"),
    "something else": ("ref/heldout", "holds something other than a reference"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_push_that_can_not_succeed_is_refused(built, case):
    name, reason = REFUSED[case]
    with pytest.raises(SplitError, match=reason):
        built().push(name)


def test_a_reference_of_a_folder_is_not_published(tiny_pixel_repo):
    reference = mia_hub.Reference.build(str(tiny_pixel_repo()), nonmembers(), ATTACK, progress=False)
    with pytest.raises(SplitError, match="is on this machine alone, at least in part, so that nobody else could use the reference"):
        reference.push("ref/reference")


NOT_THERE = {
    "ref/nothing": "no data set 'ref/nothing'",
    "ref/heldout": "it has no reference.json",
    "nothing": "There is no reference 'nothing' on this machine. There are: none; build one with 'mia-hub reference build'",
}


@pytest.mark.parametrize("name", NOT_THERE)
def test_what_is_no_reference_is_refused(hub, name):
    with pytest.raises(SplitError, match=NOT_THERE[name]):
        mia_hub.Reference.load(name)


def test_a_reference_that_is_too_large_is_refused_before_it_is_fetched(hub, monkeypatch):
    monkeypatch.setattr("mia_hub.references.publishing.LARGEST_NUMBERS", 100)
    hub.add_repo("dataset", "ref/large", {RECORD: b"{}", NUMBERS: b"0" * 101})
    with pytest.raises(SplitError, match="has 101 bytes; at most 100 are read"):
        mia_hub.Reference.load("ref/large")
    assert NUMBERS not in hub.files_fetched("ref/large")
