"""Images that a model is known to have been trained on, as its own files state them."""

from __future__ import annotations

import json
import re
from contextlib import suppress

from mia_hub.errors import ModelError
from mia_hub.models.origin import Origin
from mia_hub.models.protocol import DiffusionModel
from mia_hub.splits.loading import load_split

# One content id per line, in the folder of the model.
TRAINING_IDS = "training_ids.txt"
# What a recipe states about its run; its "split_hash" is that of a split whose members the model was trained on.
TRAINING_FACTS = "training.json"
DEMO = "demo"
# Bytes: more than three million ids.
LARGEST_IDS = 2**27


def training_ids(model: DiffusionModel) -> frozenset[str]:
    """Return the content ids of the images that a model is known to have been trained on; none where its files state none."""
    origin: Origin | None = getattr(model, "origin", None)
    if origin is None:
        return frozenset()
    if origin.repository.name == DEMO:
        return frozenset(image.id for image in load_split(DEMO).members)
    with suppress(ModelError):
        return frozenset(re.findall(r"^[0-9a-f]{32}$", origin.repository.read_text(TRAINING_IDS, LARGEST_IDS), re.MULTILINE))
    return frozenset()


def trained_on_split(model: DiffusionModel) -> str | None:
    """Return the hash of the split whose members a model was trained on, as its recipe stated it; None where it is unknown."""
    origin: Origin | None = getattr(model, "origin", None)
    with suppress(ModelError, ValueError, RecursionError):
        facts = json.loads(origin.repository.read_text(TRAINING_FACTS)) if origin is not None else None
        stated = facts.get("split_hash") if isinstance(facts, dict) else None
        return stated if isinstance(stated, str) else None
    return None
