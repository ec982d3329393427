"""The record beside the files of a split, as far as loading it needs: who drew it, and from what."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mia_hub.splits.coins import stated_draw
from mia_hub.splits.member_split import MemberSplit
from mia_hub.splits.origins import stated_origins

if TYPE_CHECKING:
    from mia_hub.splits.hub_rows import HubDataset

RECORD = "split.json"
MOST_BYTES = 2**20


def with_record(split: MemberSplit, record: dict[str, Any]) -> MemberSplit:
    """Return a split with the draw and the origins that its record states; origins that are known already are replaced."""
    return replace(split, coins=stated_draw(record), origins=stated_origins(record) or split.origins)


def record_beside(folder: Path) -> dict[str, Any]:
    """Return the record in a split's folder, which anyone may have written; empty where there is none."""
    path = folder / RECORD
    try:
        record = json.loads(path.read_bytes()) if path.is_file() and path.stat().st_size <= MOST_BYTES else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def record_on_hub(dataset: HubDataset) -> dict[str, Any]:
    """Return the record of a data set on the Hub, at its commit; empty as for `record_beside`.

    Raises:
        SplitError: if the record can't be fetched.
    """
    from huggingface_hub import hf_hub_download

    if RECORD not in dataset.sizes or dataset.sizes[RECORD] > MOST_BYTES:
        return {}
    if dataset.is_offline:
        place = dataset.listing.cached(RECORD)
        return {} if place is None else record_beside(Path(place).parent)
    with dataset.errors():
        return record_beside(Path(hf_hub_download(dataset.name, RECORD, revision=dataset.commit, repo_type="dataset")).parent)
