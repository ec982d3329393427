"""The study of SimA's theory: its page is what its numbers say, and its measures give the known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mia_hub.models.exact import training_set_denoiser
from mia_hub.ui.how.plane import members_and_others
from studies import theory
from studies.local_mean import cosine, degrees, kernel_width, local_mean, predict_flat
from studies.page import page_of, read_results

TIMESTEPS = (0, 60, 300, 999)


@pytest.fixture(scope="module")
def plane():
    """Members, held-out points, and the exact denoiser of the members."""
    members, others = map(torch.from_numpy, members_and_others(12, 30, seed=5))
    return members, others, training_set_denoiser(members[:, None, None])


def test_page_and_figures_are_what_the_numbers_give():
    for path, text in page_of(theory.NAME, theory.render).items():
        assert path.read_text(encoding="utf-8") == text, path


def test_the_scaled_input_points_to_the_local_mean_exactly(plane):
    members, others, model = plane
    for t in TIMESTEPS:
        assert theory.identity_error(model, torch.cat([members, others]), members, t) < 1e-10
        # It is no identity of just any samples.
        assert theory.identity_error(model, others, others, t) > 1e-4


def test_a_single_sample_is_the_local_mean_of_everywhere(plane):
    members, others, _ = plane
    alone = members[:1]
    model = training_set_denoiser(alone[:, None, None])
    for t in TIMESTEPS:
        mean, samples = local_mean(others, alone, kernel_width(model, t))
        torch.testing.assert_close(mean, alone.expand_as(mean), rtol=0, atol=1e-12)
        torch.testing.assert_close(samples, torch.ones(len(others), dtype=torch.float64))
        # What is left of the norm at a member, where the clean input is fed: ‖x‖·(1-√ᾱ)/√(1-ᾱ).
        signal, noise = model.schedule.signals[t], model.schedule.noises[t]
        torch.testing.assert_close(predict_flat(model, alone, t), alone * (1 - signal) / noise, rtol=1e-9, atol=1e-12)


def test_the_kernel_counts_samples_by_their_nearness():
    samples = torch.tensor([[-1.0, 0], [1, 0]], dtype=torch.float64)
    mean, count = local_mean(torch.tensor([[0.0, 3], [0.5, 0]], dtype=torch.float64), samples, width=0.5)
    # Between the two both count; at (½, 0) their weights are as 1 to exp(-(1.5² - 0.5²)/(2·0.5²)) = exp(-4).
    share = 1 / (1 + np.exp(-4))
    np.testing.assert_allclose(mean, [[0, 0], [2 * share - 1, 0]], atol=1e-12)
    np.testing.assert_allclose(count, [2, 1 / (share**2 + (1 - share) ** 2)])


def test_at_the_first_timestep_the_clean_input_points_to_the_nearest_member(plane):
    members, others, model = plane
    found = theory.compare_with_theory(model, others, members, 0)
    assert found["angle"].max() < 1 and (found["ratio"] - 1).abs().max() < 1e-2 and found["samples"].median() < 1.01
    late = theory.compare_with_theory(model, others, members, 999)
    assert late["ratio"].median() > 50 and late["samples"].min() > 11.9


def test_no_direction_and_too_few_values_are_said_to_be_undefined():
    ways = torch.tensor([[0.0, 0], [0, 2], [-3, 0]], dtype=torch.float64)
    angles = degrees(cosine(torch.tensor([[1.0, 0]], dtype=torch.float64).expand(3, 2), ways))
    np.testing.assert_allclose(angles, [np.nan, 90, 180])
    assert theory.bootstrap([1.0, np.nan, np.inf, 2.0]) is None
    value, low, high = theory.bootstrap([1.0, 2.0, 3.0, np.nan])
    assert low < value == 2 < high


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    found = [theory.bootstrap(rng.normal(size=100)) for _ in range(200)]
    assert 0.89 < np.mean([low < 0 < high for _, low, high in found]) < 0.99


def test_the_numbers_that_the_page_is_written_about_are_there():
    found = read_results(theory.NAME)
    assert [row["t"] for row in found["images"]] == [row["t"] for row in found["plane"]] == list(theory.TIMESTEPS)
    assert all(row["identity"] < 1e-10 for row in found["images"] + found["plane"])
    for row in found["images"] + found["plane"]:
        parts = [row, row.get("members", {}), row.get("held_out", {})]
        estimates = [part for some in parts for part in some.values() if isinstance(part, list)]
        assert all(low <= value <= high for value, low, high in estimates), row["t"]
