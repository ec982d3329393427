"""``load_model("base + top")``: LoRAs, fine-tuned parts, single-file checkpoints; what each changes, and every way it is refused."""

import json
import re
import shutil
from functools import cache
from pathlib import Path

import pytest
import torch
from diffusers.training_utils import _collate_lora_metadata
from peft import LoraConfig, inject_adapter_in_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from support import tiny_pipelines

import mia_hub
import mia_hub.models.loading as loading
from mia_hub.errors import ModelError
from mia_hub.models.overlays.names import base_and_overlays
from mia_hub.models.repository import HubRepository, HubUnreachable

CAPTIONS, T = ["a red cat", "a photo of the house"], torch.tensor([30, 499])
LORA_FILE, RANK = "pytorch_lora_weights.safetensors", 4
SD1 = "stable-diffusion-v1-5/stable-diffusion-v1-5"


def load_model(name, *, device="cpu", **options):
    """On the CPU; and Flux on small images, since no configuration says how small those of the tiny ones are."""
    return loading.load_model(str(name), device=device, **({"size": 16} if "flux" in str(name) else {}), **options)


def epsilon(model) -> torch.Tensor:
    x = torch.randn(2, *model.info.sample_shape, generator=torch.Generator().manual_seed(1))
    return model.predict_noise(x, T, model.condition(CAPTIONS if model.info.conditioning == "text" else None))


def same(found, expected, tolerance=1e-5) -> bool:
    return (found.double() - expected.double()).abs().max() <= tolerance * expected.abs().max()


def refusal(name, **options) -> str:
    with pytest.raises(ModelError) as error:
        load_model(name, **options)
    return str(error.value)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """``base(name) -> Path``: one of the tiny pipelines in a folder."""
    return cache(lambda name: tiny_pipelines.save(name, tmp_path_factory.mktemp(name)))


@pytest.fixture(scope="module")
def alone(base):
    """``alone(name)``: ε of a tiny pipeline with nothing on it."""
    return cache(lambda name: epsilon(load_model(base(name))))


@pytest.fixture
def on_hub(loopback_hub, request):
    """``on_hub(files) -> id``: puts a repository on the Hub for one test."""
    made = []

    def add(files, repo_id=None):
        folder = files.name if isinstance(files, Path) else "files"
        made.append(repo_id or f"alice/{request.node.originalname}-{folder}-{len(loopback_hub.log)}-{len(made)}")
        loopback_hub.add_repo("model", made[-1], files)
        return made[-1]

    yield add
    for repo_id in made:
        loopback_hub.delete_repo("model", repo_id)


