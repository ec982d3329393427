"""What was done to an image is seen and named, and rarely claimed of an image that nothing was done to."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from mia_hub.images.sources import as_images, open_image
from mia_hub.images.treatment_signs import COLUMNS, LONGEST_SIDE, jpeg_ghost, treatment_signs
from mia_hub.images.treatments import treated, with_full_contrast
from mia_hub.references.appearance import ImageAppearance, StoredAppearance, appearance_arrays
from mia_hub.references.demo_reference import demo_nonmembers, demo_reference
from mia_hub.references.treatment_check import BLURRED, COMPRESSED, NARROW, NOISY, TINTED, TreatmentCheck

N = 60
# Share of treated images whose treatment must be named, at least.
NAMED = {
    "JPEG, quality 95": (COMPRESSED, 0.9),
    "JPEG, quality 50": (COMPRESSED, 0.9),
    "noise, 4 grey levels": (NOISY, 0.6),
    "blurred, radius 0.5": (BLURRED, 0.4),
    "reduced to half and back": (BLURRED, 0.9),
    "contrast × 0.8": (NARROW, 0.9),
    "colour shifted": (TINTED, 0.9),
}


@pytest.fixture(scope="module")
def levels():
    images = demo_nonmembers()
    return [np.asarray(images[row].to_pil()) for row in range(0, 10 * N, 10)]


@pytest.mark.parametrize("name", NAMED)
def test_a_treatment_is_named(levels, name):
    check = demo_reference().appearance.treatment
    found = [check.differences(image) for image in as_images([treated(name, pixels) for pixels in levels])]
    expected, share = NAMED[name]
    assert np.mean([expected in names for names in found]) >= share


def test_untreated_images_are_rarely_called_treated(levels):
    check = demo_reference().appearance.treatment
    found = [check.differences(image) for image in as_images(levels)]
    assert np.mean([bool(names) for names in found]) <= 0.1


def test_with_few_reference_images_nothing_is_named(levels):
    signs = np.array([treatment_signs(image, 28, 28) for image in as_images(levels)])
    assert signs.shape == (N, COLUMNS) and np.isfinite(signs).all()
    assert TreatmentCheck(signs, (28, 28)).differences(as_images([treated("JPEG, quality 50", levels[0])])[0]) == ()


def test_a_ghost_lies_at_the_quality_of_the_file():
    """An image saved once changes less when saved at that quality again; one that never was has no such place."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:300, :400] / 400
    image = Image.fromarray((110 + 90 * np.sin(9 * x + 4 * y) + rng.normal(scale=8, size=x.shape)).clip(0, 255).astype(np.uint8))
    plain = jpeg_ghost(open_image(image))
    for quality in (50, 75, 90):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        assert jpeg_ghost(open_image(file)) > plain + 0.3
        # Of a larger image the middle counts, from a border between blocks on.
        part = open_image(file).pixels[16 : 16 + LONGEST_SIDE, 72 : 72 + LONGEST_SIDE]
        assert jpeg_ghost(open_image(part)) == jpeg_ghost(open_image(file))


def test_the_signs_of_a_reference_are_stored_and_may_be_missing(levels):
    images = as_images(levels)
    appearance = ImageAppearance(images, (1, 28, 28))
    arrays = appearance_arrays(appearance)
    ids = [image.id for image in images]
    stored = StoredAppearance.from_arrays(ids, arrays)
    assert np.array_equal(stored.treatment.signs, appearance.treatment.signs) and stored.treatment.size == (28, 28)
    del arrays["appearance.signs"]
    assert StoredAppearance.from_arrays(ids, arrays).treatment is None


def test_full_contrast():
    pixels = np.array([[50, 100], [150, 75]], np.uint8).repeat(8, 0).repeat(8, 1)
    image = as_images([pixels])[0]
    stretched = with_full_contrast(image).pixels[..., 0]
    assert (stretched.min(), stretched.max()) == (0, 255) and stretched[0, 8] == 128
    flat = as_images([np.full((16, 16), 7, np.uint8)])[0]
    assert with_full_contrast(flat) is flat
