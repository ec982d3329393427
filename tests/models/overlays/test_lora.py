"""LoRAs on top of a model: read in every naming, put on in full, or refused."""

from __future__ import annotations

import json
from functools import cache

import pytest
import torch
from diffusers.training_utils import _collate_lora_metadata
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from support import tiny_pipelines
from support.overlays import (
    CAPTIONS,
    LAYERS,
    LORA_FILE,
    LORA_LAYERS,
    NAMINGS,
    RANK,
    T,
    by_one_trainer,
    epsilon,
    flux_by_kohya,
    kohya,
    load_model,
    merged_weight,
    other_weights,
    peft_names,
    random_updates,
    refusal,
    same,
    save_files,
    save_random_lora,
    weights_fetched,
)  # fmt: skip

import mia_hub


@pytest.mark.parametrize("name", LORA_LAYERS)
def test_a_lora_adds_its_updates(base, alone, merged, tmp_path, on_hub, name):
    updates = save_random_lora(name, LORA_LAYERS[name], tmp_path / "lora", settings=name not in ("sd2", "flux-schnell"))
    expected = merged(name, updates)
    lora = on_hub(tmp_path / "lora")
    model = load_model(f"{base(name)} + {lora}")
    assert same(epsilon(model), expected)
    assert not same(alone(name), expected, 1e-2)
    assert model.info.id == f"{base(name)} + {lora}"


def test_as_diffusers_itself_puts_it(base, tmp_path):
    save_random_lora("sd1", LORA_LAYERS["sd1"], tmp_path)
    pipeline = tiny_pipelines.build("sd1")
    pipeline.load_lora_weights(tmp_path)
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        text, _ = pipeline.encode_prompt(CAPTIONS, "cpu", 1, False)
        expected = pipeline.unet(x, T, text).sample
    assert same(epsilon(load_model(f"{base('sd1')} + {tmp_path}")), expected)


def test_two_at_once(base, merged, tmp_path, capfd, recwarn):
    targets = [{"unet": ["to_q", "conv1"]}, {"unet": ["to_q", "ff.net.2"], "text_encoder": ["fc2"]}]
    updates = [save_random_lora("sd1", parts, tmp_path / f"lora{i}", seed=i, r=3 + i) for i, parts in enumerate(targets)]
    expected = merged("sd1", *updates)
    capfd.readouterr()
    model = load_model(f"{base('sd1')} + {tmp_path / 'lora0'} + {tmp_path / 'lora1'}")
    assert same(epsilon(model), expected)
    assert capfd.readouterr().err == "" and not [each for each in recwarn if "adapter" in str(each.message)]
    assert model.info.id.count(" + ") == model.info.revision.count(" + ") == 2


@pytest.mark.parametrize("naming", NAMINGS)
def test_every_naming_is_read(base, alone, merged, tmp_path, on_hub, naming):
    name, patterns, write = NAMINGS[naming]
    updates = random_updates(name, patterns)
    lora = save_files(write(updates), tmp_path / "lora")
    expected = merged(name, updates)
    place = on_hub(lora) if naming == "peft" else lora  # of which two files are fetched
    assert same(epsilon(load_model(f"{base(name)} + {place}")), expected, 1e-3 if "half" in naming else 1e-5)
    assert not same(alone(name), expected, 1e-2)


def test_dora(base, loaded, tmp_path):
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

    def by_hand(weight, layer):
        weight = merged_weight(weight, layer.lora_A["default"].weight.data, layer.lora_B["default"].weight.data, 2 / RANK)
        return weight / weight.norm(dim=1, keepdim=True) * layer.lora_magnitude_vector["default"].weight.data[:, None]

    with other_weights(loaded("sd1"), by_hand, {"unet": {name: (layer,) for name, layer in layers.items()}}) as model:
        expected = epsilon(model)
    assert same(epsilon(load_model(f"{base('sd1')} + {tmp_path / 'lora'}")), expected)


@pytest.mark.parametrize(
    "name, dtype, tolerance",
    [("sd1", "float64", 1e-6), ("sd1", "bfloat16", 0.05), ("sd1", "float16", 0.01), ("flux-dev", "bfloat16", 0.05)],
)
def test_precisions(base, merged, tmp_path, name, dtype, tolerance):
    updates = save_random_lora(name, LORA_LAYERS[name], tmp_path / "lora")
    expected = merged(name, updates, dtype="float64")
    model = load_model(f"{base(name)} + {tmp_path / 'lora'}", dtype=dtype)
    assert {parameter.dtype for parameter in model.network.parameters()} == {model.dtype} == {getattr(torch, dtype)}
    actual = epsilon(model)
    assert same(actual, expected, tolerance)
    assert actual.dtype == (torch.float64 if dtype == "float64" else torch.float32)


