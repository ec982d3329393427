"""Tables of scores that people submit: read within limits, and matched to the images of a split."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from leaderboard.errors import SubmissionError
from leaderboard.requests.parquet_limits import check_unpacked

if TYPE_CHECKING:
    from mia_hub.scores import ScoreTable

# The size of one upload on the page.
LARGEST_SCORES = 50 * 2**20


def check_file_size(size: int, name: str = "The scores") -> None:
    """Refuse a file of scores by its size, before it is read.

    Raises:
        SubmissionError: if it has more than `LARGEST_SCORES` bytes.
    """
    if size > LARGEST_SCORES:
        raise SubmissionError(f"{name} are {size / 2**20:,.0f} MiB; at most {LARGEST_SCORES // 2**20} MiB are accepted.")


def read_scores(content: bytes, name: str = "The scores") -> ScoreTable:
    """Read a submitted table, and check what can be checked without its split.

    Args:
        content: the Parquet file.
        name: of the table, for messages.

    Returns:
        The table; its metadata is what the submitter claims.

    Raises:
        SubmissionError: with the reason.
    """
    import numpy as np

    from mia_hub.errors import MetricError
    from mia_hub.scores import ScoreTable

    check_file_size(len(content), name)
    try:
        check_unpacked(content, name)
        table = ScoreTable.from_parquet(io.BytesIO(content))
    except MetricError as error:
        reason = str(error)[:300].rstrip(".")
        raise SubmissionError(f"{name} can't be read: write them with ScoreTable.to_parquet ({reason}).") from error
    if not len(table.timesteps):
        raise SubmissionError(f"{name} have no column of scores.")
    if len(set(table.timesteps.tolist())) < len(table.timesteps):
        raise SubmissionError(f"{name} have two columns of one timestep; give each once.")
    if not np.isfinite(table.scores).all():
        raise SubmissionError(f"{name} have {int((~np.isfinite(table.scores)).sum())} values that are NaN or infinite.")
    return table


def check_scores(content: bytes, *, ids: Sequence[str], is_member: Sequence[int], name: str = "The scores") -> ScoreTable:
    """Read a submitted table, and refuse one that isn't of this split.

    Args:
        content: the Parquet file.
        ids: content ids of the split's images. Copies of an image share one: the table may have their scores once for all of them, or once
            for each, in the order of the split.
        is_member: 1 or 0 each.
        name: of the table, for messages.

    Returns:
        The table with the split's own labels, in the order of ``ids``.

    Raises:
        SubmissionError: with the reason.
    """
    import numpy as np

    from mia_hub.scores import UNKNOWN

    table = read_scores(content, name)
    table = table.select(np.array(_rows_by_image(table.ids, ids, name)))
    labelled = table.is_member != UNKNOWN
    wrong = int((table.is_member[labelled] != np.asarray(is_member)[labelled]).sum())
    if wrong:
        raise SubmissionError(f"{name} have {wrong} labels that differ from those of the split.")
    return replace(table, is_member=np.asarray(is_member, np.int8))


def _rows_by_image(scored: Sequence[str], ids: Sequence[str], name: str) -> list[int]:
    """Return, for each image of a split, the row of a table that has its scores."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, id in enumerate(scored):
        rows[id].append(row)
    copies = Counter(ids)
    missing = [id for id in copies if id not in rows]
    if missing or len(rows) != len(copies):
        raise SubmissionError(
            f"{name} cover {len(rows)} images, {len(copies) - len(missing)} of them from the {len(copies)} of the split; they must cover "
            f"exactly the split's images{f' (missing: {missing[0]})' if missing else ''}."
        )
    for id, own in rows.items():
        if len(own) not in (1, copies[id]):
            raise SubmissionError(
                f"{name} contain the image {id} {len(own)} times, but the split contains it {copies[id]} times; score it once, or once "
                "for each of its copies."
            )
    used: Counter[str] = Counter()
    chosen = []
    for id in ids:
        chosen.append(rows[id][min(used[id], len(rows[id]) - 1)])
        used[id] += 1
    return chosen
