"""The non-members that the demo's p-values are computed from: fresh ones, stored as the model sees them."""

from __future__ import annotations

import numpy as np
import pytest

from mia_hub.images.image import content_id
from mia_hub.models.loading import load_model
from mia_hub.references.demo_reference import DEMO_NULL, read_null
from mia_hub.splits.loading import load_split
from training.demo_null import ID_DIGITS, N_NULL, NEAR, fresh_rows, verdict_attack
from training.fashion_mnist import DEBIAN_FILE, load_train_images

pytestmark = pytest.mark.skipif(not DEBIAN_FILE.exists(), reason="dataset-fashion-mnist is not installed")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return load_train_images()


@pytest.fixture(scope="module")
def rows(images) -> np.ndarray:
    return fresh_rows(images)


def test_they_are_outside_the_demos_split_and_no_near_copies_of_members(images, rows):
    split = load_split("demo")
    known = {image.pixels.tobytes() for image in split.images}
    assert len(rows) >= 2 * N_NULL and len(set(rows.tolist())) == len(rows)
    assert not known & {images[row].tobytes() for row in rows}
    members = np.stack([image.pixels[..., 0] for image in split.members]).reshape(512, -1) / 255
    some = images[rows[:200]].reshape(200, -1) / 255
    assert min(np.sqrt(((members - one) ** 2).mean(1)).min() for one in some) >= NEAR


def test_what_is_stored_is_what_the_attack_observes(images, rows):
    stored = read_null(DEMO_NULL)
    assert len(stored.ids) == len(set(stored.ids)) == len(stored.observations) == N_NULL
    assert DEMO_NULL.stat().st_size < 2e6
    for place in (0, 9_999, N_NULL - 1):
        assert content_id(images[rows[place]])[:ID_DIGITS] == stored.ids[place]
    places = [1, 777, 19_000]
    observed = verdict_attack().observe(load_model("demo"), [images[rows[place]] for place in places], progress=False).values[:, 0]
    assert np.allclose(observed, stored.observations[places], rtol=1e-4, atol=1e-4)
