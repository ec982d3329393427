"""The classifier of maps: any size, seeded, and without traces in the global random state."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mia_hub.attacks.map_classifier import fit_map_classifier
from mia_hub.metrics.roc import auc


def maps(channels=1, side=8, n=60, seed=0):
    """Maps of members (label 1), and of others, which are larger."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    values = np.abs(rng.standard_normal((n, channels, side, side))) * np.where(labels, 0.5, 1.5)[:, None, None, None]
    return values.astype(np.float32), labels


@pytest.mark.parametrize(("channels", "side"), [(1, 4), (4, 5), (1, 33)])
def test_maps_of_any_size_and_channels_are_told_apart_higher_for_members(channels, side):
    values, labels = maps(channels, side, n=32 if side < 33 else 16)
    scores = fit_map_classifier(values, labels, 0)(maps(channels, side, n=8, seed=1)[0])
    assert scores.shape == (8, 1) and scores.dtype == np.float64
    assert auc(scores[:, 0], np.arange(8) % 2) == 1.0


def test_fitting_is_seeded_leaves_random_state_alone_and_needs_no_gradients_of_the_caller():
    values, labels = maps()
    values[:, 0, 0, 0] = 0
    constant = np.concatenate([values, np.full_like(values, 3)], axis=1)  # a channel without scale
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = fit_map_classifier(constant, labels, 5)(constant)
    torch.rand(3), np.random.rand(3)
    after = torch.get_rng_state(), np.random.get_state()[1].copy()
    with torch.inference_mode():
        second = fit_map_classifier(constant, labels, 5)(constant)
    with torch.no_grad():
        other = fit_map_classifier(constant, labels, 6)(constant)
        assert not torch.is_grad_enabled()
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)
    assert torch.equal(after[0], torch.get_rng_state()) and (after[1] == np.random.get_state()[1]).all()
    torch.set_rng_state(before[0])
    fit_map_classifier(values, labels, 5)
    assert torch.equal(before[0], torch.get_rng_state())


def test_a_seed_of_any_size_is_taken():
    values, labels = maps(n=20)
    assert np.isfinite(fit_map_classifier(values, labels, 2**80 + 1)(values)).all()