@pytest.fixture(autouse=True)
def nothing_is_unpickled(monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickled file was opened"))


def weights_fetched(hub, repo_id) -> list[str]:
    return sorted(path for path in hub.files_fetched(repo_id) if path.endswith((".safetensors", ".bin", ".ckpt")))


# Low-rank updates as {part: {module: (A, B, scale)}}


def drawn(name: str, wanted: dict[str, str]) -> dict:
    """Random updates of those modules of a tiny pipeline whose names match; their scales differ."""
    pipeline, generator, updates = tiny_pipelines.build(name), torch.Generator().manual_seed(2), {}
    for part, pattern in wanted.items():
        updates[part] = {}
        for module, layer in getattr(pipeline, part).named_modules():
            if re.search(pattern, module) and hasattr(layer, "weight"):
                outputs, inputs, *kernel = layer.weight.shape
                a = torch.randn(RANK, inputs, *kernel, generator=generator) / inputs**0.5
                b = torch.randn(outputs, RANK, *[1] * len(kernel), generator=generator) / 4
                updates[part][module] = (a, b, 2.0 if "attn" in module else -0.25)
        assert updates[part]
    return updates


def merged(name: str, base: Path, folder: Path, *all_updates: dict) -> Path:
    """The tiny pipeline with W + scale·B·A in place of W, in a folder."""
    shutil.copytree(base, folder)
    pipeline = tiny_pipelines.build(name)
    for part, modules in [item for updates in all_updates for item in updates.items()]:
        for module, (a, b, scale) in modules.items():
            weight = getattr(pipeline, part).get_submodule(module).weight
            weight.data += (scale * b.flatten(1) @ a.flatten(1)).reshape(weight.shape)
        getattr(pipeline, part).save_pretrained(folder / part)
    return folder


# LoRAs as they are trained: with peft, saved by the pipeline's own save_lora_weights.

FAMILIES = {
    "sd1": {"unet": ["to_q", "conv1"], "text_encoder": ["q_proj", "fc1"]},
    "sd2": {"unet": ["to_k", "proj_in"]},
    "sdxl": {"unet": ["to_v", "ff.net.2", "add_embedding.linear_1"], "text_encoder": ["k_proj"], "text_encoder_2": ["fc2"]},
    "sd3": {"transformer": ["to_q", "add_k_proj"], "text_encoder": ["v_proj"], "text_encoder_2": ["q_proj"]},
    "flux-dev": {"transformer": ["to_q", "proj_mlp", "x_embedder"], "text_encoder": ["out_proj"]},
    "flux-schnell": {"transformer": ["to_out.0", "norm.linear"]},
    "sana": {"transformer": ["to_q", "linear_1"]},
}


def trained(name: str, targets: dict[str, list[str]], folder: Path, *, seed=0, settings=True, **config) -> dict:
    """Saves a LoRA of random weights; returns its updates. Without its settings in the file, its scale is 1."""
    pipeline = tiny_pipelines.build(name)
    parts = {part: getattr(pipeline, part) for part in targets}
    config = {"r": RANK, "lora_alpha": 2 * RANK if settings else RANK, "init_lora_weights": False} | config
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for part, module in parts.items():
            inject_adapter_in_model(LoraConfig(target_modules=targets[part], **config), module)
    layers = {f"{part}_lora_layers": get_peft_model_state_dict(module) for part, module in parts.items()}
    pipeline.save_lora_weights(folder, **layers, **(_collate_lora_metadata(parts) if settings else {}))
    found = {part: {key: layer for key, layer in module.named_modules() if hasattr(layer, "lora_A")} for part, module in parts.items()}
    return {
        part: {key: (e.lora_A["default"].weight.data, e.lora_B["default"].weight.data, e.scaling["default"]) for key, e in layers.items()}
        for part, layers in found.items()
    }


@pytest.mark.parametrize("name", FAMILIES)
def test_a_lora_adds_its_updates(base, alone, tmp_path, on_hub, name):
    updates = trained(name, FAMILIES[name], tmp_path / "lora", settings=name not in ("sd2", "flux-schnell"))
    expected = epsilon(load_model(merged(name, base(name), tmp_path / f"{name}-merged", updates)))
    lora = on_hub(tmp_path / "lora")
    model = load_model(f"{base(name)} + {lora}")
    assert same(epsilon(model), expected)
    assert not same(alone(name), expected, 1e-2)
    assert model.info.id == f"{base(name)} + {lora}"


def test_as_diffusers_itself_puts_it(base, tmp_path):
    trained("sd1", FAMILIES["sd1"], tmp_path)
    pipeline = tiny_pipelines.build("sd1")
    pipeline.load_lora_weights(tmp_path)
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        text, _ = pipeline.encode_prompt(CAPTIONS, "cpu", 1, False)
        expected = pipeline.unet(x, T, text).sample
    assert same(epsilon(load_model(f"{base('sd1')} + {tmp_path}")), expected)


def test_wherever_it_lies(base, tmp_path, on_hub, loopback_hub, monkeypatch):
    trained("sd1", {"unet": ["to_q"]}, tmp_path / "old", seed=1)
    trained("sd1", {"unet": ["to_q"]}, tmp_path / "new", seed=2)
    file, repo = tmp_path / "old" / LORA_FILE, on_hub({"README.md": "A LoRA."})
    old = loopback_hub.commit("model", repo, tmp_path / "old")
    other = loopback_hub.commit("model", repo, {"for/[sd1]/my style.safetensors": file.read_bytes()}, branch="v2")
    new = loopback_hub.commit("model", repo, tmp_path / "new")
    (tmp_path / "link.safetensors").symlink_to(file)
    (tmp_path / "a@b").mkdir()
    shutil.copy(file, tmp_path / "a@b" / "any name.safetensors")
    found = {
        name: load_model(f"{base('sd1')} + {name}") for name in (tmp_path / "old", file, tmp_path / "link.safetensors", tmp_path / "a@b")
    }
    # Below the folder that one stands in, names can look like those of parts of repositories.
    (tmp_path / "runs" / "lora").mkdir(parents=True)
    shutil.copytree(tmp_path / "old", tmp_path / "runs" / "lora" / "step-1")
    monkeypatch.chdir(tmp_path)
    found |= {name: load_model(f"{base('sd1')} + {name}") for name in ("old", "runs/lora/step-1", f"runs/lora/step-1/{LORA_FILE}")}
    found |= {
        name: load_model(f"{base('sd1')} + {repo}{name}")
        for name in (f"@{old}", f"/{LORA_FILE}@{old}", "/for/[sd1]/my style.safetensors@v2")
    }
    assert len({str(epsilon(model).tolist()) for model in found.values()}) == 1
    revisions = [model.info.revision.split(" + ")[1] for model in found.values()]
    assert revisions[0].startswith("sha256:") and revisions == [revisions[0]] * 7 + [old, old, other]
    newest = load_model(f"{base('sd1')} + {repo}")
    assert newest.info.revision.endswith(f" + {new}") and not same(epsilon(newest), epsilon(found[file]), 1e-2)


def test_both_ids_and_revisions_are_recorded(base, tmp_path, on_hub):
    for target in ("to_q", "to_k"):
        trained("sd1", {"unet": [target]}, tmp_path / target)
    repo = on_hub(base("sd1"))
    commit = load_model(repo).info.revision
    first, second = (load_model(f"{repo} + {tmp_path / target}", revision="main").info for target in ("to_q", "to_k"))
    assert first.id == f"{repo} + {tmp_path / 'to_q'}" and re.fullmatch(rf"{commit} \+ sha256:\w+", first.revision)
    assert second.revision != first.revision
    shutil.copy(tmp_path / "to_k" / LORA_FILE, tmp_path / "to_q" / LORA_FILE)
    assert load_model(f"{repo} + {tmp_path / 'to_q'}").info.revision == second.revision


def test_a_scale_beside_the_file_belongs_to_its_revision(base, tmp_path):
    lora = save_files(by_peft(drawn("sd1", {"unet": "to_q$"})), tmp_path)
    names = [f"{base('sd1')} + {name}" for name in (lora, lora / "adapter_model.safetensors")]
    before = [load_model(name) for name in names]
    change_json(lora / "adapter_config.json", lora_alpha=3, alpha_pattern={})
    after = [load_model(name) for name in names]
    assert {len({model.info.revision for model in models}) for models in (before, after)} == {1}
    assert before[0].info.revision != after[0].info.revision and not same(epsilon(before[0]), epsilon(after[0]), 1e-2)
    assert torch.equal(epsilon(after[0]), epsilon(after[1]))


def test_without_a_network_the_cache_serves(base, tmp_path, on_hub, monkeypatch):
    trained("sd1", {"unet": ["to_q"]}, tmp_path)
    repo, lora, part = on_hub(base("sd1")), on_hub(tmp_path), on_hub(base("sd1") / "unet")
    names = [f"{repo} + {lora}", f"{repo} + {lora}/{LORA_FILE}", f"{repo} + {part}"]
    before = [load_model(name) for name in names]

    def unreachable(*_):
        raise HubUnreachable("ConnectError")

    monkeypatch.setattr(HubRepository, "__init__", unreachable)
    for model, name in zip(before, names, strict=True):
        again = load_model(name)
        assert again.info == model.info and torch.equal(epsilon(again), epsilon(model))


def test_two_at_once(base, tmp_path, capfd, recwarn):
    targets = [{"unet": ["to_q", "conv1"]}, {"unet": ["to_q", "ff.net.2"], "text_encoder": ["fc2"]}]
    updates = [trained("sd1", parts, tmp_path / f"lora{i}", seed=i, r=3 + i) for i, parts in enumerate(targets)]
    expected = epsilon(load_model(merged("sd1", base("sd1"), tmp_path / "merged", *updates)))
    capfd.readouterr()
    model = load_model(f"{base('sd1')} + {tmp_path / 'lora0'} + {tmp_path / 'lora1'}")
    assert same(epsilon(model), expected)
    assert capfd.readouterr().err == "" and not [each for each in recwarn if "adapter" in str(each.message)]
    assert model.info.id.count(" + ") == model.info.revision.count(" + ") == 2


def test_names_are_split_at_spaced_plus_signs():
    assert base_and_overlays(" a/b + ./c+d.safetensors  +  e ") == ["a/b", "./c+d.safetensors", "e"]
    assert base_and_overlays("a/b +") == ["a/b", ""]


# The namings that are in use. Each writes updates as files.


def kohya(updates):
    unet, several = "lora_unet_", "text_encoder_2" in updates
    prefixes = {
        "unet": unet,
        "transformer": unet,
        "text_encoder": f"lora_te{'1' if several else ''}_text_model_",
        "text_encoder_2": "lora_te2_",
    }
    tensors = {}
    for part, modules in updates.items():
        for module, (a, b, scale) in modules.items():
            stem = prefixes[part] + module.replace(".", "_")
            tensors |= {f"{stem}.lora_down.weight": a, f"{stem}.lora_up.weight": b, f"{stem}.alpha": torch.tensor(scale * len(a))}
    return {"any.safetensors": tensors}


def kohya_in_half(updates):
    return {"any.safetensors": {key: tensor.half() for key, tensor in kohya(updates)["any.safetensors"].items()}}


def kohya_on_original_blocks(updates):
    (names,) = kohya(updates).values()
    return {"any.safetensors": {key.replace("down_blocks_1_attentions_0", "input_blocks_3_1"): tensor for key, tensor in names.items()}}


def plain(style, up, prefix="{part}.", text="text_model."):
    """Namings without a scale: it goes into B."""

    def write(updates):
        tensors = {}
        for part, modules in updates.items():
            for module, (a, b, scale) in modules.items():
                name = style(prefix.format(part=part) + (text if part == "text_encoder" else "") + module, part)
                tensors |= {name: a, name.replace("lora_A", "lora_B").replace(*up): b * scale}
        return {LORA_FILE: tensors}

    return write


UP = (".down.", ".up.")
LAYERS = plain(lambda name, part: f"{name}.lora{'_linear_layer' if part == 'text_encoder' else ''}.down.weight", UP)
PROCESSORS = (lambda name, _: re.sub(r"\.to_(q|k|v|out)(\.0)?$", r".processor.to_\1_lora.down.weight", name), UP)


def with_settings(updates):
    """One scale for all, but for the patterns; as diffusers writes it."""
    (modules,) = updates.values()
    alphas = {f"^{module}" if i % 2 else module: scale * RANK for i, (module, (*_, scale)) in enumerate(modules.items())}
    settings = {"unet.r": RANK, "unet.lora_alpha": 7, "unet.alpha_pattern": alphas}
    tensors = {f"unet.{module}.lora_{m}.weight": t for module, ab in modules.items() for m, t in zip("AB", ab[:2])}
    return {LORA_FILE: (tensors, {"lora_adapter_metadata": json.dumps(settings)})}


def by_peft(updates):
    """peft's own folder; rank-stabilised, so that alpha is divided by the root of the rank."""
    (modules,) = updates.values()
    tensors = {f"base_model.model.{module}.lora_{m}.weight": t for module, ab in modules.items() for m, t in zip("AB", ab[:2])}
    alphas = {module: scale * RANK**0.5 for module, (*_, scale) in modules.items()}
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 1, "use_rslora": True, "alpha_pattern": alphas}
    return {"adapter_model.safetensors": tensors, "adapter_config.json": config}


