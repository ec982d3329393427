"""Members and non-members that differ by themselves are found out, and others rarely accused."""

from __future__ import annotations

import numpy as np
import pytest

from mia_hub.errors import SplitError
from mia_hub.images.features import blind_features
from mia_hub.images.sources import as_images
from mia_hub.splits.member_split import make_split
from mia_hub.splits.shift import blind_auc, shift_flags, survey

rng = np.random.default_rng(0)


def noise_images(n, low=0, high=256, size=12):
    return rng.integers(low, high, (n, size, size), dtype=np.uint8)


def test_overlap_is_refused_before_any_compute():
    images = noise_images(6)
    split = make_split(images[:4], images[3:])
    with pytest.raises(SplitError, match="1 images are both members and non-members"):
        survey(split.images, split.is_member, progress=False)


def test_blind_classifier_sees_a_shift_and_no_shift_where_there_is_none():
    same = np.stack([blind_features(image) for image in as_images(noise_images(300))])
    labels = np.repeat([1, 0], 150)
    fair = blind_auc(same, labels)
    assert fair.low < 0.5 < fair.high
    assert shift_flags(fair) == ()
    brighter = np.concatenate([same[:150], np.stack([blind_features(p) for p in as_images(noise_images(150, 10, 256))])])
    shifted = blind_auc(brighter, labels)
    assert shifted.low > 0.6
    assert shift_flags(shifted)[0].name == "distribution-shift"
    assert blind_auc(same[:40], labels[130:170]) is None
    assert shift_flags(None)[0].name == "no-shift-check"


def test_false_alarms_of_the_shift_check_are_rare():
    """On pure noise the pooled AUC must not drift from a half (a known trap of pooling folds), nor its interval be too narrow."""
    features, alarms, values = np.random.default_rng(0).normal(size=(20, 120, 10)), 0, []
    for one in features:
        found = blind_auc(one, np.repeat([1, 0], 60))
        values.append(found.value)
        alarms += bool(shift_flags(found))
    assert abs(np.mean(values) - 0.5) < 0.03
    assert alarms <= 2
