"""A model has one name in all results, whatever spelling led to it, and that spelling works without a network, too."""

from __future__ import annotations

import pytest
from huggingface_hub import snapshot_download
from support.overlays import load_model, save_random_lora
from support.spelled_names import SPELLINGS, SpelledNames

from mia_hub.auditing.published_settings.run import is_same_model
from mia_hub.errors import ModelError
from mia_hub.models.lookup import look_up_model
from mia_hub.models.repository import HubRepository, HubUnreachable
from mia_hub.system.spellings import present_spelling, remember_spelling


@pytest.fixture(scope="module")
def names(loopback_hub, repo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("spelled")
    save_random_lora("sd1", {"unet": ["to_q"]}, folder / "lora")
    (folder / "split").mkdir()
    (folder / "split" / "README.md").touch()
    return SpelledNames(loopback_hub, repo("sd1"), folder / "lora", folder / "split")


def unreachable(*_):
    raise HubUnreachable("ConnectError")


ON_TOP = ("", "{}", "{}/pytorch_lora_weights.safetensors", "{}@main")


def named(names, spelling: str, on_top: str) -> str:
    base = names.spelled("model", spelling)
    return f"{base} + {on_top.format(names.spelled('overlay', spelling))}" if on_top else base


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("on_top", ON_TOP)
def test_a_look_up_names_a_model_as_the_hub_spells_it(names, spelling, on_top):
    public = look_up_model(named(names, spelling, on_top))
    assert " + ".join([public.base, *public.overlays]) == named(names, "present", on_top).removesuffix("@main")


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("on_top", ["", "{}@main"])
def test_results_name_a_model_as_the_hub_spells_it(names, spelling, on_top, monkeypatch):
    name = named(names, spelling, on_top)
    loaded = load_model(name)
    commits = [names.commits[part] for part in ("model", "overlay")[: 1 + bool(on_top)]]
    assert (loaded.info.id, loaded.info.revision) == (named(names, "present", on_top), " + ".join(commits))
    # Without a network the spelling that was used leads to the same files.
    monkeypatch.setattr(HubRepository, "__init__", unreachable)
    assert load_model(name).info == loaded.info


@pytest.mark.parametrize("spelling", [*SPELLINGS, "present"])
def test_a_setting_knows_its_model_by_every_spelling(names, spelling):
    own = names.ids["model"]
    assert is_same_model(names.spelled("model", spelling), own) and is_same_model(own, names.spelled("model", spelling))
    assert not is_same_model(names.spelled("overlay", spelling), own) and not is_same_model(f"{own}2", own)
    assert not is_same_model("nobody/knows", "nobody/knows-either") and not is_same_model(own, None)


def test_a_name_that_was_given_to_another_repository_leads_there(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path))
    remember_spelling("model", "old/name", "new/name")
    assert present_spelling("model", "old/name") == "new/name" and present_spelling("dataset", "old/name") == "old/name"
    remember_spelling("model", "old/name", "old/name")
    assert present_spelling("model", "old/name") == "old/name"
    for broken in ("", "[]", '{"name": 3}', '{"name": "../x/y"}'):
        remember_spelling("model", "old/name", "new/name")
        next(tmp_path.rglob("*.json")).write_text(broken)
        assert present_spelling("model", "old/name") == "old/name"


def test_what_was_not_needed_may_be_missing_without_a_network(tiny, on_hub, loopback_hub, monkeypatch):
    repo_id, half = on_hub(tiny), "unet/diffusion_pytorch_model.fp16.safetensors"
    weights = (tiny / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
    commit = loopback_hub.commit("model", repo_id, {"README.md": "text", "sample.png": b"image", half: weights})
    loaded = load_model(repo_id)
    with monkeypatch.context() as patch:
        patch.setattr(HubRepository, "__init__", unreachable)
        assert load_model(repo_id).info == loaded.info and load_model(repo_id, revision=commit).info == loaded.info
        # What would be used with a network is not replaced by what happens to be there.
        with pytest.raises(ModelError, match=f"the local cache lacks 1 file of {repo_id}, such as {half}.*'hf download {repo_id} --rev"):
            load_model(repo_id, dtype="bfloat16")
    snapshot_download(repo_id, revision=commit)
    monkeypatch.setattr(HubRepository, "__init__", unreachable)
    assert load_model(repo_id, dtype="bfloat16").info.settings["variants"] == {"unet": "fp16"}
