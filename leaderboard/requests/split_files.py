"""Data sets that are accepted from strangers: Parquet files of their own, of limited size. Other formats may refer to other files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from leaderboard.errors import SubmissionError

if TYPE_CHECKING:
    from leaderboard.requests.limits import Limits
    from mia_hub.splits.hub_rows import HubDataset

PARQUET = ".parquet"
ADVICE = "Publish it as Parquet: 'mia-hub make-split … --push OWNER/NAME' does."


def check_listing(name: str, sizes: Mapping[str, int], limits: Limits) -> None:
    """Refuse a data set by the list of its files, before any of them is opened.

    Args:
        name: its Hub id.
        sizes: bytes of each file by its path.
        limits: of the queue.

    Raises:
        SubmissionError: if it has no Parquet files, or too large ones.
    """
    parquet = [size for path, size in sizes.items() if path.endswith(PARQUET)]
    if not parquet:
        raise SubmissionError(f"The data set {name} has no Parquet files, and no others are read here. {ADVICE}")
    limits.check_bytes(sum(parquet))


def check_card(dataset: HubDataset, limits: Limits) -> None:
    """Check its files as `check_listing` does, and that its card names nothing but its own Parquet files.

    Raises:
        MiaHubError: with the reason.
    """
    check_listing(dataset.name, dataset.sizes, limits)
    for path in (path for paths in dataset.splits.values() for path in paths):
        if not path.endswith(PARQUET) or path not in dataset.sizes:
            raise SubmissionError(f"The split in {dataset.name} is made of {path[:120]!r}; only its Parquet files are read here. {ADVICE}")
