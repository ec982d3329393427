"""A stored reference accuses no more images that were never used than its p-values say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import betabinom

from mia_hub.checking.checker import Checker
from mia_hub.references.demo_reference import demo_reference
from mia_hub.references.reference import Reference
from training.demo import N_MEMBERS, N_NONMEMBERS, SEED
from training.fashion_mnist import draw_rows, load_train_images

HELD_OUT = 5000


@pytest.mark.slow
def test_false_positive_rates_of_5000_images_in_no_reference_are_nominal(tmp_path):
    images = load_train_images()
    used = np.concatenate(draw_rows(images, SEED, N_MEMBERS, N_NONMEMBERS))
    rest = np.setdiff1d(np.arange(len(images)), used)
    rows = np.random.default_rng(0).choice(rest, HELD_OUT, replace=False)
    reference = Reference.read(demo_reference().save(tmp_path / "reference"))
    assert not {bytes(images[row]) for row in rows} & {bytes(images[row]) for row in used}
    judged = Checker("demo", reference=reference, progress=False).judge(images[rows], progress=False)
    p = np.array([each.p_value for each in judged])
    n = len(reference.null)
    for level in (0.05, 0.01, 0.005):
        # Of one null set of n scores: exact for any continuous score.
        rank = int(np.floor(level * (n + 1)))
        low, high = betabinom(HELD_OUT, rank, n + 1 - rank).interval(0.99)
        assert low <= (p <= level).sum() <= high, f"{(p <= level).mean():.4f} at {level}"
