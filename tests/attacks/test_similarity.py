"""Structural similarity: the formula window by window, and its known answers."""

from __future__ import annotations

import pytest
import torch
from support.reference import ssim as ssim_reference

from mia_hub.attacks.similarity import grey, structural_similarity


def images(height, width, seed=0, n=3):
    return torch.rand(n, 1, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("height", "width"), [(7, 7), (9, 8), (12, 7)])
def test_ssim_is_its_definition(height, width):
    x = images(height, width)
    y = 0.7 * x + 0.2 * images(height, width, seed=1)
    expected = [ssim_reference.ssim(a[0].tolist(), b[0].tolist()) for a, b in zip(x, y)]
    torch.testing.assert_close(structural_similarity(x, y), torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=0)


def test_equal_images_are_at_one_opposite_ones_below_zero_and_flat_ones_have_a_similarity():
    x = images(16, 16)
    assert structural_similarity(x, x).tolist() == pytest.approx([1, 1, 1])
    assert (structural_similarity(x, 1 - x) < 0).all()
    flat = torch.full((1, 1, 8, 8), 0.5)
    assert structural_similarity(flat, flat).item() == pytest.approx(1)
    assert structural_similarity(flat, flat / 2).isfinite().all()


def test_grey_is_the_luma():
    pixels = torch.stack([torch.full((2, 2), value) for value in (1.0, 0.5, 0.25)])[None]
    torch.testing.assert_close(grey(pixels), torch.full((1, 1, 2, 2), 0.299 + 0.587 / 2 + 0.114 / 4))
    assert torch.equal(grey(pixels[:, :1]), pixels[:, :1])
