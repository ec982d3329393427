"""Captions and classes are checked, and encoded as the pipelines do it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from support.families import EXPECTED, TEXT, difference, epsilon
from support.model_folders import index
from support.pipeline_runs import call_options, recorded

from mia_hub import load_model
from mia_hub.errors import ModelError


@pytest.mark.parametrize("name", ["ddpm-class", "dit"])
@pytest.mark.parametrize("wrong", [-1, "banana", 10**6, 1.5, True, "1.0", "max"])
def test_a_wrong_class_is_refused(model_of, name, wrong):
    model, count = model_of(name), EXPECTED[name].classes
    wrong = count if wrong == "max" else wrong
    with pytest.raises(ModelError, match=f"takes classes 0 to {count - 1}; got {wrong!r}; give captions="):
        model.condition([0, wrong])
    with pytest.raises(ModelError, match=f"conditioned on classes; give captions=.*one class index from 0 to {count - 1} per image"):
        model.condition(None)


def test_classes_may_be_numbers_or_digits(model_of):
    for name in ("ddpm-class", "dit"):
        assert model_of(name).condition([0, "3", np.int64(4)]).tolist() == [0, 3, 4]


def test_no_class_is_the_one_that_guidance_uses(model_of, pipeline_of):
    model, pipeline = model_of("dit"), pipeline_of("dit")
    with recorded(pipeline.transformer) as queries:
        pipeline(**call_options("dit", pipeline, [3, 7], 2, "np") | {"guidance_scale": 4.0})
    x, output = queries[0]
    t = int(pipeline.scheduler.timesteps[0])
    assert difference(epsilon(model, t, x[2:], ["", None]), output[2:, :4]) < 1e-9
    with pytest.raises(ModelError, match="always needs a class, so give one for each image; give captions="):
        model_of("ddpm-class").condition([1, ""])


@pytest.mark.parametrize("name", TEXT)
def test_captions_that_are_cut_off_are_counted(model_of, name):
    model, longest = model_of(name), EXPECTED[name].longest
    fits, cut = " ".join(["cat"] * longest), " ".join(["cat"] * (longest + 1))

    def encoded(caption):
        return model.condition([caption])

    def same(one, other):
        return all(torch.equal(one[key], other[key]) for key in one)

    assert not same(encoded(fits), encoded(fits.removesuffix("cat") + "dog"))
    assert same(encoded(cut), encoded(cut.removesuffix("cat") + "dog"))
    assert model.truncated([fits, cut, "", "a cat", cut]) == 2


@pytest.mark.parametrize("name", TEXT)
def test_what_is_no_text_is_refused(model_of, name):
    for wrong in (None, [1, 2], ["a cat", None]):
        with pytest.raises(ModelError, match=r"is conditioned on text; give captions=\[…\], one per image"):
            model_of(name).condition(wrong)


@pytest.mark.parametrize("zeros", [True, False])
def test_the_empty_caption_of_sdxl_is_what_guidance_uses(copied, zeros):
    """Zeros where it was trained so, else the encoding of the empty text, as its pipeline makes them for classifier-free guidance."""
    folder = copied("sdxl", index(force_zeros_for_empty_prompt=zeros))
    model = load_model(folder, device="cpu", dtype="float64")
    pipeline = DiffusionPipeline.from_pretrained(folder, dtype=torch.float64)
    text, empty, pooled, empty_pooled = pipeline.encode_prompt("a red cat", do_classifier_free_guidance=True)
    actual = model.condition(["a red cat", ""])
    assert bool(empty.any()) is not zeros
    for name, expected in {"prompt_embeds": torch.cat([text, empty]), "pooled": torch.cat([pooled, empty_pooled])}.items():
        torch.testing.assert_close(actual[name], expected, rtol=1e-9, atol=1e-9)