def flux_by_kohya(updates):
    """Fused: one update for q, k and v."""
    modules = updates["transformer"]
    block, a = "transformer_blocks.0.attn.to_", modules["transformer_blocks.0.attn.to_q"][0]
    for name in "kv":
        modules[block + name] = (a, *modules[block + name][1:])
    fused = {"double_blocks_0_img_attn_qkv": (a, torch.cat([modules[block + name][1] for name in "qkv"]), modules[f"{block}q"][2])}
    return kohya({"transformer": fused | {"img_in": modules["x_embedder"]}})


ATTENTION = r"attn\d\.to_(q|out\.0)$"
NAMINGS = {
    "kohya": ("sd1", {"unet": r"to_q$|conv1|proj_in|time_emb_proj|conv_in", "text_encoder": "fc1|q_proj"}, kohya),
    "kohya, half precision": ("sd1", {"unet": r"to_q$|conv1"}, kohya_in_half),
    "kohya, two text encoders": ("sdxl", {"text_encoder": "q_proj|fc1", "text_encoder_2": "out_proj|fc2|text_projection"}, kohya),
    "kohya, original blocks": ("sdxl", {"unet": r"down_blocks.1.attentions.0.*to_v$"}, kohya_on_original_blocks),
    "diffusers, by layer": ("sd1", {"unet": r"to_v$|ff.net.2|conv2", "text_encoder": "k_proj|fc2"}, LAYERS),
    "diffusers, by processor": ("sd1", {"unet": ATTENTION}, plain(*PROCESSORS)),
    "diffusers, UNet alone": ("sd1", {"unet": ATTENTION}, plain(*PROCESSORS, prefix="")),
    "settings in the file": ("sd2", {"unet": r"to_q$|conv1"}, with_settings),
    "peft": ("sdxl", {"unet": r"to_q$|conv1"}, by_peft),
    "kohya, Flux": ("flux-dev", {"transformer": r"^transformer_blocks.0.attn.to_[qkv]$|^x_embedder$"}, flux_by_kohya),
}


