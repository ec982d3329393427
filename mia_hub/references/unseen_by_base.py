"""Known non-members must be unseen by the model and by its base."""

from __future__ import annotations

import numpy as np

from mia_hub.attacks import Attack
from mia_hub.auditing.base_overlap import base_overlap, origin_remark
from mia_hub.errors import SplitError
from mia_hub.models.protocol import DiffusionModel
from mia_hub.references.record import SourceRecord
from mia_hub.splits.origins import Origin

OTHERS = "Give other non-members, another base, or an attack that uses no base."


def check_unseen(model: DiffusionModel, attack: Attack, ids: list[str]) -> None:
    """Refuse known non-members that the base's own files list among its training images, if the attack compares with the base.

    Args:
        model, attack: that are run.
        ids: content ids of the known non-members.

    Raises:
        SplitError: with their number.
    """
    if not attack.uses_base:
        return
    seen = base_overlap(model, ids, np.zeros(len(ids), np.int8)).get("base-saw-nonmembers")
    if seen:
        raise _refused(seen)


def described(model: DiffusionModel, attack: Attack, record: SourceRecord, origin: Origin | None) -> SourceRecord:
    """Return the record of known non-members, with a caveat if nobody can say whether the base was trained on them.

    Args:
        model, attack: that are run.
        record: of the non-members.
        origin: the split of a data set on the Hub that they come from; None where it is unknown.

    Raises:
        SplitError: if the attack compares with the base, and the base was trained on that split.
    """
    remark = origin_remark(model, origin) if attack.uses_base else None
    if remark is None:
        return record
    if remark.seen:
        raise _refused(remark.text)
    caveat = f"{remark.text[0].upper()}{remark.text[1:]}. The known non-members must be none of these; where they come from doesn't tell."
    return record.model_copy(update={"caveats": (*record.caveats, caveat)})


def _refused(seen: str) -> SplitError:
    return SplitError(f"The known non-members must be in the training set of neither the model nor its base, and {seen}. {OTHERS}")
