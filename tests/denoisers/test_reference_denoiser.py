"""Reference denoisers: trained, resumed as if nothing had happened, loaded, and taken as a base."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.blobs import blobs
from support.command_line import run
from support.known_blobs import folder_of
from support.tiny_pipelines import save

import mia_hub
from mia_hub.denoisers import run as run_module
from mia_hub.denoisers.reference_denoiser import train_reference
from mia_hub.denoisers.run import CHECKPOINT
from mia_hub.errors import ModelError, SplitError
from mia_hub.images.sources import as_images
from mia_hub.splits.training_images import training_ids

IMAGES = blobs(40, 3, side=8)
QUIET = {"progress": False, "device": "cpu"}


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """A checkpoint every three steps, and small batches."""
    monkeypatch.setenv("MIA_HUB_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("mia_hub.denoisers.reference_denoiser.Pace", lambda **own: run_module.Pace(check_every=3, batch=8, warmup=2, **own))


def weights(folder):
    return load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")


@pytest.mark.slow
def test_it_learns_and_is_loaded_as_a_base_of_the_same_space(tiny_pixel_repo, tmp_path):
    model, losses = str(tiny_pixel_repo()), []
    folder = train_reference(IMAGES, model, tmp_path / "out", steps=90, on_check=lambda step, loss: losses.append(loss), **QUIET)
    assert min(losses) < 0.8 * losses[0]
    based = mia_hub.load_model(model, device="cpu", base=str(folder))
    base = based.base
    assert base.info.sample_shape == based.info.sample_shape and base.info.prediction_type == "epsilon"
    np.testing.assert_allclose(base.schedule.signals, based.schedule.signals, rtol=1e-5)
    assert sum(each.numel() for each in base.network.parameters()) > 250_000 or base.info.sample_shape[1] < 16
    assert training_ids(base) == {image.id for image in as_images(IMAGES)}
    table = mia_hub.get_attack("sima-b", timesteps=(100,)).fit(based, blobs(24, 5, side=8), progress=False)
    assert table.score(based, blobs(3, 6, side=8), progress=False).model["base"]["id"] == str(folder)
    with pytest.raises(SplitError, match="was trained on 40 of the non-members"):
        mia_hub.check_image(blobs(1, 6, side=8)[0], based, "sima-b", nonmembers=IMAGES, keep=False, progress=False)


def test_an_interrupted_run_resumes_to_the_same_weights(tiny_pixel_repo, tmp_path):
    model = str(tiny_pixel_repo())
    whole = train_reference(IMAGES, model, tmp_path / "whole", steps=9, **QUIET)

    def interrupt(step, loss):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_reference(IMAGES, model, tmp_path / "parts", steps=9, on_check=interrupt, **QUIET)
    seen = []
    parts = train_reference(IMAGES, model, tmp_path / "parts", steps=9, on_check=lambda step, loss: seen.append(step), **QUIET)
    assert seen == [6, 9]
    assert all(torch.equal(value, weights(parts)[name]) for name, value in weights(whole).items())
    train_reference(IMAGES, model, tmp_path / "parts", steps=9, on_check=interrupt, **QUIET)  # nothing is left to do


def test_the_best_weights_are_kept(tiny_pixel_repo, tmp_path):
    losses = {}
    folder = train_reference(IMAGES, str(tiny_pixel_repo()), tmp_path / "out", steps=12, on_check=losses.__setitem__, **QUIET)
    stored = load_file(folder / CHECKPOINT)
    kept = weights(folder)
    assert all(torch.equal(stored[f"best.{name}"], value) for name, value in kept.items())
    assert min(losses, key=losses.__getitem__) == 12 or not all(torch.equal(stored[f"average.{name}"], kept[name]) for name in kept)


def test_of_a_model_on_latents_it_has_the_autoencoder(tmp_path):
    model = mia_hub.load_model(str(save("sd1", tmp_path / "sd1")), device="cpu")
    images = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)
    folder = train_reference(images, model, tmp_path / "out", steps=3, progress=False)
    base = mia_hub.load_model(model, base=str(folder)).base
    assert base.info.family == "latent" and base.info.sample_shape == model.info.sample_shape
    assert torch.equal(base.encode(images[:2]), model.encode(images[:2]))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda call, folder: call(IMAGES[:5]), "5 different images are too few"),
        (lambda call, folder: call(np.repeat(IMAGES[:5], 10, axis=0)), "5 different images are too few"),
        (lambda call, folder: call(IMAGES, steps=0), "steps"),
        (lambda call, folder: ((folder / "thesis.txt").write_text("x"), call(IMAGES)), "holds something other than a reference denoiser"),
        (lambda call, folder: (call(IMAGES, seed=1), call(IMAGES)), "the checkpoint of another run"),
        (lambda call, folder: (call(IMAGES), (folder / CHECKPOINT).write_bytes(b"x" * 99), call(IMAGES)), "is damaged"),
    ],
)
def test_refusals(tiny_pixel_repo, tmp_path, change, says):
    model = str(tiny_pixel_repo())
    with pytest.raises(ModelError, match=says):
        change(lambda images, **options: train_reference(images, model, tmp_path, **{"steps": 3} | QUIET | options), tmp_path)


def test_a_flow_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(ModelError, match="A reference denoiser can't be trained for"):
        train_reference(IMAGES, str(save("sd3", tmp_path / "sd3")), tmp_path / "out", **QUIET)
    assert not (tmp_path / "out").exists()


def test_the_command_prints_the_folder_and_finds_it_again(capsys, tiny_pixel_repo, tmp_path):
    command = [
        "train-reference",
        "--images",
        folder_of(IMAGES, tmp_path / "images"),
        "--like",
        tiny_pixel_repo(),
        "--steps",
        "3",
        "--quiet",
    ]
    status, out, err = run(capsys, *command)
    folder = out.strip()
    assert status == 0 and f"--base {folder}" in err and folder.startswith(str(tmp_path / "home"))
    assert json.loads((tmp_path / "home" / "denoisers" / folder.rpartition("/")[2] / "training.json").read_text())["members"] == 40
    assert run(capsys, *command)[:2] == (0, out)