def save_files(files: dict, folder: Path) -> Path:
    """Writes tensors (with or without a file's own words), JSON, or bytes."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            (folder / path).write_bytes(content)
        elif path.endswith(".json"):
            (folder / path).write_text(json.dumps(content))
        else:
            tensors, words = content if isinstance(content, tuple) else (content, None)
            save_file({key: tensor.clone().contiguous() for key, tensor in tensors.items()}, folder / path, metadata=words)
    return folder


@pytest.mark.parametrize("naming", NAMINGS)
def test_every_naming_is_read(base, alone, tmp_path, on_hub, naming):
    name, wanted, write = NAMINGS[naming]
    updates = drawn(name, wanted)
    lora = save_files(write(updates), tmp_path / "lora")
    expected = epsilon(load_model(merged(name, base(name), tmp_path / f"{name}-merged", updates)))
    place = on_hub(lora) if naming == "peft" else lora  # of which two files are fetched
    assert same(epsilon(load_model(f"{base(name)} + {place}")), expected, 1e-3 if "half" in naming else 1e-5)
    assert not same(alone(name), expected, 1e-2)


def test_dora(base, tmp_path):
    """Weight-decomposed: each row of W + scale·B·A at a norm of its own (Liu et al. 2024)."""
    pipeline = tiny_pipelines.build("sd1")
    pipeline.unet.add_adapter(LoraConfig(r=RANK, lora_alpha=2, use_dora=True, init_lora_weights=False, target_modules=["to_q", "ff.net.2"]))
    layers = {name: layer for name, layer in pipeline.unet.named_modules() if hasattr(layer, "lora_magnitude_vector")}
    for layer in layers.values():
        norm = layer.lora_magnitude_vector["default"].weight
        norm.data *= torch.linspace(0.5, 1.5, len(norm))
    pipeline.save_lora_weights(
        tmp_path / "lora", get_peft_model_state_dict(pipeline.unet), **_collate_lora_metadata({"unet": pipeline.unet})
    )
    by_hand = tiny_pipelines.build("sd1")
    for name, layer in layers.items():
        weight = layer.base_layer.weight + 2 / RANK * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        norm = layer.lora_magnitude_vector["default"].weight
        by_hand.unet.get_submodule(name).weight.data = (weight / weight.norm(dim=1, keepdim=True) * norm[:, None]).data
    shutil.copytree(base("sd1"), tmp_path / "merged")
    by_hand.unet.save_pretrained(tmp_path / "merged/unet")
    assert same(epsilon(load_model(f"{base('sd1')} + {tmp_path / 'lora'}")), epsilon(load_model(tmp_path / "merged")))


@pytest.mark.parametrize(
    "name, dtype, tolerance",
    [("sd1", "float64", 1e-6), ("sd1", "bfloat16", 0.05), ("sd1", "float16", 0.01), ("flux-dev", "bfloat16", 0.05)],
)
def test_precisions(base, tmp_path, name, dtype, tolerance):
    updates = trained(name, FAMILIES[name], tmp_path / "lora")
    expected = epsilon(load_model(merged(name, base(name), tmp_path / f"{name}-merged", updates), dtype="float64"))
    model = load_model(f"{base(name)} + {tmp_path / 'lora'}", dtype=dtype)
    assert {parameter.dtype for parameter in model.network.parameters()} == {model.dtype} == {getattr(torch, dtype)}
    assert same(epsilon(model), expected, tolerance)
    assert epsilon(model).dtype == (torch.float64 if dtype == "float64" else torch.float32)


def test_a_half_precision_model_with_a_lora_falls_back_whole(base, tmp_path):
    trained("sd1", FAMILIES["sd1"], tmp_path)
    model = load_model(f"{base('sd1')} + {tmp_path}", dtype="float16")
    assert model.fall_back() and {parameter.dtype for parameter in model.network.parameters()} == {torch.bfloat16}
    assert epsilon(model).isfinite().all()


def test_attacks_see_the_updates_as_weights(base, tmp_path):
    trained("sd1", {"unet": ["to_q", "conv1"]}, tmp_path)
    model, alone = load_model(f"{base('sd1')} + {tmp_path}"), load_model(base("sd1"))
    assert not model.network.training and not model.pipeline.text_encoder.training
    assert not any(weight.requires_grad for part in (model.network, model.pipeline.text_encoder) for weight in part.parameters())
    images = list(torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(3)))
    attack = mia_hub.get_attack("gsa1", timesteps=(100, 600))
    norms, without = (attack.observe(each, images, captions=CAPTIONS, progress=False).values for each in (model, alone))
    names = [name for name, _ in model.network.named_parameters()]
    updates = [i for i, name in enumerate(names) if "lora_" in name]
    assert norms.shape == (2, len(names)) and without.shape == (2, len(names) - len(updates))
    assert updates and (norms[:, updates] > 0).all()


# LoRAs for another base, and what is no LoRA


def lora_of(name, wanted, write=LAYERS):
    return lambda: write(drawn(name, wanted))


def changed(change, name="sd1", wanted=None, write=LAYERS):
    """A LoRA that fits, with its tensors changed."""

    def make():
        files = write(drawn(name, wanted or {"unet": "to_q$|conv1"}))
        return {path: change(dict(tensors)) for path, tensors in files.items()}

    return make


def first(tensors, part=".down.") -> str:
    return next(key for key in tensors if part in key)


def flux_of_width(inputs):
    stem = "transformer.transformer_blocks.0.attn.to_q.lora"
    return lambda: {LORA_FILE: {f"{stem}_A.weight": torch.ones(4, inputs), f"{stem}_B.weight": torch.ones(32, 4)}}


def without(*parts):
    return lambda tensors: {key: value for key, value in tensors.items() if not any(part in key for part in parts)}


def with_more(suffix, *shape):
    """Something more for the first layer."""
    return lambda tensors: tensors | {first(tensors, ".alpha").removesuffix(".alpha") + suffix: torch.ones(*shape)}


OTHER_BASE = ("can't be put on", "is a LoRA for another base, or broken", "Its page says which model it was trained on")
ANOTHER_KIND = ("something else than low-rank updates", "Merge it into the model")
LOHA = {f"lora_unet_mid_block_attentions_0_proj_in.hada_w{i}_{ab}": torch.ones(4, 4) for i in (1, 2) for ab in "ab"}
MISFITS = {
    "SD2's": ("sd1", lora_of("sd2", {"unet": "to_k$"}), (*OTHER_BASE, "size mismatch")),
    "SDXL's": ("sd1", lora_of("sdxl", {"unet": "down_blocks.1.*to_q$"}), OTHER_BASE),
    "SD1's, kohya's": ("sdxl", lora_of("sd1", {"unet": "up_blocks.*attn2.to_k$", "text_encoder": "fc1"}, kohya), OTHER_BASE),
    "SD1's on Flux": ("flux-dev", lora_of("sd1", {"unet": "to_q$"}), OTHER_BASE),
    "SD1's on Flux, kohya's": ("flux-dev", lora_of("sd1", {"unet": "to_q$"}, kohya), (*OTHER_BASE, "Incompatible keys")),
    "Flux's on SD3": ("sd3", lora_of("flux-dev", {"transformer": "proj_mlp"}), OTHER_BASE),
    "Flux's on SD1": ("sd1", lora_of("flux-dev", {"transformer": "to_q$"}), OTHER_BASE),
    # To these two diffusers would fit the LoRA, or the model, by zeros.
    "narrower Flux's": ("flux-dev", flux_of_width(16), OTHER_BASE),
    "wider Flux's": ("flux-dev", flux_of_width(64), OTHER_BASE),
    "of a deeper model": (
        "sd1",
        changed(lambda t: t | {first(t, k).replace("blocks.0", "blocks.7"): t[first(t, k)] for k in (".down.", ".up.")}),
        (*OTHER_BASE, "numbers for the unet"),
    ),
    "another text encoder's": ("sd1", lora_of("sd2", {"text_encoder": "fc1"}), OTHER_BASE),
    "a second text encoder's": ("sd1", changed(lambda t: {key.replace("unet", "text_encoder_2"): v for key, v in t.items()}), OTHER_BASE),
    "halves missing": ("sd1", changed(without("to_q.lora.up")), ("is broken: it has unet.", "to_q.lora.down.weight, and no unet.")),
    "cut off": ("sd1", lambda: {LORA_FILE: b"\x10\0\0\0\0\0\0\0{"}, ("could not be loaded", "Download it again")),
    "no safetensors": ("sd1", lambda: {LORA_FILE: b"version https://git-lfs"}, ("could not be loaded", "Download it again")),
    "NaN": ("sd1", changed(lambda t: t | {first(t): t[first(t)] * torch.nan}), ("is broken: it has NaN or infinity",)),
    "zero": ("sd1", changed(lambda t: {key: v * (".down." in key) for key, v in t.items()}), ("changes nothing: its updates are zero",)),
    "LoHa": ("sd1", lambda: {LORA_FILE: LOHA}, ANOTHER_KIND),
    "LoKr": ("sd1", lambda: {LORA_FILE: {key.replace("hada", "lokr"): v for key, v in LOHA.items()}}, ANOTHER_KIND),
    "kohya's DoRA": ("sd1", changed(with_more(".dora_scale", 8, 1), write=kohya), ANOTHER_KIND),
    "three matrices": ("sd1", changed(with_more(".lora_mid.weight", 4, 4, 3, 3), write=kohya), ANOTHER_KIND),
    "biases as well": ("flux-dev", changed(with_more(".diff_b", 32), "flux-dev", {"transformer": "x_embedder"}, kohya), ANOTHER_KIND),
    "what diffusers drops": (
        "flux-dev",
        changed(lambda t: t | {f"lora_te1_text_projection.lora_{m}.weight": torch.ones(4, 4) for m in ("down", "up")},
                "flux-dev", {"transformer": "to_[qkv]$|x_embedder"}, flux_by_kohya),
        ("would be put on", "in part only: diffusers drops some of its updates", "Merge it into the model"),
    ),
    "other base weights": (
        "sd1",
        lambda: {LORA_FILE: (LAYERS(drawn("sd1", {"unet": "to_q$"}))[LORA_FILE], settings(init_lora_weights="pissa_niter_4"))},
        ("could not be loaded", "needs other base weights"),
    ),
    "on PixArt": ("pixart-sigma", lora_of("flux-dev", {"transformer": "to_q$"}), ("diffusers puts none on", "PixArt", "merged into")),
    "on a model of pixels": ("ddpm", lora_of("sd1", {"unet": "to_q$"}), ("diffusers puts none on", "PixelModel", "merged into")),
}  # fmt: skip


def settings(**fields):
    return {
        "lora_adapter_metadata": json.dumps({f"unet.{key}": value for key, value in ({"r": RANK, "lora_alpha": RANK} | fields).items()})
    }


@pytest.mark.parametrize("case", MISFITS)
def test_what_doesnt_fit_is_refused(base, tmp_path, on_hub, loopback_hub, capfd, case):
    name, make, says = MISFITS[case]
    lora, repo = save_files(make(), tmp_path / "lora"), on_hub(base(name))
    message = refusal(f"{repo} + {lora}")
    for phrase in (str(lora), *says):
        assert phrase in message, message
    if "on" in message.split():
        assert repo in message
    assert "\n" not in message and len(message) < 1000
    # Before the base's weights are fetched, but for text encoders, which are seen once they are there.
    assert weights_fetched(loopback_hub, repo) == [] or case == "another text encoder's"
    assert capfd.readouterr().err == ""


def test_a_files_settings_run_no_code(base, tmp_path, monkeypatch):
    """peft imports the module that a LoRA's settings name as their "megatron core"."""
    (tmp_path / "planted_module.py").write_text("raise SystemExit('run')")
    monkeypatch.syspath_prepend(tmp_path)
    words = settings(megatron_config={"a": 1}, megatron_core="planted_module", target_modules=["to_q"])
    (tensors,) = LAYERS(drawn("sd1", {"unet": "to_q$"})).values()
    for planted in (True, False):
        save_files({LORA_FILE: (tensors, words if planted else settings())}, tmp_path / f"lora{planted}")
    found = [epsilon(load_model(f"{base('sd1')} + {tmp_path / f'lora{planted}'}")) for planted in (True, False)]
    assert torch.equal(*found)
    with pytest.raises((SystemExit, ValueError)):  # peft's newer releases refuse to
        tiny_pipelines.build("sd1").load_lora_weights(tmp_path / "loraTrue")


