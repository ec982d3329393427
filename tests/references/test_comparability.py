"""An image is comparable with reference images of its own kind alone."""

from __future__ import annotations

import numpy as np
import pytest

from mia_hub.errors import SplitError
from mia_hub.images.sources import as_images
from mia_hub.references.comparability import Comparability

rng = np.random.default_rng(0)


def smooth_images(n, seed):
    """Soft grey blobs: structured images of one kind."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:28, :28]
    centre, width = generator.uniform(8, 20, (n, 2, 1, 1)), generator.uniform(3, 7, (n, 1, 1))
    blobs = np.exp(-((y - centre[:, 0]) ** 2 + (x - centre[:, 1]) ** 2) / width**2)
    return (blobs * 255).astype(np.uint8)


def test_comparability_accepts_its_own_kind_and_refuses_others():
    references = as_images(smooth_images(600, 0))
    comparable = Comparability.fitted(references, (1, 28, 28))
    fresh = [comparable(image) for image in as_images(smooth_images(600, 1))]
    assert np.mean(fresh) >= 0.98  # 1 in 200 is refused by design
    tinted = np.stack([smooth_images(1, 2)[0], smooth_images(1, 2)[0] // 2, smooth_images(1, 2)[0] // 3], axis=-1)
    photo_like = rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)
    flat, inverted = np.full((28, 28), 128, np.uint8), 255 - smooth_images(1, 3)[0]
    for other in (tinted, photo_like, flat, inverted, rng.integers(0, 256, (28, 28), dtype=np.uint8)):
        assert not comparable(as_images(other)[0])


def test_too_few_references_are_refused():
    with pytest.raises(SplitError, match="19 reference images are too few"):
        Comparability.fitted(as_images(smooth_images(19, 0)), (1, 28, 28))


def test_small_reference_sets_refuse_only_what_is_far_outside():
    comparable = Comparability.fitted(as_images(smooth_images(40, 0)), (1, 28, 28))
    assert np.mean([comparable(image) for image in as_images(smooth_images(200, 1))]) > 0.9
    assert not comparable(as_images(rng.integers(0, 256, (300, 400, 3), dtype=np.uint8))[0])
