"""From a source, as a benchmark's file states it, to its rows."""

from __future__ import annotations

from fnmatch import fnmatch

from mia_hub.auditing.published_settings.source import Source
from mia_hub.errors import SplitError
from mia_hub.splits.hub_rows import HubDataset, Rows


def open_rows(source: Source) -> Rows:
    """Resolves the revision, and opens the split at that commit.

    Raises:
        SplitError: if the data set can't be found or reached, is gated, has no such split or files, or more or fewer rows than stated.
    """
    dataset = HubDataset(source.dataset, source.config, source.revision)
    files = _matching(source, dataset) if source.files else dataset.files_of(source.split)
    rows = dataset.open(source.split, files, stated=not source.files, pool=source.pool)
    if source.rows is not None and len(rows) != min(source.rows, source.pool or source.rows):
        raise SplitError(
            f"The split {source.split!r} of {source.dataset} has {len(rows):,} rows at commit {rows.commit[:12]}, and {source.rows:,} are "
            "expected: with another number another draw would be made. Name a revision that has as many, in a copy of the benchmark's file."
        )
    return rows


def _matching(source: Source, dataset: HubDataset) -> list[str]:
    found = sorted(path for path in dataset.sizes if any(fnmatch(path, pattern) for pattern in source.files))
    if not found:
        raise SplitError(f"The data set {source.dataset} has no file {' or '.join(map(repr, source.files))} at this revision.")
    return found