# Parts


def altered(name: str, *parts: str):
    """The tiny pipeline with other weights in some parts."""
    pipeline = tiny_pipelines.build(name)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        for parameter in [parameter for part in parts for parameter in getattr(pipeline, part).parameters()]:
            parameter.data += 0.2 * parameter.std(correction=0) * torch.randn_like(parameter)
    return pipeline


def replaced(base: Path, folder: Path, pipeline, *parts: str) -> Path:
    shutil.copytree(base, folder)
    for part in parts:
        getattr(pipeline, part).save_pretrained(folder / part)
    return folder


@pytest.mark.parametrize(
    "name, part, where",
    [
        ("sd1", "unet", "root"),
        ("sd1", "unet", "folder"),
        ("sd1", "unet", "of a whole model"),
        ("sd1", "vae", "folder"),
        ("sd1", "text_encoder", "root"),
        ("sd3", "text_encoder_2", "folder"),  # there are two of its class, told apart by their folders
        ("flux-dev", "transformer", "root"),
        ("ddpm", "unet", "of a whole model"),
    ],
)
def test_a_part_takes_the_place_of_the_bases(base, tmp_path, on_hub, loopback_hub, name, part, where):
    whole = replaced(base(name), tmp_path / f"{name}-whole", altered(name, part), part)
    expected, images = load_model(whole), torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    repo = on_hub(base(name))
    if where == "root":
        top = on_hub(whole / part)
    else:
        shutil.copytree(whole / part, tmp_path / "top" / part)
        top = on_hub(tmp_path / "top") if where == "folder" else f"{on_hub(whole)}/{part}"
    model = load_model(f"{repo} + {top}")

    def outcome(model):
        return model.encode(images) if part == "vae" else epsilon(model)

    assert torch.equal(outcome(model), outcome(expected)) and not same(outcome(load_model(base(name))), outcome(expected), 1e-2)
    assert model.info.id == f"{repo} + {top}" and re.fullmatch(r"\w{40} \+ \w{40}", model.info.revision)
    assert not [path for path in weights_fetched(loopback_hub, repo) if path.startswith(f"{part}/")]
    (fetched,) = weights_fetched(loopback_hub, "/".join(top.split("/")[:2]))
    assert fetched.startswith("" if where == "root" else f"{part}/")
    local = load_model(f"{base(name)} + {whole / part}")
    assert torch.equal(outcome(local), outcome(expected)) and re.fullmatch(r"sha256:\w+ \+ sha256:\w+", local.info.revision)


def test_a_part_without_the_scale_that_is_the_default_fits(base, tmp_path):
    """As in old repositories of autoencoders."""
    shutil.copytree(base("sd1") / "vae", tmp_path / "vae")
    change_json(tmp_path / "vae/config.json", scaling_factor=None, drop=True)
    assert torch.equal(epsilon(load_model(f"{base('sd1')} + {tmp_path / 'vae'}")), epsilon(load_model(base("sd1"))))


def change_json(path: Path, *, drop=False, **changes):
    content = json.loads(path.read_text())
    content = {key: value for key, value in content.items() if key not in changes} | ({} if drop else changes)
    path.write_text(json.dumps(content))


def part_of(name, part):
    def make(folder):
        getattr(tiny_pipelines.build(name), part).save_pretrained(folder)

    return make


def changed_part(part, **changes):
    def make(folder):
        part_of("sd1", part)(folder)
        change_json(folder / "config.json", **changes)

    return make


def two_parts(folder):
    for part in ("unet", "vae"):
        part_of("sd1", part)(folder / part)


def pickled_part(folder):
    tiny_pipelines.build("sd1").unet.save_pretrained(folder, safe_serialization=False)


def pickled_shards(folder):
    pickled_part(folder)
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": {"conv_in.weight": "diffusion_pytorch_model.bin"}})
    )


def files(**contents):
    return lambda folder: save_files({path.replace("__", "."): content for path, content in contents.items()}, folder)


