"""Images that a model is known to have been trained on, as its own files state them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy.typing as npt

from mia_hub.errors import ModelError, SplitError
from mia_hub.models.origin import Origin
from mia_hub.models.protocol import DiffusionModel
from mia_hub.models.reference_models import reference_models
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


def refuse_seen(other: DiffusionModel, known: frozenset[str], ids: Sequence[str]) -> None:
    """Refuse images that a reference model is known to have been trained on.

    Args:
        other: the reference model.
        known: content ids of the images that it was trained on.
        ids: of the images in question.

    Raises:
        SplitError: with their number.
    """
    seen = len(known.intersection(ids))
    if seen:
        raise SplitError(
            f"The reference model {other.info.id} was trained on {seen:,} of these images, as its files state, and a reference model must "
            "have seen none. Leave these images out, or give another reference model."
        )


def check_unseen_by_reference_models(
    model: DiffusionModel, ids: Sequence[str], is_member: npt.NDArray[Any], split_hash: str | None = None
) -> None:
    """Refuse images that a reference model is known to have been trained on, before anything is queried.

    Args:
        model: that is compared with its reference models.
        ids: content ids of images, N of them.
        is_member: ``[N]``: 1 for a member of the model's own training set, 0 for a non-member.
        split_hash: of the split that the images are.

    Raises:
        SplitError: with their number, and the reference model.
    """
    members = frozenset(sample for sample, label in zip(ids, is_member) if label == 1)
    for other in reference_models(model):
        known = training_ids(other) | (members if split_hash is not None and split_hash == trained_on_split(other) else frozenset())
        refuse_seen(other, known, ids)
