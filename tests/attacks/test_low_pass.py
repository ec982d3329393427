"""The low-pass norm and the attack on copies: the definitions re-derived slowly, known answers, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from support.reference.low_pass import MOVES, lean, moved, observed

from mia_hub.attacks import get_attack
from mia_hub.attacks.conditional import neighbour
from mia_hub.attacks.copies import LEAN, autocontrast
from mia_hub.attacks.low_pass import LowPassNorm, low_pass
from mia_hub.errors import AttackError
from mia_hub.metrics.roc import auc
from mia_hub.models.exact import training_set_denoiser


@pytest.fixture(scope="module")
def memory():
    """An exact memory of the first 60 of 140 images, the images, and labels; grey values away from 0 and 1, so that contrast can grow."""
    images = 0.1 + 0.7 * torch.rand(140, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return training_set_denoiser(images[:60].double() * 2 - 1), images, np.repeat([1, 0], (60, 80))


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 5, 16), (4, 2, 3)])
def test_low_pass_is_a_gaussian_filter(shape):
    epsilon = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    expected = [[gaussian_filter(channel.double().numpy(), 0.8) for channel in image] for image in epsilon]
    np.testing.assert_allclose(low_pass(epsilon).numpy(), expected, atol=1e-14)
    constant = torch.ones(1, *shape)
    np.testing.assert_allclose(low_pass(constant).numpy(), constant.numpy(), rtol=1e-14)


def test_low_pass_observations_by_a_slow_reference(memory):
    model, images, _ = memory
    seen = get_attack("sima-lp", timesteps=(20, 60)).observe(model, images[58:62], progress=False)
    assert seen.queries == 4 * 2 * 5
    for row, image in zip(seen.values, images[58:62].numpy()):
        neighbours = [moved(image, *move) for move in MOVES.values()]
        expected = [observed(model, image, neighbours, t) for t in (20, 60)]
        np.testing.assert_allclose(row, expected, rtol=1e-9)
    plain = LowPassNorm(timesteps=(20, 60)).observe(model, images[58:62], progress=False).values
    np.testing.assert_allclose(np.log(plain), seen.values[..., 0], rtol=1e-12)


def test_candidates_by_a_slow_reference(memory):
    model, images, _ = memory
    seen = get_attack("sima-copies", timesteps=(20, 60), shifts=True).observe(model, images[58:62], progress=False)
    few = get_attack("sima-copies", timesteps=(20, 60)).observe(model, images[58:62], progress=False)
    assert few.queries == seen.queries and np.array_equal(few.values, seen.values[:, :, [0, 5, 6]])
    assert seen.queries == 4 * 2 * 15 and seen.values.shape == (4, 2, len(LEAN), 10)
    for row, image in zip(seen.values, images[58:62].numpy()):
        for j, t in enumerate((20, 60)):
            np.testing.assert_allclose(row[j], lean(model, image, t), rtol=1e-6)


def test_the_first_candidate_is_the_image_itself(memory):
    model, images, _ = memory
    plain, copies = (
        get_attack(name, timesteps=(20,)).observe(model, images[:5], progress=False).values for name in ("sima-lp", "sima-copies")
    )
    np.testing.assert_allclose(copies[:, :, 0], plain, rtol=1e-12)


def test_full_contrast():
    pixels = torch.tensor([[0.2, 0.4], [0.6, 0.3]])[None, None]
    torch.testing.assert_close(autocontrast(pixels)[0, 0], torch.tensor([[0, 0.5], [1, 0.25]]))
    flat = torch.full((1, 3, 2, 2), 0.4)
    assert torch.equal(autocontrast(flat), flat)
    both = torch.cat([autocontrast(pixels), pixels])
    torch.testing.assert_close(autocontrast(both)[0], autocontrast(both)[1])  # each image by itself


TREATED = {
    "as it is": lambda x: x,
    "mirrored": lambda x: x.flip(-1),
    "less contrast": lambda x: 0.1 + 0.6 * x,
    "shifted": lambda x: neighbour("shift-up", x),
}


@pytest.mark.parametrize("treatment", TREATED)
def test_copies_of_members_are_recognised(memory, treatment):
    """The exact memory answers only to what it was trained on: the plain attack misses a mirrored copy, the search finds it."""
    model, images, labels = memory
    stretched = autocontrast(images)
    model = training_set_denoiser(stretched[:60].double() * 2 - 1)
    altered = TREATED[treatment](stretched)
    attacks = {"plain": get_attack("sima-lp", timesteps=(20,)), "copies": get_attack("sima-copies", timesteps=(20,), shifts=True)}
    scores = {name: attack.score(model, altered, is_member=labels, progress=False) for name, attack in attacks.items()}
    found = {name: auc(table.scores[:, 0], labels) for name, table in scores.items()}
    assert found["copies"] > 0.9
    if treatment in ("mirrored", "shifted"):
        assert found["plain"] < 0.8


def test_other_neighbours_of_copies_are_refused():
    for given in (("complexity",), "auto", ("complexity", "mirror")):
        with pytest.raises(AttackError, match="choose sima-lp for other neighbours"):
            get_attack("sima-copies", given=given)
    with pytest.raises(AttackError, match="shifts must be True or False; got 'yes'"):
        get_attack("sima-copies", shifts="yes")
    assert get_attack("sima-lp", given=("complexity", "mirror")).queries_per_image == 2 * 5
