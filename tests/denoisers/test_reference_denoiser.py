"""Reference denoisers: trained, resumed as if nothing had happened, loaded, and taken as a base."""

from __future__ import annotations

import copy
import json
from types import SimpleNamespace

import diffusers
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
from mia_hub.models.schedule import NoiseSchedule
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


FLOWS = ("sd3", "flux-dev", "flux-schnell", "sana")


@pytest.fixture(scope="module")
def flow(tmp_path_factory):
    """``flow(name) -> (model, base)``: a tiny model of flow matching, given a reference denoiser of three steps."""
    made = {}

    def make(name):
        if name not in made:
            root = tmp_path_factory.mktemp(name)
            model = mia_hub.load_model(str(save(name, root / "model")), device="cpu")
            folder = train_reference(COLOURED, model, root / "reference", steps=3, progress=False)
            made[name] = mia_hub.load_model(model, base=str(folder)), folder
        return made[name]

    return make


COLOURED = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * name.startswith("flux")) for name in FLOWS])
def test_of_a_flow_it_has_the_flow_and_the_latents(flow, name):
    based, folder = flow(name)
    base = based.base
    assert (base.info.family, base.info.prediction_type) == ("latent", "flow_prediction")
    assert base.info.sample_shape == based.info.sample_shape and base.info.num_train_timesteps == based.info.num_train_timesteps
    assert torch.equal(base.schedule.signals, based.schedule.signals) and torch.equal(base.schedule.noises, based.schedule.noises)
    assert torch.equal(base.encode(COLOURED[:2]), based.encode(COLOURED[:2]))
    index = json.loads((folder / "model_index.json").read_text())
    assert index["scheduler"] == ["diffusers", "FlowMatchEulerDiscreteScheduler"]


def test_of_a_flow_it_predicts_the_noise_that_its_velocity_implies(flow):
    """Slowly, from the files alone: σ and the network's time are those of diffusers' scheduler, and ε = x_σ + (1-σ)v."""
    based, folder = flow("sd3")
    network = diffusers.UNet2DModel.from_pretrained(folder / "unet")
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler")
    x = torch.randn(1, *based.info.sample_shape, generator=torch.Generator().manual_seed(0))
    for t in (0, 100, 500, 999):
        row = len(scheduler.timesteps) - 1 - t
        sigma, time = scheduler.sigmas[row], scheduler.timesteps[row]
        with torch.no_grad():
            velocity = network(x, time).sample
            predicted = based.base.predict_noise(x, torch.tensor([t]))
        assert float(time) == t + 1
        torch.testing.assert_close(predicted, x + (1 - sigma) * velocity, rtol=1e-4, atol=1e-5)


class GaussianDenoiser(torch.nn.Module):
    """The best output for x0 ~ N(0, s²), times a weight of 1 that isn't trained: E[e - x0 | x_σ], or E[e | x_t]."""

    def __init__(self, variance, schedule, flow):
        super().__init__()
        self.weight, self.variance, self.schedule, self.flow = torch.nn.Parameter(torch.ones(())), variance, schedule, flow

    def factors(self, t):
        a, b = self.schedule.signals[t], self.schedule.noises[t]
        covariance, variance = (b - a * self.variance if self.flow else b), a**2 * self.variance + b**2
        target = 1 + self.variance if self.flow else torch.ones(())
        return covariance / variance, target - covariance**2 / variance

    def forward(self, x, time):
        t = time.round().long() - 1 if self.flow else time
        return SimpleNamespace(sample=self.weight * self.factors(t)[0].to(x).reshape(-1, 1, 1, 1) * x)


@pytest.mark.parametrize("flow", [True, False])
def test_the_loss_of_the_best_denoiser_of_a_gaussian_is_the_variance_that_remains(tmp_path, flow):
    """Anything wrong in the target, the noise level or the network's time raises it."""
    variance, schedule = 0.25, NoiseSchedule.rectified_flow(20) if flow else NoiseSchedule.from_alphas_cumprod(np.linspace(0.99, 0.01, 20))
    x0 = variance**0.5 * torch.randn(8000, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    denoiser, losses = GaussianDenoiser(variance, schedule, flow), []
    pace = run_module.Pace(steps=1, learning_rate=0.0, check_every=1)
    training = run_module.DenoiserTraining(tmp_path, denoiser, schedule, flow, x0, pace, "identity", torch.device("cpu"))
    training.run(progress=False, on_check=lambda step, loss: losses.append(loss))
    expected = float(denoiser.factors(torch.arange(20))[1].mean())
    assert losses[0] == pytest.approx(expected, rel=0.02)
    denoiser.weight.data.fill_(0.9)
    training.step = 0
    training._average["weight"] = denoiser.weight.detach().clone()
    training.run(progress=False, on_check=lambda step, loss: losses.append(loss))
    assert losses[1] > losses[0]


@pytest.mark.slow
def test_on_a_flow_it_learns_and_attacks_given_it_run_to_the_end(tmp_path):
    model, losses = mia_hub.load_model(str(save("sd3", tmp_path / "sd3")), device="cpu"), []
    images = blobs(60, 3, side=16)
    folder = train_reference(images, model, tmp_path / "out", steps=60, progress=False, on_check=lambda step, loss: losses.append(loss))
    assert min(losses) < 0.9 * losses[0]
    based = mia_hub.load_model(model, base=str(folder))
    for name in ("sima-b", "loss-b", "sima-lpb"):
        attack = mia_hub.get_attack(name, timesteps=(100,))
        split = mia_hub.make_split(blobs(24, 5, side=16), blobs(24, 6, side=16))
        report = mia_hub.audit(based, attack, split, shift_check=False, progress=False, fprs=[0.2])
        assert report.model["base"]["id"] == str(folder) and 0 <= report.auc.value <= 1
    with pytest.raises(SplitError, match="was trained on 60 of the non-members"):
        mia_hub.check_image(blobs(1, 6, side=16)[0], based, "loss-b", nonmembers=images, keep=False, progress=False)


def test_a_flow_on_pixels_has_one_of_pixels(tiny_pixel_repo, tmp_path):
    model = str(tiny_pixel_repo(scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)))
    folder = train_reference(IMAGES, model, tmp_path / "out", steps=3, **QUIET)
    base = mia_hub.load_model(model, device="cpu", base=str(folder)).base
    assert (base.info.family, base.info.prediction_type) == ("pixel", "flow_prediction")


def test_a_model_of_latents_without_a_known_autoencoder_is_refused_before_anything_is_trained(flow, tmp_path):
    model = copy.copy(flow("sd3")[0])
    model.vae = torch.nn.Identity()
    with pytest.raises(ModelError, match=r"can't be trained for .* the kind VQModel or AutoencoderKL or AutoencoderDC"):
        train_reference(COLOURED, model, tmp_path / "out", progress=False)
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
    assert status == 0 and f"--base or --reference-model {folder}" in err and folder.startswith(str(tmp_path / "home"))
    assert json.loads((tmp_path / "home" / "denoisers" / folder.rpartition("/")[2] / "training.json").read_text())["members"] == 40
    assert run(capsys, *command)[:2] == (0, out)
