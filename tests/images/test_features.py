"""What a blind classifier sees of an image."""

import numpy as np

from mia_hub.images.features import blind_features
from mia_hub.images.sources import as_images


def test_features_are_the_same_in_number_for_any_image_and_finite():
    images = [
        np.zeros((8, 8), np.uint8),
        np.full((9, 700, 3), 255, np.uint8),
        np.zeros((8, 3000), np.uint8),
        np.random.default_rng(0).integers(0, 256, (12, 12), dtype=np.uint8),
    ]
    seen = [blind_features(image) for image in as_images(images)]
    assert len({len(one) for one in seen}) == 1
    assert all(np.isfinite(one).all() for one in seen)