PICKLE = ("pickled weights", "can run code")
NO_PART = {
    "another class": ("sd1", part_of("ddpm", "unet"), ("holds a UNet2DModel that", "UNet2DConditionModel (unet)")),
    "SD2's UNet": ("sd1", part_of("sd2", "unet"), ("is no unet for", "cross_attention_dim is 32, and the base's is 16", "fine-tuned from")),
    "SDXL's VAE": ("sd1", part_of("sdxl", "vae"), ("is no vae for", "scaling_factor is 0.13025, and the base's is 0.18215")),
    "SD2's text encoder": ("sd1", part_of("sd2", "text_encoder"), ("is no text_encoder for", "hidden_size is 32, and the base's is 16")),
    "for inpainting": ("sd1", changed_part("unet", in_channels=9), ("is no unet for", "in_channels is 9, and the base's is 4")),
    "one of two": ("sd3", part_of("sd3", "text_encoder_2"), ("could be the text_encoder or text_encoder_2", "in a folder of that name")),
    "a whole model": ("sd1", lambda folder: tiny_pipelines.save("sd1", folder), ("is a whole model; give it alone", "/unet")),
    "two parts": ("sd1", two_parts, ("holds 2 parts; name one, such as", "/unet")),
    "pickled part": ("sd1", pickled_part, PICKLE),
    "pickled shards": ("sd1", pickled_shards, ("is refused", "names weights that are no safetensors")),
    "pickled LoRA": ("sd1", files(pytorch_lora_weights__bin=b"pickle"), PICKLE),
    "pickled checkpoint": ("sd1", files(model__ckpt=b"pickle"), PICKLE),
    "several files": ("sd1", files(a__safetensors={}, b__safetensors={}), ("2 files of weights; name one, such as", "/a.safetensors")),
    "nothing": ("sd1", files(README__md=b"Hello"), ("neither a safetensors file nor a part",)),
    "odd weights": (
        "sd1",
        files(a__safetensors={"conv_in.weight": torch.ones(1)}),
        ("neither a LoRA nor a checkpoint", "names such as 'conv_in.weight'", "given as its folder, with config.json"),
    ),
    "broken config": ("sd1", files(config__json=b"{"), ("config.json is not readable JSON",)),
    "odd config": ("sd1", files(config__json=b"{}"), ("holds no part that", "UNet2DConditionModel (unet)")),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_PART)
def test_what_is_no_part_of_the_base_is_refused(base, tmp_path, on_hub, loopback_hub, case):
    name, make, says = NO_PART[case]
    repo, folder = on_hub(base(name)), tmp_path / "top"
    folder.mkdir()
    make(folder)
    for top in (folder, on_hub(folder)):
        message = refusal(f"{repo} + {top}")
        for phrase in (str(top), *says):
            assert phrase in message, message
    assert weights_fetched(loopback_hub, repo) == []
    assert not [path for path in weights_fetched(loopback_hub, top) if not path.endswith(".safetensors")]


def test_missing_weights_are_refused(base, tmp_path):
    part_of("sd1", "unet")(tmp_path / "unet")
    file = tmp_path / "unet/diffusion_pytorch_model.safetensors"
    save_file({key: value for key, value in load_file(file).items() if key != "conv_in.weight"}, file)
    assert "1 weights are missing (such as conv_in.weight)" in refusal(f"{base('sd1')} + {tmp_path / 'unet'}")


def test_names(base, tmp_path, on_hub, loopback_hub):
    """What is refused by its name."""
    two_parts(tmp_path)
    lora, repo = on_hub({LORA_FILE: b""}), f"{base('sd1')} + "
    for top, says in {
        "": "Nothing stands after a plus sign",
        "no/such": "no model 'no/such' that you may see",
        "./no/such/folder": "neither 'demo', nor an existing folder",
        str(tmp_path / "unet.safetensors"): "nor an existing folder",
        f"{lora}@v9": "has no revision 'v9'",
        f"{lora}/other.safetensors": f"has no file or part other.safetensors; it has {LORA_FILE}",
        f"{lora}/{LORA_FILE}.bin": "has no file or part",
        f"{tmp_path / 'unet'} + {tmp_path / 'unet'}": "both bring a unet; name one of them",
    }.items():
        assert says in refusal(repo + top), top
    for top in (tmp_path / "unet", tmp_path / "unet/diffusion_pytorch_model.safetensors"):
        hub_base = on_hub(base("sd1"))
        assert "There is no model" in refusal(f"{hub_base} + {top}", trusted=False)
        assert "There is no model" in refusal(top, trusted=False)
        assert loopback_hub.files_fetched(hub_base) == []
    assert "At most 2 things can be put on a model here" in refusal(f"{lora} + {' + '.join([lora] * 3)}", trusted=False)
    large = on_hub({"[1].safetensors": b"0" * 2**20})
    assert "here at most 0.000488 GiB are fetched" in refusal(f"demo + {large}/[1].safetensors", trusted=False, largest=2**19)
    assert loopback_hub.files_fetched(large) == []
    assert "v1" in refusal(tmp_path / "unet/diffusion_pytorch_model.safetensors", revision="v1")


# Single-file checkpoints: diffusers' conversion, backwards.


def renamed(weights: dict, prefix: str, rules: list[tuple[str, str]]) -> dict:
    """Weights under the names of the original layout; the first rules make the place, the last those in a block."""
    found = {}
    for name, value in weights.items():
        for pattern, new in rules:
            name = re.sub(pattern, new, name)
        found[prefix + name] = value
    assert len(found) == len(weights)
    return found


DENOISER = "model.diffusion_model."
RESNET = [("norm1", "in_layers.0"), ("conv1", "in_layers.2"), ("time_emb_proj", "emb_layers.1"), ("norm2", "out_layers.0")]
RESNET += [("conv2", "out_layers.3"), ("conv_shortcut", "skip_connection")]
# Of two levels, with one resnet each on the way down and two on the way up.
UNET = [
    ("^time_embedding.linear_1", "time_embed.0"), ("^time_embedding.linear_2", "time_embed.2"), ("^conv_in", "input_blocks.0.0"),
    ("^conv_norm_out", "out.0"), ("^conv_out", "out.2"),
    *[(f"^down_blocks.{i}.{kind}.0", f"input_blocks.{2 * i + 1}.{k}") for i in (0, 1) for k, kind in enumerate(("resnets", "attentions"))],
    ("^down_blocks.0.downsamplers.0.conv", "input_blocks.2.0.op"),
    ("^mid_block.resnets.0", "middle_block.0"), ("^mid_block.attentions.0", "middle_block.1"), ("^mid_block.resnets.1", "middle_block.2"),
    *[
        (f"^up_blocks.{i}.{kind}.{j}", f"output_blocks.{2 * i + j}.{k}")
        for i in (0, 1) for j in (0, 1) for k, kind in enumerate(("resnets", "attentions"))
    ],
    ("^up_blocks.0.upsamplers.0.conv", "output_blocks.1.1.conv"),
    *[(rf"^((?:in|out)put_blocks\.\d\.0|middle_block\.[02])\.{old}", rf"\1.{new}") for old, new in RESNET],
]  # fmt: skip
VAE = [
    ("^(encoder|decoder).conv_norm_out", r"\1.norm_out"),
    (r"^encoder.down_blocks.(\d).resnets.(\d)", r"encoder.down.\1.block.\2"),
    (r"^encoder.down_blocks.(\d).downsamplers.0", r"encoder.down.\1.downsample"),
    *[(rf"^decoder.up_blocks.{i}.resnets.(\d)", rf"decoder.up.{1 - i}.block.\1") for i in (0, 1)],
    ("^decoder.up_blocks.0.upsamplers.0", "decoder.up.1.upsample"),
    (r"mid_block.resnets.0", "mid.block_1"), (r"mid_block.resnets.1", "mid.block_2"), ("conv_shortcut", "nin_shortcut"),
]  # fmt: skip


