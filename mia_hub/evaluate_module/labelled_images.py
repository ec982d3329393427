"""Predictions and references as a split of members and non-members."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mia_hub.errors import MetricError

if TYPE_CHECKING:
    from mia_hub.images.image import InputImage
    from mia_hub.splits.member_split import MemberSplit


def labels_of(references: Any, count: int) -> npt.NDArray[np.int8]:
    """Return the labels, int8 ``[count]``.

    Raises:
        MetricError: if there is not one label, 1 or 0, per image.
    """
    values = references.tolist() if hasattr(references, "tolist") else references
    try:
        labels = np.array(list(values), dtype=np.float64)
    except (TypeError, ValueError):
        raise MetricError(f"references must be 1 (member) or 0 (non-member), one per image; got {references!r:.200}.") from None
    if labels.shape != (count,):
        shape = f"{len(labels)}" if labels.ndim == 1 else f"an array {list(labels.shape)} of them"
        raise MetricError(f"There are {count} predictions and {shape} references; give one reference, 1 or 0, per image.")
    wrong = np.flatnonzero(~np.isin(labels, (0, 1)))
    if len(wrong):
        raise MetricError(
            f"references must be 1 (member) or 0 (non-member); {len(wrong)} of {count} are neither, the first at index {wrong[0]}: "
            f"{labels[wrong[0]]:g}."
        )
    return labels.astype(np.int8)


def split_by_label(images: Sequence[InputImage], references: Any, captions: Any) -> tuple[MemberSplit, npt.NDArray[np.intp]]:
    """Return the images, with their captions or classes, as a split; and the place of each, members first, among ``images``.

    Raises:
        MetricError: if the labels or captions don't fit the images, or all images have one label.
    """
    from mia_hub.images.captions import select_rows
    from mia_hub.images.sequences import SelectedSequence
    from mia_hub.splits.member_split import MemberSplit

    labels = labels_of(references, len(images))
    members, nonmembers = (np.flatnonzero(labels == label) for label in (1, 0))
    if not (len(members) and len(nonmembers)):
        raise MetricError(
            f"All {len(labels)} references are {labels[0]}; members (1) and non-members (0) are both needed. For images of unknown "
            "membership, leave references out."
        )
    order = np.concatenate([members, nonmembers])
    if captions is not None:
        captions = [captions] * len(images) if isinstance(captions, (str, int)) else captions
        if len(captions) != len(images):
            raise MetricError(f"There are {len(images)} predictions and {len(captions)} captions; give one per image.")
        captions = select_rows(captions, order)
    member_images, nonmember_images = (SelectedSequence(images, rows.tolist()) for rows in (members, nonmembers))
    # The model decides whether these are texts or classes.
    return MemberSplit("predictions", member_images, nonmember_images, captions=captions, classes=captions), order
