"""Images become latents, and latents images, as in the pipelines."""

from __future__ import annotations

import diffusers
import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from support.families import CAPTIONS, EXPECTED, OF_LATENTS, SAMPLED, SIDE, base_of, captions_for, difference, random_images
from support.pipeline_runs import Unmoved, UnmovedDDIM, call_options, queries_of, recorded

from mia_hub import load_model


@pytest.mark.parametrize("name", [*OF_LATENTS, "sdxl-means"])
def test_latents_are_the_pipelines(model_of, pipeline_of, monkeypatch, name):
    model, pipeline, family = model_of(name), pipeline_of(name), EXPECTED[base_of(name)]
    images = random_images(SIDE[base_of(name)], 2)
    # Pipelines draw from the posterior; its mode is what we compare with.
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    if name.startswith(("sd", "flux")):
        other = diffusers.AutoPipelineForImage2Image.from_pipe(pipeline)
        flow = family.prediction == "flow_prediction"
        other.scheduler = Unmoved() if flow else UnmovedDDIM()
        other.set_progress_bar_config(disable=True)
        expected = queries_of(base_of(name), other, CAPTIONS["text"][:2], steps=2, image=images, strength=1.0)[0].x
    else:
        vae = pipeline.vqvae if name.startswith("ldm") else pipeline.vae
        x = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2).double() / 127.5 - 1
        with torch.no_grad():
            encoded = vae.encode(x)
        z = encoded.latent_dist.mode() if name in SAMPLED else encoded.latent if name == "sana" else encoded.latents
        expected = z * family.scaling
    actual = model.encode(images)
    assert actual.shape == (2, *model.info.sample_shape)
    assert difference(actual, expected) < 1e-5


@pytest.mark.parametrize("name", [*OF_LATENTS, "sdxl-means"])
def test_latents_are_decoded_as_the_pipeline_does(model_of, pipeline_of, monkeypatch, name):
    model, pipeline, family = model_of(name), pipeline_of(name), EXPECTED[base_of(name)]
    vae, decoded = pipeline.vqvae if name.startswith("ldm") else pipeline.vae, []
    decode = vae.decode
    monkeypatch.setattr(vae, "decode", lambda z, *args, **kwargs: decoded.append(z) or decode(z, *args, **kwargs))
    run = call_options(base_of(name), pipeline, captions_for(model, 2), 2, "np")
    with recorded(getattr(pipeline, "transformer", None) or pipeline.unet):
        images = torch.from_numpy(pipeline(**run).images).permute(0, 3, 1, 2)
    if "prompt" in run:
        latents = pipeline(**call_options(base_of(name), pipeline, captions_for(model, 2), 2, "latent")).images
        if name.startswith("flux"):
            latents = pipeline._unpack_latents(latents, SIDE[name], SIDE[name], pipeline.vae_scale_factor)
    else:
        latents = decoded[0] * family.scaling  # these pipelines don't return theirs
    actual = model.to_pixels(latents.double())
    assert images.std() > 0.1 and actual.min() >= 0 and actual.max() <= 1
    torch.testing.assert_close(actual.float(), images.float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", SAMPLED)
def test_a_sample_of_the_posterior_belongs_to_its_image(repo, model_of, pipeline_of, name):
    family, images = EXPECTED[name], random_images(SIDE[name], 24)
    model, mode = load_model(repo(name), device="cpu", dtype="float64", size=SIDE[name], latents="sample"), model_of(name).encode(images)
    assert model.info.settings["latents"] == "sample"
    sample = model.encode(images)
    assert torch.equal(model.encode(images), sample)
    torch.testing.assert_close(model.encode(images[::-1]).flip(0), sample, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model.encode(images[5]), sample[[5]], rtol=1e-9, atol=1e-9)

    vae = pipeline_of(name).vqvae if name.startswith("ldm") else pipeline_of(name).vae
    x = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2).double() / 127.5 - 1
    with torch.no_grad():
        spread = vae.encode(x).latent_dist.std * family.scaling
    draws = ((sample - mode) / spread).flatten(1)
    # At least 6144 of them should be standard normal.
    assert abs(draws.mean()) < 0.06 and abs(draws.std() - 1) < 0.05 and abs(draws.abs().mean() - (2 / np.pi) ** 0.5) < 0.05
    assert abs(torch.corrcoef(draws).fill_diagonal_(0)).max() < 0.4  # and no two images share them


@pytest.mark.parametrize("name", ["ldm-vq", "sana"])
def test_without_a_posterior_a_sample_is_the_encoding(repo, model_of, name):
    images = random_images(SIDE[name])
    assert torch.equal(
        load_model(repo(name), device="cpu", dtype="float64", latents="sample").encode(images), model_of(name).encode(images)
    )
