"""A set of images by CDI's method: its features of the set and of as many known non-members, and its test (arXiv 2411.12858)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mia_hub.attacks.cdi import CDIFeatures
from mia_hub.checking.set_answers import CDI
from mia_hub.checking.set_checking import ObservedSet, SetComparison, difference_in_kind
from mia_hub.errors import SplitError
from mia_hub.images.image import InputImage
from mia_hub.metrics.dataset_inference import FEWEST_FOR_CDI, cdi_test, too_few_for_cdi
from mia_hub.models.protocol import DiffusionModel
from mia_hub.references.reference import Reference
from mia_hub.references.scoring import LabelledImages


def drawn_nonmembers(known: LabelledImages | None, ids: Sequence[str], seed: int) -> tuple[LabelledImages, int]:
    """Return as many known non-members as there are images in a set, by a seeded draw, and how many are in the set themselves.

    Args:
        known: the non-members; None where only their scores are at hand.
        ids: content ids of the set.
        seed: of the draw.

    Raises:
        MetricError: for a set of fewer than 25 images, of which the blind classifier could not tell a difference in kind.
        SplitError: if the non-members are fewer than the set, or not at hand.
    """
    if len(ids) < FEWEST_FOR_CDI:
        raise too_few_for_cdi(len(ids))
    if known is None:
        raise SplitError(
            "CDI queries the model for the known non-members themselves, and here are only their scores, or none; give nonmembers=… "
            "(--nonmembers)."
        )
    in_set = set(ids)
    others = sorted((image.id, row) for row, image in enumerate(known.images) if image.id not in in_set)
    overlap = len(known.images) - len(others)
    if len(others) < len(ids):
        raise SplitError(
            f"CDI compares {len(ids):,} images with as many known non-members, and there are {len(others):,} that are not in the set "
            "themselves; give more, or choose the default test."
        )
    drawn = np.random.default_rng(seed).permutation(len(others))[: len(ids)]
    return known.part(np.array([others[place][1] for place in drawn])), overlap


def observed_by_cdi(
    model: DiffusionModel, images: Sequence[InputImage], captions: Any, known: LabelledImages, copies: int, **scoring: Any
) -> tuple[ObservedSet, npt.NDArray[np.float64]]:
    """Query a model for CDI's features of a set and of known non-members.

    Args:
        model: the model.
        images: the set, different images.
        captions: of the set, as for `mia_hub.Attack.score`.
        known: as `drawn_nonmembers` returns them.
        copies: number of images that were left out of the set.
        scoring: further options of `mia_hub.Attack.score`.

    Returns:
        The set, and the features ``[m, 26]`` of the non-members.
    """
    attack = CDIFeatures()
    null = attack.observe(model, known.images, captions=known.captions, **scoring)
    own = attack.observe(model, images, captions=captions, **scoring)
    observed = ObservedSet(images, copies, model.info.id, attack, attack.name, attack.default_timestep, own, (), CDI)
    return observed, null.values


def compare_by_cdi(observed: ObservedSet, null: npt.NDArray[np.float64], reference: Reference, overlap: int, *, seed: int) -> SetComparison:
    """Compare a set with known non-members by CDI's test; one that differs from the reference in kind gets none.

    Args:
        observed, null: as `observed_by_cdi` returns them.
        reference: of the known non-members.
        overlap: number of known non-members that are in the set.
        seed: of the halves.
    """
    ids = observed.observations.ids
    order = np.argsort(ids)
    difference = difference_in_kind(observed.images, set(ids), reference, seed)
    test = None if difference else cdi_test(observed.observations.values[order], null, seed=seed)
    return SetComparison(len(null), overlap, test, difference)
