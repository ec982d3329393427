"""How known images look is read once, and is what each part would read by itself."""

from __future__ import annotations

import numpy as np
from support.known_blobs import nonmembers

from mia_hub.images.features import blind_features
from mia_hub.images.sources import as_images
from mia_hub.references.appearance import ImageAppearance, appearance_arrays
from mia_hub.references.comparability import Comparability


class Counting(list):
    """Images that count how often they are read."""

    reads = 0

    def __iter__(self):
        for image in super().__iter__():
            self.reads += 1
            yield image

    def __getitem__(self, row):
        self.reads += 1
        return super().__getitem__(row)


def test_each_image_is_read_once_for_all_that_is_kept_of_it():
    images = list(as_images(nonmembers(40)))
    counting = Counting(images)
    appearance = ImageAppearance(counting, (1, 8, 8))
    arrays = appearance_arrays(appearance)
    assert counting.reads == 40 and appearance.features[0] == [image.id for image in images]
    assert np.array_equal(arrays["appearance.features"], [blind_features(image) for image in images])
    for name, value in vars(Comparability.fitted(images, (1, 8, 8))).items():
        assert np.array_equal(arrays[f"comparability.{name}"], value), name
