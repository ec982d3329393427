"""Images that the base of a model was trained on: listed in its own files, or of a data set that it is known to have been trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mia_hub.auditing.known_training_data import is_of, training_data
from mia_hub.models.bases import base_of
from mia_hub.models.protocol import DiffusionModel
from mia_hub.splits.origins import Origin
from mia_hub.splits.training_images import trained_on_split, training_ids


class OriginRemark(NamedTuple):
    """Remark on where images come from, and what the base of a model was trained on.

    Attributes:
        seen: whether the base was trained on them; otherwise nobody can say.
        text: the remark as a clause.
    """

    seen: bool
    text: str


def origin_remark(model: DiffusionModel, origin: Origin | None, what: str = "non-members") -> OriginRemark | None:
    """Return what must be said of images by their origin; None where the base's training data are unknown, or certainly other images.

    Args:
        model: that is compared with its base.
        origin: of the images; None where it is unknown.
        what: the images.

    Raises:
        SplitError: if one's own table of known models can't be understood.
    """
    base = base_of(model)
    data = training_data(base)
    seen = is_of(origin, data)
    if seen:
        return OriginRemark(True, f"the base {base.info.id} was trained on {origin}, which the {what} come from")
    if not data or seen is False:
        return None
    return OriginRemark(False, f"the base {base.info.id} was trained on images of {' and of '.join(map(str, data))}")


def base_overlap(
    model: DiffusionModel,
    ids: Sequence[str],
    is_member: npt.NDArray[Any],
    split_hash: str | None = None,
    origins: Sequence[Origin] = (),
) -> dict[str, str]:
    """Return what must be said of a split whose images the base of a model may have been trained on, by the names of flags.

    Args:
        model: that is compared with its base.
        ids: content ids of images, N of them.
        is_member: ``[N]``: 1 where an image is a member of the model's own training set, 0 where it is a non-member.
        split_hash: of the split that the images are.
        origins: of the split, see `mia_hub.MemberSplit`.

    Raises:
        SplitError: if one's own table of known models can't be understood.
    """
    base = base_of(model)
    known = training_ids(base)
    seen = np.array([sample in known for sample in ids], bool)
    if split_hash is not None and split_hash == trained_on_split(base):
        seen |= is_member == 1
    remarks = {}
    for label, name, what in ((0, "base-saw-nonmembers", "non-members"), (1, "base-saw-members", "members")):
        count = int((seen & (is_member == label)).sum())
        # Of one origin, it is that of both sides.
        remark = origin_remark(model, origins[0 if label == 1 else -1] if origins else None, what)
        if count:
            remarks[name] = f"the base {base.info.id} was trained on {count:,} of the {what}"
        elif remark is not None and remark.seen:
            remarks[name] = remark.text
        elif remark is not None and label == 0:
            remarks["base-training-data"] = remark.text
    return remarks
