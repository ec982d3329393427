"""What a blind classifier sees of an image."""

import numpy as np
import pytest

from mia_hub.images.features import FEATURES, blind_features, blind_features_of
from mia_hub.images.sources import as_images

# Smallest, flat, upright, larger than the working copy, and so tall that Pillow scales it in another order.
SIZES = [(8, 8), (9, 8), (28, 28), (33, 47), (8, 300), (64, 1024), (700, 9), (3000, 8)]


def drawn(count, height, width, channels, kind):
    rng = np.random.default_rng((height, width, channels))
    if kind == "float":
        return list(rng.random((count, height, width, channels)).astype(np.float32))
    noise = rng.integers(0, 256, (count, height, width, channels), dtype=np.uint8)
    return list(noise if kind == "noise" else np.where(noise > 128, np.uint8(255), np.uint8(0)))


def test_features_are_the_same_in_number_for_any_image_and_finite():
    images = [
        np.zeros((8, 8), np.uint8),
        np.full((9, 700, 3), 255, np.uint8),
        np.zeros((8, 3000), np.uint8),
        np.random.default_rng(0).integers(0, 256, (12, 12), dtype=np.uint8),
    ]
    seen = [blind_features(image) for image in as_images(images)]
    assert {len(one) for one in seen} == {FEATURES}
    assert all(np.isfinite(one).all() for one in seen)


@pytest.mark.parametrize("kind", ["noise", "black and white", "float"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_images_described_together_are_described_as_alone(size, channels, kind):
    images = as_images(drawn(150 if max(size) < 50 else 5, *size, channels, kind))
    assert np.array_equal(blind_features_of(images), [blind_features(image) for image in images])


def test_images_of_several_sizes_stay_in_their_order():
    images = as_images([image for size in SIZES[:4] * 2 for image in drawn(3, *size, 3, "noise")])
    assert np.array_equal(blind_features_of(images), [blind_features(image) for image in images])
    assert blind_features_of([]).shape == (0, FEATURES)


def test_features_are_those_of_their_definitions():
    """Of an image whose features are known: black on the left, white on the right."""
    image = np.zeros((16, 32, 3), np.uint8)
    image[:, 16:] = 255
    features = blind_features(as_images([image])[0])
    area, aspect, mean, deviation, black, _, *quantiles = features[:11]
    assert (area, aspect) == pytest.approx((np.log(512), np.log(2)))
    assert (mean, deviation, black) == pytest.approx((0.5, 0.5, 0.5))
    assert quantiles == pytest.approx([0, 0, 0.5, 1, 1])
    assert features[11:20] == pytest.approx([0.5] * 6 + [0] * 3)
    # One step of 31 in each row, none in a column, and a Laplacian of 1 on both sides of it.
    assert features[20:23] == pytest.approx([1 / 31, 0, 2 / 30])
    assert np.array_equal(features[32:].reshape(8, 8), np.tile(np.repeat([0, 1], 4), (8, 1)))
