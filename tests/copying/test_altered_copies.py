"""Altered copies of real training images, among real images that were never used: which of them are found (docs/copies.md)."""

from __future__ import annotations

import numpy as np
import pytest

import mia_hub
from mia_hub.images.treatments import treated

COPIES, FRESH = 20, 180
# By embedder, how many of 20 copies are found: (treatment, at least, at most).
EXPECTED = {
    "pixels": [
        ("JPEG, quality 50", 15, 20),
        ("noise, 4 grey levels", 15, 20),
        ("brightness × 0.9", 15, 20),
        ("shifted right by 1 pixel", 0, 5),
        ("mirrored", 0, 6),
        ("cropped and resized", 0, 6),
    ],
    "features": [
        ("JPEG, quality 50", 15, 20),
        ("noise, 4 grey levels", 15, 20),
        ("brightness × 0.9", 15, 20),
        ("shifted right by 1 pixel", 1, 12),
        ("mirrored", 0, 6),
        ("cropped and resized", 0, 6),
    ],
}


def found(split, treatment, embedder):
    members, nonmembers = (list(images) for images in (split.members, split.nonmembers))
    fresh, null = nonmembers[:FRESH], nonmembers[FRESH:]
    copies = [treated(treatment, np.asarray(image.to_pil())) for image in members[:COPIES]]
    report = mia_hub.find_copies(
        training=members, nonmembers=null, generated=[*copies, *(image.pixels for image in fresh)], embedder=embedder, progress=False
    )
    called = {pair.rows[0] for pair in report.pairs if pair.is_copy}
    right = {pair.rows[0] for pair in report.pairs if pair.is_copy and pair.rows[0] == pair.rows[1]}
    return report, len(right), len(called - set(range(COPIES)))


@pytest.mark.slow
@pytest.mark.parametrize("embedder", EXPECTED)
def test_altered_copies_of_real_images(embedder):
    split = mia_hub.load_split("demo")
    for treatment, least, most in EXPECTED[embedder]:
        report, right, wrong = found(split, treatment, embedder)
        print(f"{embedder}, {treatment}: {right} of {COPIES} copies found, {wrong} of {FRESH} others called copies")
        assert report.control.fits
        assert least <= right <= most and wrong <= 3, treatment
