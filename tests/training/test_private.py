"""Training with differential privacy: the gradients that are clipped are those of single images, and the bounds on ε hold."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel

from studies.page import read_results
from training import train_private
from training.loop import Batch
from training.train_ddpm import SCHEDULER, noise_loss


@pytest.fixture
def opacus():
    if os.environ.get("CI"):
        import opacus  # noqa: F401  # there, a test that is skipped fails
    else:
        pytest.importorskip("opacus", reason='needs pip install "mia_hub[private]"')


def test_each_image_has_the_gradient_that_it_has_alone_and_a_step_is_their_clipped_sum_with_noise(opacus):
    torch.manual_seed(0)
    network, scheduler = UNet2DModel(**train_private.UNET), DDPMScheduler(**SCHEDULER)
    parameters = list(network.parameters())
    pixels, rows = torch.rand(3, 1, 8, 8) * 2 - 1, np.arange(3)

    def draws(step=0):
        return Batch(rows, step, torch.Generator().manual_seed(7), torch.device("cpu"))

    noise, t = (batch := draws()).randn(*pixels.shape), batch.timesteps(1000)
    alone = []
    for row in range(3):
        part = slice(row, row + 1)
        loss = torch.nn.functional.mse_loss(network(scheduler.add_noise(pixels[part], noise[part], t[part]), t[part]).sample, noise[part])
        alone.append(torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, parameters)]))
    clipped = sum(gradient * min(1, train_private.CLIPPING / float(gradient.norm())) for gradient in alone)

    sgd = torch.optim.SGD(parameters, lr=1.0)
    private, optimizer, facts = train_private._private(network, sgd, 600, 10, 3, 4.0, 1e-5, seed=5)
    noise_loss(private, scheduler, draws(), pixels).backward()
    each = torch.cat([parameter.grad_sample.flatten(1) for parameter in parameters], dim=1)
    torch.testing.assert_close(each, torch.stack(alone), rtol=1e-3, atol=1e-5)
    before = torch.cat([parameter.detach().flatten() for parameter in parameters])
    optimizer.step()
    moved = before - torch.cat([parameter.detach().flatten() for parameter in parameters])
    # Three images were expected, so that the sum is divided by three.
    added = 3 * moved - clipped
    assert float(added.std()) == pytest.approx(facts["noise multiplier"] * train_private.CLIPPING, rel=0.02)
    assert abs(float(added.mean())) < 5 * float(added.std()) / len(added) ** 0.5


@pytest.mark.slow
def test_canaries_refute_privacy_without_it_and_never_the_stated_epsilon(opacus, tmp_path):
    """The recipe of the study at its own size, whose bound is 1.1; another processor may train another network."""
    import mia_hub

    reports = {}
    for name, options in {"plain": (), "private": ("--steps", "300", "--epsilon", "2")}.items():
        train_private.main(["--out", str(tmp_path / name), *options])
        attack, split = mia_hub.get_attack("sima", timesteps=[20, 50, 100, 200]), str(tmp_path / name / "split-canaries")
        model = mia_hub.load_model(str(tmp_path / name / "model"))
        reports[name] = mia_hub.audit(model, attack, split, epsilon="one-run", shift_check=False, progress=False)
    assert reports["plain"].auc.low > 0.6 and reports["plain"].epsilon.bounds[0].bound > 0.2
    assert all(bound.bound <= 2 for bound in reports["private"].epsilon.bounds)


def test_the_stored_bounds_are_above_one_without_privacy_and_never_above_a_stated_epsilon():
    models = {model["name"]: model for model in read_results("private_training")["models"]}
    highest = {
        name: max(side["bounds"][method] for side in model["sides"].values() for method in ("one-run", "one-run at δ", "gaussian"))
        for name, model in models.items()
    }
    assert models["not-private"]["sides"]["canaries"]["bounds"]["one-run at δ"] > 1 and models["not-private"]["facts"]["epsilon"] is None
    assert all(highest[name] <= models[name]["facts"]["epsilon"] for name in ("private-2", "private-8"))