def test_a_half_precision_model_with_a_lora_falls_back_whole(base, tmp_path):
    save_random_lora("sd1", LORA_LAYERS["sd1"], tmp_path)
    model = load_model(f"{base('sd1')} + {tmp_path}", dtype="float16")
    assert model.fall_back() and {parameter.dtype for parameter in model.network.parameters()} == {torch.bfloat16}
    assert epsilon(model).isfinite().all()


def test_attacks_see_the_updates_as_weights(base, loaded, tmp_path):
    save_random_lora("sd1", {"unet": ["to_q", "conv1"]}, tmp_path)
    model, alone = load_model(f"{base('sd1')} + {tmp_path}"), loaded("sd1")
    assert not model.network.training and not model.pipeline.text_encoder.training
    assert not any(weight.requires_grad for part in (model.network, model.pipeline.text_encoder) for weight in part.parameters())
    images = list(torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(3)))
    attack = mia_hub.get_attack("gsa1", timesteps=(100, 600))
    norms, without = (attack.observe(each, images, captions=CAPTIONS, progress=False).values for each in (model, alone))
    names = [name for name, _ in model.network.named_parameters()]
    updates = [i for i, name in enumerate(names) if "lora_" in name]
    assert norms.shape == (2, len(names)) and without.shape == (2, len(names) - len(updates))
    assert updates and (norms[:, updates] > 0).all()


def lora_of(name, wanted, write=LAYERS):
    return lambda: write(random_updates(name, wanted))


def changed(change, name="sd1", wanted=None, write=LAYERS):
    """A LoRA that fits, with its tensors changed."""

    def make():
        files = write(random_updates(name, wanted or {"unet": "to_q$|conv1"}))
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


def settings(**fields):
    return {
        "lora_adapter_metadata": json.dumps({f"unet.{key}": value for key, value in ({"r": RANK, "lora_alpha": RANK} | fields).items()})
    }


OTHER_BASE = ("can't be put on", "is a LoRA for another base, or broken", "Its page says which model it was trained on")
ANOTHER_KIND = ("something other than low-rank updates", "Merge it into the model")
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
        lambda: {LORA_FILE: (LAYERS(random_updates("sd1", {"unet": "to_q$"}))[LORA_FILE], settings(init_lora_weights="pissa_niter_4"))},
        ("could not be loaded", "needs other base weights"),
    ),
    "two adapters": (
        "sd1",
        lambda: {LORA_FILE: peft_names(random_updates("sd1", {"unet": "to_q$"}), adapter=".a")
                 | peft_names(random_updates("sd1", {"unet": "to_k$"}), adapter=".b")},
        ("holds several adapters (a, b)", "Save one of them"),
    ),
    "peft's without its settings": (
        "sd1",
        lambda: {LORA_FILE: peft_names(random_updates("sd1", {"unet": "to_q$"}), prefix="base_model.model.")},
        ("whose scale stands in adapter_config.json, which isn't beside it",),
    ),
    "new words": (
        "sd1", changed(lambda t: t | {"bundle_emb.tok.string_to_param.*": torch.ones(1, 16)}), ("new words for the text encoder",),
    ),
    "OneTrainer's for another transformer": (
        "sd3", lora_of("flux-dev", {"transformer": "proj_mlp"}, by_one_trainer), (*OTHER_BASE, "a layer that this model lacks"),
    ),
    "on PixArt": ("pixart-sigma", lora_of("flux-dev", {"transformer": "to_q$"}), ("diffusers puts none on", "PixArt", "merged into")),
    "on a model of pixels": ("ddpm", lora_of("sd1", {"unet": "to_q$"}), ("diffusers puts none on", "PixelModel", "merged into")),
}  # fmt: skip


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