def original(pipeline) -> dict:
    """Stable Diffusion 1 in one dictionary."""
    found = renamed(pipeline.unet.state_dict(), DENOISER, UNET)
    found |= renamed(pipeline.vae.state_dict(), "first_stage_model.", VAE)
    return found | renamed(pipeline.text_encoder.state_dict(), "cond_stage_model.transformer.text_model.", [])


SD3 = [
    ("^pos_embed.proj", "x_embedder.proj"), ("^pos_embed.pos_embed", "pos_embed"), ("time_text_embed.timestep_embedder", "t_embedder"),
    ("time_text_embed.text_embedder", "y_embedder"), (r"(t|y)_embedder.linear_1", r"\1_embedder.mlp.0"),
    (r"(t|y)_embedder.linear_2", r"\1_embedder.mlp.2"), ("^proj_out", "final_layer.linear"),
    ("^norm_out.linear", "final_layer.adaLN_modulation.1"), ("^transformer_blocks", "joint_blocks"),
    ("norm1_context.linear", "context_block.adaLN_modulation.1"), ("norm1.linear", "x_block.adaLN_modulation.1"),
    ("ff_context.net.0.proj", "context_block.mlp.fc1"), ("ff_context.net.2", "context_block.mlp.fc2"),
    ("ff.net.0.proj", "x_block.mlp.fc1"), ("ff.net.2", "x_block.mlp.fc2"), ("attn.to_out.0", "x_block.attn.proj"),
    ("attn.to_add_out", "context_block.attn.proj"), ("attn.(to_[qkv])", r"x_block.attn.\1"),
    ("attn.add_([qkv])_proj", r"context_block.attn.to_\1"),
]  # fmt: skip


