"""Bases of models: given, read from a card, or refused before anything is scored with them."""

from __future__ import annotations

import copy

import pytest
import torch

import mia_hub
from mia_hub.errors import ModelError
from mia_hub.models.bases import base_available, base_captions, base_of, base_record, loaded_base
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import ddpm_alphas_cumprod
from mia_hub.models.origin import base_on_card


@pytest.fixture
def other(tiny_pixel_repo):
    """A base of the same architecture with other weights."""
    return tiny_pixel_repo(seed=1)


def card(folder, text):
    (folder / "README.md").write_text(text, encoding="utf-8")
    return folder


def fine_tune(make, base, front="base_model: {}\n"):
    return card(make(seed=2), f"---\nlicense: mit\n{front.format(base)}---\n# A fine-tune\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("---\nbase_model: google/ddpm-cifar10-32\n---\n", "google/ddpm-cifar10-32"),
        ("---\nbase_model:\n- google/ddpm-cifar10-32\n---\ntext", "google/ddpm-cifar10-32"),
        ("\ufeff---\r\nbase_model: a/b\r\n---\r\n", "a/b"),
        ("---\nbase_model: [a/b, c/d]\n---\n", None),
        ("---\nbase_model: ''\n---\n", None),
        ("---\nbase_model: 7\n---\n", None),
        ("---\nlicense: mit\n---\nbase_model: a/b\n", None),
        ("---\n- a\n- b\n---\n", None),
        ("---\nbase_model: !!python/object:os.system {}\n---\n", None),
        ("---\nbase_model: a/b\n", None),
        ("base_model: a/b\n", None),
        ("", None),
    ],
)
def test_base_on_a_card(text, expected):
    assert base_on_card(text) == expected


def test_a_base_that_is_given_leaves_the_model_as_it_was(tiny, other):
    plain = mia_hub.load_model(str(tiny), device="cpu")
    based = mia_hub.load_model(plain, base=str(other))
    assert loaded_base(plain) is None and not base_available(plain)
    assert based.network is plain.network and based.info == plain.info
    base = loaded_base(based)
    assert base is base_of(based) and base_available(based)
    assert (base.info.id, base.info.revision) == (str(other), mia_hub.load_model(str(other), device="cpu").info.revision)
    assert base_record(based) == {"id": str(other), "revision": base.info.revision, "precision": "float32"}
    assert loaded_base(mia_hub.load_model(str(tiny), device="cpu", base=base)) is base
    assert loaded_base(copy.deepcopy(based)) is not None


def test_the_base_is_loaded_as_the_model_was(tiny, other):
    model = mia_hub.load_model(str(tiny), device="cpu", dtype="float64", size=16, base=str(other))
    base = base_of(model)
    assert (base.dtype, base.info.sample_shape) == (torch.float64, (1, 16, 16))


@pytest.mark.parametrize("front", ["base_model: {}\n", "base_model:\n- {}\nbase_model_relation: finetune\n"])
def test_the_base_of_a_card_is_loaded_when_it_is_needed_and_not_before(tiny_pixel_repo, on_hub, loopback_hub, capfd, front):
    base = on_hub(tiny_pixel_repo(seed=1))
    tuned = on_hub(fine_tune(tiny_pixel_repo, base, front), f"{base}-tuned")
    model = mia_hub.load_model(tuned, device="cpu")
    assert base_available(model) and loaded_base(model) is None
    assert not loopback_hub.files_fetched(base)
    capfd.readouterr()
    found = base_of(model)
    assert found.info.id == base and base_of(model) is found
    assert f"Loading the base of {tuned}: {base}, which its card names as base_model." in capfd.readouterr().err


def test_a_fine_tuned_part_has_the_model_before_the_plus_as_base(tiny, other):
    model = mia_hub.load_model(f"{tiny} + {other / 'unet'}", device="cpu")
    base = base_of(model)
    assert base.info == mia_hub.load_model(str(tiny), device="cpu").info
    assert base.info.revision != model.info.revision


def test_a_card_on_the_hub_names_no_folder_of_this_machine(tiny_pixel_repo, on_hub, other):
    model = mia_hub.load_model(on_hub(fine_tune(tiny_pixel_repo, other)), device="cpu")
    assert not base_available(model)
    mine = mia_hub.load_model(str(fine_tune(tiny_pixel_repo, other)), device="cpu")
    assert base_of(mine).info.id == str(other)


def test_a_base_of_a_card_that_cannot_be_had_is_named_with_the_way_out(tiny_pixel_repo):
    model = mia_hub.load_model(str(fine_tune(tiny_pixel_repo, "nobody/nothing-here")), device="cpu")
    with pytest.raises(ModelError) as error:
        base_of(model)
    said = str(error.value)
    assert said.startswith(f"The base of {model.info.id}, nobody/nothing-here, which its card names as base_model, can't be loaded.")
    assert "base=" in said and "--base" in said


def test_a_gated_base_is_named_with_the_way_out(tiny_pixel_repo, on_hub, loopback_hub):
    base = on_hub(tiny_pixel_repo(seed=1), gated="manual")
    model = mia_hub.load_model(str(fine_tune(tiny_pixel_repo, base)), device="cpu")
    with pytest.raises(ModelError, match=r"(?s)can't be loaded.*(gated|licence|access).*base="):
        base_of(model)


def shifted_schedule():
    return ddpm_alphas_cumprod(1000, 1e-3, 0.2)


def zero(x, t):
    return torch.zeros_like(x)


UNFIT = {
    "another size": (lambda make, model: str(make(size=16, seed=1)), "takes images of the shape"),
    "other channels": (lambda make, model: str(make(channels=3)), "takes images of the shape"),
    "other steps": (
        lambda make, model: wrap_denoiser(zero, ddpm_alphas_cumprod(100), sample_shape=(1, 8, 8)),
        "number of timesteps of 100",
    ),
    "another schedule": (lambda make, model: wrap_denoiser(zero, shifted_schedule(), sample_shape=(1, 8, 8)), "noise schedule"),
    "itself": (lambda make, model: model, "that model itself"),
    "itself by name": (lambda make, model: model.info.id, "that model itself"),
    "classes": (lambda make, model: str(make(num_class_embeds=4)), "conditioned on what the model isn't"),
    "no model": (lambda make, model: model.network, "a name that load_model takes, or a DiffusionModel; got UNet2DModel"),
    "a number": (lambda make, model: 7, "got int"),
    "nothing of that name": (lambda make, model: "no such model", "There is no model 'no such model'"),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_what_cannot_be_a_base_is_refused(tiny_pixel_repo, tiny, kind):
    make, says = UNFIT[kind]
    model = mia_hub.load_model(str(tiny), device="cpu")
    with pytest.raises(ModelError, match=says) as error:
        mia_hub.load_model(model, base=make(tiny_pixel_repo, model))
    assert str(error.value)[-1] == "."


def test_without_a_base_the_message_says_how_to_give_one(tiny):
    with pytest.raises(ModelError, match=r"none is known\. Give base=… \(--base on the command line\)"):
        base_of(mia_hub.load_model(str(tiny), device="cpu"))


def test_captions_of_a_base(model_of):
    text, classes, plain = (model_of(name) for name in ("sd1", "dit", "ddpm"))
    assert base_captions(text, text, ["a cat"], 1) == ["a cat"]
    assert base_captions(text, plain, ["a cat"], 1) is None
    assert base_captions(plain, text, None, 2) == ["", ""]
    assert base_captions(classes, text, [3], 1) == [""]
