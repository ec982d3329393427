"""The fixed table of treatments: what each does to pixels, and what none may do."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from mia_hub.errors import ImageError
from mia_hub.images.treatments import NOISE_LEVELS, TREATMENTS, UNTREATED, treated


def grey(side=28):
    y, x = np.mgrid[:side, :side] / side
    pixels = 120 + 100 * np.sin(5 * x + 2 * y**2) + np.random.default_rng(0).normal(scale=6, size=(side, side))
    return pixels.clip(0, 255).astype(np.uint8)


def colour(side=28):
    return np.stack([grey(side), grey(side).T, 255 - grey(side)], axis=2)


@pytest.mark.parametrize("image", [grey(), colour(), grey(64), grey()[:, :20]], ids=["grey", "colour", "large", "narrow"])
@pytest.mark.parametrize("name", TREATMENTS)
def test_every_treatment_gives_a_similar_image_that_differs(name, image):
    before = image.copy()
    copy = treated(name, image)
    assert np.array_equal(image, before) and copy.dtype == np.uint8 and copy.flags["C_CONTIGUOUS"]
    assert np.array_equal(copy, treated(name, image))  # also what is random is a function of the image
    assert copy.ndim == (3 if name == "colour shifted" else image.ndim)
    if name == UNTREATED:
        assert np.array_equal(copy, image)
        return
    assert copy.shape != image.shape or not np.array_equal(copy, image)
    back = np.asarray(Image.fromarray(copy).convert("L" if image.ndim == 2 else "RGB").resize(image.shape[1::-1], Image.Resampling.BOX))
    flipped = back[:, ::-1] if name == "mirrored" else back
    assert np.corrcoef(flipped.ravel().astype(float), image.ravel().astype(float))[0, 1] > (0.3 if "border" in name else 0.7)


def test_treatments_by_hand():
    image = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert treated("mirrored", image)[0].tolist() == [7, 6, 5, 4, 3, 2, 1, 0]
    assert treated("shifted right by 1 pixel", image)[0].tolist() == [0, 0, 1, 2, 3, 4, 5, 6]
    assert treated("shifted up and left by 1 pixel", image)[0].tolist() == [9, 10, 11, 12, 13, 14, 15, 15]
    assert treated("brightness × 0.9", image)[0].tolist() == [0, 1, 2, 3, 4, 4, 5, 6]  # 4.5 is rounded to even
    assert treated("contrast × 0.8", image)[0, 0] == round(31.5 * 0.2)
    assert treated("enlarged 4 times", image).shape == (32, 32) and treated("screenshot with a border", image).shape == (10, 10)
    assert (treated("screenshot with a border", image)[0] == 236).all()
    assert treated("colour shifted", image)[7, 7].tolist() == [67, 63, 58]
    for kind, name in (("JPEG", "JPEG, quality 50"), ("WEBP", "WebP, quality 80")):
        file = io.BytesIO()
        Image.fromarray(grey()).save(file, kind, quality=int(name[-2:]))
        assert np.array_equal(treated(name, grey()), np.asarray(Image.open(file).convert("L")))


def test_noise_has_the_stated_strength_and_belongs_to_the_image():
    image = np.full((200, 200), 128, np.uint8)
    difference = treated("noise, 4 grey levels", image).astype(float) - image
    assert abs(difference.std() - NOISE_LEVELS) < 0.1 and abs(difference.mean()) < 0.1
    other = np.full((200, 200), 129, np.uint8)
    assert abs(np.corrcoef(difference.ravel(), (treated("noise, 4 grey levels", other).astype(float) - other).ravel())[0, 1]) < 0.05


@pytest.mark.parametrize(
    ("name", "pixels", "says"),
    [
        ("sharpened", grey(), "no treatment 'sharpened'; choose one of: as it is; mirrored"),
        ("mirrored", grey() / 255, "float64"),
        ("mirrored", np.zeros((8, 8, 4), np.uint8), r"\[8, 8, 4\]"),
        ("mirrored", np.zeros(8, np.uint8), r"\[8\]"),
    ],
)
def test_refusals(name, pixels, says):
    with pytest.raises(ImageError, match=says):
        treated(name, pixels)
