"""Names of overlays: wherever one lies, and everything that a name can't stand for."""

from __future__ import annotations

import re
import shutil

import torch
from support.model_folders import change_json
from support.overlays import LORA_FILE, by_peft, epsilon, load_model, random_updates, refusal, same, save_files, save_random_lora, two_parts

from mia_hub.models.overlays.names import base_and_overlays, open_overlay
from mia_hub.models.repository import HubRepository, HubUnreachable


def test_wherever_it_lies(base, tmp_path, on_hub, loopback_hub, monkeypatch):
    save_random_lora("sd1", {"unet": ["to_q"]}, tmp_path / "old", seed=1)
    save_random_lora("sd1", {"unet": ["to_q"]}, tmp_path / "new", seed=2)
    file, repo = tmp_path / "old" / LORA_FILE, on_hub({"README.md": "A LoRA."})
    old = loopback_hub.commit("model", repo, tmp_path / "old")
    other = loopback_hub.commit("model", repo, {"for/[sd1]/my style.safetensors": file.read_bytes()}, branch="v2")
    new = loopback_hub.commit("model", repo, tmp_path / "new")
    (tmp_path / "link.safetensors").symlink_to(file)
    (tmp_path / "a@b").mkdir()
    shutil.copy(file, tmp_path / "a@b" / "any name.safetensors")
    # In a working directory, names of its folders can look like those of parts of repositories.
    (tmp_path / "runs" / "lora").mkdir(parents=True)
    shutil.copytree(tmp_path / "old", tmp_path / "runs" / "lora" / "step-1")
    monkeypatch.chdir(tmp_path)
    local = (
        tmp_path / "old",
        file,
        tmp_path / "link.safetensors",
        tmp_path / "a@b",
        "old",
        "runs/lora/step-1",
        f"runs/lora/step-1/{LORA_FILE}",
    )
    remote = {f"{repo}@{old}": old, f"{repo}/{LORA_FILE}@{old}": old, f"{repo}/for/[sd1]/my style.safetensors@v2": other}
    overlays = {name: open_overlay(str(name)) for name in (*local, *remote)}
    assert {overlay.file.read_bytes() for overlay in overlays.values()} == {file.read_bytes()}
    (own,) = {overlays[name].revision for name in local}
    assert own.startswith("sha256:") and {name: overlays[name].revision for name in remote} == remote
    model, newest = load_model(f"{base('sd1')} + {[*remote][-1]}"), load_model(f"{base('sd1')} + {repo}")
    assert model.info.revision.endswith(f" + {other}") and torch.equal(epsilon(model), epsilon(load_model(f"{base('sd1')} + old")))
    assert newest.info.revision.endswith(f" + {new}") and not same(epsilon(newest), epsilon(model), 1e-2)


def test_both_ids_and_revisions_are_recorded(base, tmp_path, on_hub):
    for target in ("to_q", "to_k"):
        save_random_lora("sd1", {"unet": [target]}, tmp_path / target)
    repo = on_hub(base("sd1"))
    commit = load_model(repo).info.revision
    first, second = (load_model(f"{repo} + {tmp_path / target}", revision="main").info for target in ("to_q", "to_k"))
    assert first.id == f"{repo} + {tmp_path / 'to_q'}" and re.fullmatch(rf"{commit} \+ sha256:\w+", first.revision)
    assert second.revision != first.revision
    shutil.copy(tmp_path / "to_k" / LORA_FILE, tmp_path / "to_q" / LORA_FILE)
    assert load_model(f"{repo} + {tmp_path / 'to_q'}").info.revision == second.revision


def test_a_scale_beside_the_file_belongs_to_its_revision(base, tmp_path):
    lora = save_files(by_peft(random_updates("sd1", {"unet": "to_q$"})), tmp_path)
    names = [f"{base('sd1')} + {name}" for name in (lora, lora / "adapter_model.safetensors")]
    before = [load_model(name) for name in names]
    change_json(lora / "adapter_config.json", lora_alpha=3, alpha_pattern={})
    after = [load_model(name) for name in names]
    assert {len({model.info.revision for model in models}) for models in (before, after)} == {1}
    assert before[0].info.revision != after[0].info.revision and not same(epsilon(before[0]), epsilon(after[0]), 1e-2)
    assert torch.equal(epsilon(after[0]), epsilon(after[1]))


def test_without_a_network_the_cache_serves(base, tmp_path, on_hub, monkeypatch):
    save_random_lora("sd1", {"unet": ["to_q"]}, tmp_path)
    repo, lora, part = on_hub(base("sd1")), on_hub(tmp_path), on_hub(base("sd1") / "unet")
    names = [f"{repo} + {lora}", f"{repo} + {lora}/{LORA_FILE}", f"{repo} + {part}"]
    before = [load_model(name) for name in names]

    def unreachable(*_):
        raise HubUnreachable("ConnectError")

    monkeypatch.setattr(HubRepository, "__init__", unreachable)
    for model, name in zip(before, names, strict=True):
        again = load_model(name)
        assert again.info == model.info and torch.equal(epsilon(again), epsilon(model))


def test_names_are_split_at_spaced_plus_signs():
    assert base_and_overlays(" a/b + ./c+d.safetensors  +  e ") == ["a/b", "./c+d.safetensors", "e"]
    assert base_and_overlays("a/b +") == ["a/b", ""]


def test_wrong_names_are_refused(base, tmp_path, on_hub, loopback_hub):
    two_parts(tmp_path)
    lora, repo = on_hub({LORA_FILE: b""}), f"{base('sd1')} + "
    for name, says in {
        "": "There is nothing after a plus sign",
        "no/such": "no model 'no/such' that you may see",
        "./no/such/folder": "neither 'demo', nor an existing folder",
        str(tmp_path / "unet.safetensors"): "nor an existing folder",
        f"{lora}@v9": "has no revision 'v9'",
        f"{lora}/other.safetensors": f"has no file or part other.safetensors; it has {LORA_FILE}",
        f"{lora}/{LORA_FILE}.bin": "has no file or part",
        f"{tmp_path / 'unet'} + {tmp_path / 'unet'}": "both bring a unet; name one of them",
    }.items():
        assert says in refusal(repo + name), name
    for name in (tmp_path / "unet", tmp_path / "unet/diffusion_pytorch_model.safetensors"):
        hub_base = on_hub(base("sd1"))
        assert "There is no model" in refusal(f"{hub_base} + {name}", trusted=False)
        assert "There is no model" in refusal(name, trusted=False)
        assert loopback_hub.files_fetched(hub_base) == []
    assert "At most 2 things can be put on a model here" in refusal(f"{lora} + {' + '.join([lora] * 3)}", trusted=False)
    large = on_hub({"[1].safetensors": b"0" * 2**20})
    assert "here at most 0.5 MiB are fetched" in refusal(f"demo + {large}/[1].safetensors", trusted=False, largest=2**19)
    assert loopback_hub.files_fetched(large) == []
    assert "v1" in refusal(tmp_path / "unet/diffusion_pytorch_model.safetensors", revision="v1")
