"""The classifier of maps: any size, seeded, and without traces in the global random state."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mia_hub.attacks.map_network import AUTHORS_RECIPE, OUR_RECIPE, fit_map_network
from mia_hub.metrics.roc import auc


def maps(channels=1, side=8, n=60, seed=0):
    """Maps of members (label 1), and of others, which are larger."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    values = np.abs(rng.standard_normal((n, channels, side, side))) * np.where(labels, 0.5, 1.5)[:, None, None, None]
    return values.astype(np.float32), labels


@pytest.mark.parametrize(
    ("recipe", "channels", "side"), [(OUR_RECIPE, 1, 4), (OUR_RECIPE, 4, 5), (OUR_RECIPE, 1, 33), (AUTHORS_RECIPE, 3, 8)]
)
def test_maps_of_any_size_and_channels_are_told_apart_higher_for_members(recipe, channels, side):
    values, labels = maps(channels, side, n=32 if side < 33 else 16)
    scores = fit_map_network(values, labels, 0, recipe)(maps(channels, side, n=8, seed=1)[0])
    assert scores.shape == (8, 1) and scores.dtype == np.float64
    assert auc(scores[:, 0], np.arange(8) % 2) == 1.0


def test_fitting_is_seeded_leaves_random_state_alone_and_needs_no_gradients_of_the_caller():
    values, labels = maps()
    values[:, 0, 0, 0] = 0
    constant = np.concatenate([values, np.full_like(values, 3)], axis=1)  # a channel without scale
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = fit_map_network(constant, labels, 5)(constant)
    torch.rand(3), np.random.rand(3)
    after = torch.get_rng_state(), np.random.get_state()[1].copy()
    with torch.inference_mode():
        second = fit_map_network(constant, labels, 5)(constant)
    with torch.no_grad():
        other = fit_map_network(constant, labels, 6)(constant)
        assert not torch.is_grad_enabled()
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)
    assert torch.equal(after[0], torch.get_rng_state()) and (after[1] == np.random.get_state()[1]).all()
    torch.set_rng_state(before[0])
    fit_map_network(values, labels, 5)
    assert torch.equal(before[0], torch.get_rng_state())


def test_a_seed_of_any_size_is_taken():
    values, labels = maps(n=20)
    assert np.isfinite(fit_map_network(values, labels, 2**80 + 1)(values)).all()


def test_the_authors_network_is_resnet_18():
    """He et al. 2016 (arXiv 1512.03385): 17 convolutions and a linear layer, besides the shortcuts that change the width.

    In the form for small images, ResNet-18 of 3 channels and 10 classes has 11,173,962 parameters; 9 classes fewer save 9·513.
    """
    network = AUTHORS_RECIPE.network(3)
    weights = [layer for layer in network.modules() if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear))]
    assert sum(layer.weight.shape[-1] == 3 for layer in weights) == 17 and len(weights) == 18 + 3
    assert sum(parameter.numel() for parameter in network.parameters()) == 11_173_962 - 9 * 513
    shapes = []
    for layer in network:
        layer.register_forward_hook(lambda layer, given, made: shapes.append(tuple(made.shape[1:])))
    network(torch.zeros(2, 3, 32, 32))
    assert shapes[10:12] == [(512, 4, 4), (512, 1, 1)] and shapes[-1] == (1,)
