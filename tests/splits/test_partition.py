"""Parts of a split that depend on the content of its images alone."""

import numpy as np

from mia_hub.splits.partition import calibration_mask


def test_parts_depend_on_content_and_not_on_order():
    ids = [f"sample {i}" for i in range(101)]
    mask = calibration_mask(ids, fraction=0.3, seed=5)
    backwards = calibration_mask(ids[::-1], fraction=0.3, seed=5)
    assert mask.sum() == 30
    np.testing.assert_array_equal(mask, backwards[::-1])
    assert (calibration_mask(ids, fraction=0.3, seed=6) != mask).any()