# SDXL's attends in its lower level alone, and has a second text encoder in OpenCLIP's layout.
UNET_XL = [
    ("^add_embedding.linear_1", "label_emb.0.0"), ("^add_embedding.linear_2", "label_emb.0.2"),
    ("^up_blocks.0.upsamplers.0.conv", "output_blocks.1.2.conv"), *UNET,
]  # fmt: skip
OPEN_CLIP = [
    ("^text_model.final_layer_norm", "ln_final"), ("^text_model.encoder.layers", "transformer.resblocks"),
    ("layer_norm", "ln_"), ("fc1", "c_fc"), ("fc2", "c_proj"), ("self_attn", "attn"),
    ("^text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ("^text_model.embeddings.token_embedding", "token_embedding"),
    ("^text_projection.weight", "text_projection"),
]  # fmt: skip


def original_xl(pipeline) -> dict:
    """SDXL in one dictionary, where q, k and v are one in the second text encoder, and its projection is turned."""
    found = renamed(pipeline.unet.state_dict(), DENOISER, UNET_XL) | renamed(pipeline.vae.state_dict(), "first_stage_model.", VAE)
    found |= renamed(pipeline.text_encoder.state_dict(), "conditioner.embedders.0.transformer.text_model.", [])
    second = renamed(pipeline.text_encoder_2.state_dict(), "conditioner.embedders.1.model.", OPEN_CLIP)
    for name in [name for name in second if ".q_proj." in name]:
        joined = torch.cat([second.pop(name.replace("q_proj", f"{which}_proj")) for which in "qkv"])
        second[name.replace("q_proj.", "in_proj_")] = joined
    projection = "conditioner.embedders.1.model.text_projection"
    return found | second | {projection: second[projection].T.contiguous()}


def original_sd3(transformer) -> dict:
    """Its denoiser alone: q, k and v in one, and the last block's shift before its scale."""
    found = renamed(transformer.state_dict(), "", SD3)
    for name in [name for name in found if ".to_q." in name]:
        found[name.replace("to_q", "qkv")] = torch.cat([found.pop(name.replace("to_q", f"to_{which}")) for which in "qkv"])
    for name in [name for name in found if name.startswith(("final_layer.adaLN", "joint_blocks.1.context_block.adaLN"))]:
        found[name] = torch.cat(found[name].chunk(2)[::-1])
    return found


@pytest.fixture(scope="module")
def checkpoint(base, tmp_path_factory):
    """A single file with other weights than the tiny SD1's, and the folder with the same weights."""
    folder, parts = tmp_path_factory.mktemp("checkpoint"), ("unet", "vae", "text_encoder")
    pipeline = altered("sd1", *parts)
    save_file(original(pipeline) | {"model_ema.decay": torch.ones(1)}, folder / "any.safetensors")
    return folder / "any.safetensors", replaced(base("sd1"), folder / "folder", pipeline, *parts)


def assert_same_model(found, expected):
    images = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(epsilon(found), epsilon(expected)) and torch.equal(found.encode(images), expected.encode(images))


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_a_single_file_is_its_weights_in_diffusers_layout(base, checkpoint, on_hub, loopback_hub, dtype):
    file, folder = checkpoint
    repo, other = on_hub(base("sd1")), on_hub({"deep/any.safetensors": file.read_bytes()})
    expected = load_model(folder, dtype=dtype)
    names = [f"{repo} + {file}", f"{repo} + {other}/deep/any.safetensors", f"{base('sd1')} + {file}"]
    for name in names if dtype == "float32" else names[:1]:
        model = load_model(name, dtype=dtype)
        assert_same_model(model, expected)
        assert {parameter.dtype for parameter in model.network.parameters()} == {model.dtype} and model.info.id == name
    assert weights_fetched(loopback_hub, repo) == []
    assert not same(epsilon(load_model(base("sd1"), dtype=dtype)), epsilon(expected), 1e-2)


def test_a_single_file_alone_takes_the_configuration_of_what_it_was_made_from(base, checkpoint, tmp_path, on_hub, loopback_hub, capsys):
    file, folder = checkpoint
    before = len(loopback_hub.files_fetched(SD1))
    on_hub(base("sd1"), SD1)
    hub = on_hub({"any.safetensors": file.read_bytes()})
    for name, options in ((file, {}), (f"{hub}/any.safetensors", {"revision": "main"}), (f"{hub}/any.safetensors@main", {})):
        model = load_model(name, **options)
        assert_same_model(model, load_model(folder))
        assert model.info.id == f"{SD1} + {name}" and f"are taken from {SD1}" in capsys.readouterr().err
    assert not [path for path in loopback_hub.files_fetched(SD1)[before:] if path.endswith(".safetensors")]
    trained("sd1", {"unet": ["to_q"]}, tmp_path)
    assert torch.equal(epsilon(load_model(f"{file} + {tmp_path}")), epsilon(load_model(f"{folder} + {tmp_path}")))
    untrusted = load_model(f"{hub}/any.safetensors", trusted=False)
    assert_same_model(untrusted, load_model(folder))


def test_files_with_some_parts(base, checkpoint, tmp_path, on_hub, loopback_hub):
    file, folder = checkpoint
    weights = load_file(file)
    prefixes = {"unet": "model.diffusion_model.", "vae": "first_stage_model.", "text_encoder": "cond_stage_model."}
    for part, prefix in prefixes.items():
        # A VAE alone has no prefix.
        own = {key.removeprefix("first_stage_model."): value for key, value in weights.items() if key.startswith(prefix)}
        save_file(own, tmp_path / f"{part}.safetensors")
        if part == "text_encoder":
            continue  # alone it isn't recognised
        repo = on_hub(base("sd1"))
        expected = load_model(f"{base('sd1')} + {folder / part}")
        assert_same_model(load_model(f"{repo} + {tmp_path / part}.safetensors"), expected)
        assert len(weights_fetched(loopback_hub, repo)) == 2 and f"{part}/" not in str(weights_fetched(loopback_hub, repo))
    both = load_model(f"{base('sd1')} + {tmp_path / 'unet'}.safetensors + {tmp_path / 'vae'}.safetensors")
    assert_same_model(both, load_model(f"{base('sd1')} + {folder / 'unet'} + {folder / 'vae'}"))


def test_sdxl_in_one_file(base, tmp_path, on_hub, loopback_hub):
    parts = ("unet", "vae", "text_encoder", "text_encoder_2")
    pipeline, repo = altered("sdxl", *parts), on_hub(base("sdxl"))
    save_file(original_xl(pipeline), tmp_path / "any.safetensors")
    assert_same_model(load_model(f"{repo} + {tmp_path}"), load_model(replaced(base("sdxl"), tmp_path / "whole", pipeline, *parts)))
    assert weights_fetched(loopback_hub, repo) == []


def test_a_transformer_alone(base, alone, tmp_path):
    """Of SD3. (Of Flux diffusers reads no tiny one: its conversion has the width of the real one, 3072, written in.)"""
    pipeline = altered("sd3", "transformer")
    save_file(original_sd3(pipeline.transformer), tmp_path / "sd3.safetensors")
    expected = load_model(replaced(base("sd3"), tmp_path / "whole", pipeline, "transformer"))
    assert_same_model(load_model(f"{base('sd3')} + {tmp_path / 'sd3.safetensors'}"), expected)
    assert not same(alone("sd3"), epsilon(expected), 1e-2)


OTHER_MODEL = ("as its base: it was made from another model, or is incomplete", "as 'base + ")
CLIP, INPUT = "cond_stage_model.transformer.text_model.", "input_blocks.0.0.weight"
NO_CHECKPOINT = {
    "a layer missing": ("sd1", without("middle_block.1.proj_in"), (*OTHER_MODEL, "its denoiser has")),
    "a layer more": ("sd1", lambda weights: weights | {f"{DENOISER}label_emb.weight": torch.ones(3)}, (*OTHER_MODEL, "its denoiser has")),
    "that predicts v": ("sd1", lambda weights: weights | {"v_pred": torch.ones(0)}, ("states that its denoiser predicts v", "Name a base")),
    "SD1's on SD2": ("sd2", dict, (*OTHER_MODEL, "its denoiser has")),
    "SD1's on SDXL": ("sdxl", dict, (*OTHER_MODEL, "its denoiser has")),
    "SD1's on Flux": ("flux-dev", dict, (*OTHER_MODEL, "its denoiser has")),
    "SD1's on Sana": ("sana", dict, ("diffusers reads none for", "Give the model in diffusers' layout")),
    "of another shape": (
        "sd1",
        lambda weights: weights | {f"{DENOISER}{INPUT}": weights[f"{DENOISER}{INPUT}"].transpose(0, 1)},
        (*OTHER_MODEL, "conv_in.weight expected shape"),
    ),
    "half a VAE": ("sd1", without("first_stage_model.decoder.conv_out"), (*OTHER_MODEL, "lacks")),
    "half a text encoder": ("sd1", without(f"{CLIP}final_layer_norm"), (*OTHER_MODEL, "lacks")),
    "no positions": ("sd1", without(f"{CLIP}embeddings.position_embedding"), OTHER_MODEL),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_CHECKPOINT)
def test_a_checkpoint_that_doesnt_fit_is_refused(base, checkpoint, tmp_path, on_hub, loopback_hub, case):
    name, change, says = NO_CHECKPOINT[case]
    file, repo = tmp_path / "any.safetensors", on_hub(base(name))
    save_file({key: value.contiguous() for key, value in change(load_file(checkpoint[0])).items()}, file)
    for where in (repo, base(name)):
        message = refusal(f"{where} + {file}")
        for phrase in (str(file), str(where), *says):
            assert phrase in message, message
    assert weights_fetched(loopback_hub, repo) == []


def test_what_can_not_stand_alone(base, checkpoint, tmp_path, on_hub):
    without_base = refusal(checkpoint[0])
    assert f"{checkpoint[0]} seems to be made from {SD1}, which can't be loaded. The Hub has no model" in without_base
    assert f"Or name another base, as 'base + {checkpoint[0]}'" in without_base
    weights = load_file(checkpoint[0])
    save_file(
        {key.removeprefix("first_stage_model."): value for key, value in weights.items() if "first" in key}, tmp_path / "vae.safetensors"
    )
    trained("sd1", {"unet": ["to_q"]}, tmp_path)
    (tmp_path / "a.ckpt").write_bytes(b"pickle")
    hub = on_hub({"a.ckpt": b"pickle", LORA_FILE: (tmp_path / LORA_FILE).read_bytes()})
    for name, says in {
        tmp_path / "vae.safetensors": ("holds no denoiser", f"name its base as well, as 'base + {tmp_path / 'vae.safetensors'}'"),
        tmp_path / LORA_FILE: ("goes on top of a model; name its base as well, as 'base + ",),
        f"{hub}/{LORA_FILE}": ("goes on top of a model",),
        tmp_path / "a.ckpt": PICKLE,
        f"{hub}/a.ckpt": PICKLE,
        f"{base('sd1')} + {tmp_path / 'a.ckpt'}": PICKLE,
        f"{base('sd1')} + {hub}/a.ckpt": PICKLE,
        tmp_path / "none.safetensors": ("There is no model",),
    }.items():
        message = refusal(name)
        for phrase in says:
            assert phrase in message, message
