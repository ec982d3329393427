"""GSA: gradient norms as backward gives them, what a classifier learns of them, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.attack_runs import ALPHAS, assert_chance, drawn, scores
from torch import nn

from mia_hub.attacks import get_attack
from mia_hub.errors import AttackError, ModelError
from mia_hub.images.sources import as_images
from mia_hub.metrics.roc import auc
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.splits.partition import calibration_part

STEPS = (50, 350, 650)


class Memoriser(nn.Module):
    """A small network of 8x8 images that learns a few of them in part within a second."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Linear(64 + 3, 96), nn.GroupNorm(4, 96)
        self.second, self.last = nn.Linear(96, 96), nn.Linear(96, 64)
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, x, t):
        level = ALPHAS.to(x)[t].sqrt()[:, None]
        hidden = self.first(torch.cat([x.flatten(1), level, 1 - level, (1 - level**2).sqrt()], dim=1))
        hidden = torch.relu(self.second(torch.relu(self.norm(hidden))))
        return self.last(hidden).reshape(x.shape)


@pytest.fixture(scope="module")
def memoriser():
    """A network trained on the first 60 of 180 images of noise; the images."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (180, 8, 8), generator=generator, dtype=torch.uint8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Memoriser()
    x0 = images[:60, None].float() / 255 * 2 - 1
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(100):
        rows, t = torch.randint(0, 60, (64,), generator=generator), torch.randint(0, 1000, (64,), generator=generator)
        e, a = torch.randn(64, 1, 8, 8, generator=generator), ALPHAS.float()[t][:, None, None, None]
        loss = (e - network(a.sqrt() * x0[rows] + (1 - a).sqrt() * e, t)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return wrap_denoiser(network.requires_grad_(False), ALPHAS, sample_shape=(1, 8, 8), name="memoriser"), images.numpy()


class Convolutions(nn.Module):
    """Every kind of layer that a UNet has, in float64."""

    def __init__(self):
        super().__init__()
        self.enter, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.GroupNorm(2, 8)
        self.attend, self.leave = nn.MultiheadAttention(8, 2, batch_first=True), nn.Conv2d(8, 1, 3, padding=1)
        self.unused = nn.Parameter(torch.ones(3))
        self.double()

    def forward(self, x, t):
        hidden = nn.functional.silu(self.norm(self.enter(x)), inplace=True) + (t[:, None, None, None] / 1000)
        rows = hidden.flatten(2).transpose(1, 2)
        mixed = self.attend(rows, rows, rows, need_weights=False)[0].transpose(1, 2).reshape(hidden.shape)
        return self.leave(hidden + mixed)


@pytest.mark.parametrize("name", ["gsa1", "gsa2"])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_gradient_norms_are_those_of_backward(name, batch_size):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Convolutions()
    model = wrap_denoiser(network, ALPHAS, sample_shape=(1, 8, 8))
    images = np.random.default_rng(8).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    steps = (50, 350, 650, 950)
    wanted = [True] * 4 + [False] * (len(list(network.parameters())) - 4)
    for parameter, wants in zip(network.parameters(), wanted):
        parameter.requires_grad_(wants)
    found = get_attack(name, timesteps=steps).observe(model, images, batch_size=batch_size, seed=2, progress=False)
    # What was frozen stays frozen, and nothing is left behind.
    assert [parameter.requires_grad for parameter in network.parameters()] == wanted
    assert all(parameter.grad is None for parameter in network.parameters())
    assert found.queries == 12
    network.requires_grad_(True)
    for i, image in enumerate(as_images(images)):
        losses = []
        for t in steps:
            _, e, x_t = drawn(image, t, seed=2)
            losses.append((e - network(x_t, torch.tensor([t]))).square().mean())
        expected = []
        for loss in losses if name == "gsa2" else [sum(losses) / len(losses)]:
            network.zero_grad()
            loss.backward()
            expected.append([0.0 if p.grad is None else p.grad.square().sum().sqrt().item() for p in network.parameters()])
        np.testing.assert_allclose(found.values[i], np.mean(expected, axis=0), rtol=1e-9)
    assert found.values[:, 0].tolist() == [0.0] * 3 and found.values[:, 1:].min() > 0  # the unused parameter comes first


@pytest.mark.parametrize("name", ["gsa1", "gsa2"])
def test_gradients_tell_what_was_memorised_and_nothing_under_permuted_labels(name, memoriser):
    model, images = memoriser
    labels = np.repeat([1, 0], [60, 120])
    one = get_attack(name, timesteps=STEPS)
    seen = one.observe(model, images, progress=False)
    scores = one.conclude(seen.values, seen.ids, labels, 0)
    judged = ~calibration_part(seen.ids, labels)
    assert scores.shape == (180, 1)
    assert auc(scores[judged, 0], labels[judged]) > 0.8
    assert auc(scores[~judged, 0], labels[~judged]) > 0.8
    # Log-odds, and no hard labels.
    assert len(np.unique(scores)) > 100 and scores.min() < 0 < scores.max()
    permuted = np.random.default_rng(0).permutation(labels)
    assert_chance(one.conclude(seen.values, seen.ids, permuted, 0)[:, 0], permuted)


def test_gradients_do_not_depend_on_batches_or_order(memoriser):
    model, images = memoriser
    images, labels = images[30:90], np.repeat([1, 0], 30)
    options = {"timesteps": STEPS[:2]}
    whole = scores("gsa1", model, images, is_member=labels, **options)
    np.testing.assert_allclose(scores("gsa1", model, images, is_member=labels, batch_size=17, **options), whole, rtol=1e-5)
    np.testing.assert_allclose(scores("gsa1", model, images[::-1], is_member=labels[::-1], **options)[::-1], whole, rtol=1e-5)


def test_a_fitted_gsa_scores_others_and_refuses_what_it_was_fitted_on(memoriser):
    model, images = memoriser
    part = np.r_[0:30, 60:120]
    fitted = get_attack("gsa1", timesteps=STEPS).fit(model, images[part], np.repeat([1, 0], [30, 60]), progress=False)
    rest = np.setdiff1d(np.arange(180), part)
    table = fitted.score(model, images[rest], progress=False)
    assert auc(table.scores[:, 0], (rest < 60).astype(int)) > 0.8
    with pytest.raises(AttackError, match="was fitted on"):
        fitted.score(model, images[29:31], progress=False)


def test_gsa_runs_on_a_diffusers_network(tiny_pixel_repo):
    from mia_hub.models.loading import load_model

    model = load_model(tiny_pixel_repo(size=8), device="cpu")
    images = np.random.default_rng(9).integers(0, 256, (2, 8, 8), dtype=np.uint8)
    found = get_attack("gsa1", timesteps=(100, 600)).observe(model, images, progress=False)
    assert found.values.shape == (2, len(list(model.network.parameters())))
    assert found.queries == 4 and (found.values > 0).mean() > 0.9


def test_gsa_refuses_models_without_weights_to_differentiate_by():
    images, labels = np.zeros((40, 8, 8), np.uint8), np.repeat([1, 0], 20)

    def never(x, t):
        raise AssertionError("the model was queried")

    class Weightless(nn.Module):
        forward = staticmethod(never)

    class Closed(Convolutions):
        @torch.no_grad()
        def forward(self, x, t):
            return super().forward(x, t)

    def score(fn, labels=labels):
        return scores("gsa1", wrap_denoiser(fn, ALPHAS, sample_shape=(1, 8, 8)), images, is_member=labels)

    for fn, error, says in (
        (never, AttackError, "plain function without any"),
        (Weightless(), AttackError, "has none"),
        (Closed(), ModelError, "switches gradients off"),
    ):
        with pytest.raises(error, match=says):
            score(fn)
    with pytest.raises(AttackError, match="fitted on known members and non-members"):
        score(Convolutions(), None)
