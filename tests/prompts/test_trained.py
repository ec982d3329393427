"""The detectors on a model that is trained here to memorise some captions and not others."""

from __future__ import annotations

import numpy as np
import pytest

from mia_hub.metrics.roc import auc
from mia_hub.prompts import get_detector
from mia_hub.prompts.observing import observe
from studies.prompt_model import Recipe, as_model, captioned_data, spreads, train
from training.fashion_mnist import DEBIAN_FILE

RECIPE = Recipe(memorised=10, varied=20, held_out=60, images=30, side=8, steps=1200)
NAMES = ("guidance-norm", "curvature", "alignment")
LEAST = 0.9


@pytest.mark.slow
@pytest.mark.skipif(not DEBIAN_FILE.exists(), reason="needs dataset-fashion-mnist")
def test_detectors_find_the_captions_that_a_model_memorised():
    """Each caption is seen equally often, with one image or with 30; about two minutes."""
    data = captioned_data(RECIPE)
    network = train(RECIPE, data)
    model, labels = as_model(network, RECIPE.side), np.repeat([1, 0], [len(data.memorised), len(data.varied)])
    assert auc(-spreads(network, data.trained, RECIPE.side), labels) > 0.9, "the model answers a memorised caption with one image"
    found = {name: auc(observe(get_detector(name), model, data.trained, progress=False).values.mean(axis=1), labels) for name in NAMES}
    assert min(found.values()) > LEAST, found