ADAPTER_METADATA = {"unet.lora_alpha": 8, "unet.r": 4, "unet.alpha_pattern": {"^never": 3}}
# Where the alpha of a LoRA of rank 4 stands, and the scale that it makes; or what the refusal says.
SCALES = {
    "nowhere": ({}, 1),
    "diffusers": ({"lora_adapter_metadata": json.dumps(ADAPTER_METADATA)}, 2),
    "diffusers, without parts": ({"lora_adapter_metadata": json.dumps({"lora_alpha": 8, "r": 4})}, 2),
    "nested": ({"lora_adapter_metadata": json.dumps({"unet": {"lora_alpha": 8, "r": 4}})}, 2),
    "by part": ({"unet.lora_alpha": "8", "unet.r": "4"}, 2),
    "another part's as well": ({"unet.lora_alpha": "8", "text_encoder.lora_alpha": "400"}, 2),
    "flat": ({"lora_alpha": "8", "r": "4"}, 2),
    "short": ({"alpha": "8", "rank": "4"}, 2),
    "network": ({"network_alpha": "8"}, 2),
    "camel case": ({"networkAlpha": "2", "networkDim": "4"}, 0.5),
    "kohya": ({"ss_network_alpha": "1.0", "ss_network_dim": "4"}, 0.25),
    "kohya, unset": ({"ss_network_alpha": "None", "ss_network_dim": "4", "ss_alpha_mask": "False"}, 1),
    "kohya, convolutions": ({"ss_network_alpha": "8", "ss_network_dim": "4", "ss_network_args": json.dumps({"conv_alpha": "4"})}, (2, 1)),
    "OneTrainer": ({"ot_config": json.dumps({"lora_rank": 4, "lora_alpha": 2.0})}, 0.5),
    "peft's configuration": ({"adapter_config": json.dumps({"r": 4, "lora_alpha": 8, "use_rslora": True})}, 4),
    "patterns": ({"lora_alpha": "8", "alpha_pattern": json.dumps({"conv1": 4})}, (2, 1)),
    "ranks by pattern": ({"lora_alpha": "8", "r": "16", "rank_pattern": json.dumps({"conv1": 4, "to_q": 4})}, 2),
    "rank-stabilised": ({"unet.lora_alpha": "8", "unet.use_rslora": "True"}, 4),
    "one entry for all": ("network_alpha", 2),
    "an entry for each": (".alpha", 2),
    "an entry for each, longer": (".lora_alpha", 2),
    "an entry of nothing": (".attn3.alpha", ("belongs to none of its updates",)),
    "twice": ({"lora_alpha": "8", "network_alpha": "4"}, ("contradict each other", "lora_alpha = 8", "network_alpha = 4")),
    "another rank": ({"lora_alpha": "8", "r": "8"}, ("state a rank of 8", "whose matrices have 4")),
    "dynamic": ({"ss_network_alpha": "Dynamic", "ss_network_dim": "Dynamic"}, ("ss_network_alpha is 'Dynamic', which is no number",)),
    "unknown": ({"my_trainer.down_alpha": "8"}, ("in a way that is not known", "my_trainer.down_alpha")),
    "not readable": ({"lora_adapter_metadata": "{"}, ("lora_adapter_metadata is not readable",)),
    "words of captions": ({"ss_tag_frequency": json.dumps({"img": {"alpha": 3, "my_alpha": 2}})}, 1),
}  # fmt: skip


@pytest.fixture(scope="module")
def updates():
    """Two layers, one of them a convolution of 3 x 3."""
    return random_updates("sd1", {"unet": r"mid_block.*(attn1.to_q|resnets.0.conv1)$"})["unet"]


@pytest.fixture(scope="module")
def scaled(merged, updates):
    """``scaled(of_layer, of_convolution)``: ε with these scales."""

    @cache
    def predicted(*scales):
        return merged("sd1", {"unet": {module: (a, b, scales["conv" in module]) for module, (a, b, _) in updates.items()}})

    return predicted


@pytest.mark.parametrize("case", SCALES)
def test_the_scale_is_read_from_wherever_it_is_stored(base, updates, scaled, tmp_path, case):
    stored, expected = SCALES[case]
    tensors = peft_names({"unet": {module: (a, b, 1) for module, (a, b, _) in updates.items()}})
    metadata = stored if isinstance(stored, dict) else None
    if isinstance(stored, str):
        stems = [key.removesuffix(".lora_A.weight") for key in tensors if key.endswith("lora_A.weight")]
        tensors |= {f"{stem}{stored}": torch.tensor(8.0) for stem in (stems if stored.startswith(".") else [""])}
    lora = save_files({LORA_FILE: (tensors, metadata)}, tmp_path / "lora")
    if isinstance(expected, tuple) and isinstance(expected[0], str):
        message = refusal(f"{base('sd1')} + {lora}")
        for phrase in (str(lora), "could not be loaded", *expected):
            assert phrase in message, message
    else:
        scales = expected if isinstance(expected, tuple) else (expected, expected)
        assert same(epsilon(load_model(f"{base('sd1')} + {lora}")), scaled(*scales))


def test_a_files_settings_run_no_code(base, tmp_path, monkeypatch):
    """peft imports the module that a LoRA's settings name as their "megatron core"."""
    (tmp_path / "planted_module.py").write_text("raise SystemExit('run')")
    monkeypatch.syspath_prepend(tmp_path)
    metadata = settings(megatron_config={"a": 1}, megatron_core="planted_module", target_modules=["to_q"])
    (tensors,) = LAYERS(random_updates("sd1", {"unet": "to_q$"})).values()
    for planted in (True, False):
        save_files({LORA_FILE: (tensors, metadata if planted else settings())}, tmp_path / f"lora{planted}")
    actual = [epsilon(load_model(f"{base('sd1')} + {tmp_path / f'lora{planted}'}")) for planted in (True, False)]
    assert torch.equal(*actual)
    with pytest.raises((SystemExit, ValueError)):  # peft's newer releases refuse to
        tiny_pipelines.build("sd1").load_lora_weights(tmp_path / "loraTrue")
