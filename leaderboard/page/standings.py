"""The board's standings: what the page and its API show of all results, computed once for each version of them."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from leaderboard.page import tables
from leaderboard.results import board_rows, claims
from leaderboard.results.reader import Results, current_results


@dataclass(frozen=True)
class Standings:
    """Entries and rows that the tables show.

    Attributes:
        results: that they were computed from.
        ranked, apart: entries whose split passes the shift check, and those whose split fails it or was not checked.
        rows, rows_apart: their rows with the published figures beside them, and rows for those that nothing was computed for.
    """

    results: Results
    ranked: tuple[board_rows.Entry, ...]
    apart: tuple[board_rows.Entry, ...]
    rows: list[dict[str, Any]]
    rows_apart: list[dict[str, Any]]


def standings_of(results: Results) -> Standings:
    """Return the standings of all entries, with the published figures."""
    ranked, apart = board_rows.ranked_and_apart(results.entries)
    checks = board_rows.shift_checks(apart)
    rows = board_rows.board_rows(ranked)
    rows_apart = [row | {"shift_check": checks[row["split_hash"]]} for row in board_rows.board_rows(apart)]
    everything = claims.rows_with_claims([*rows, *rows_apart], claims.published_claims())
    computed, claimed_alone = everything[: len(rows) + len(rows_apart)], everything[len(rows) + len(rows_apart) :]
    # Where a setting is known to differ by itself, what is claimed of it stands apart, too.
    shifted: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for row in claimed_alone:
        shifted[row["claimed"][0]["shifted"]].append(row)
    return Standings(
        results,
        tuple(ranked),
        tuple(apart),
        _in_order(computed[: len(rows)]) + shifted[False],
        _in_order(computed[len(rows) :]) + [row | {"shift_check": "known to differ"} for row in shifted[True]],
    )


def _in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (row["split"], *board_rows.board_order(row)))


_lock = threading.Lock()
_latest: Standings | None = None


def current_standings() -> Standings:
    """Return the standings of the configured store and of the entries that come with the software, as they are now."""
    global _latest
    results = current_results()
    with _lock:
        if _latest is None or _latest.results.version != results.version:
            _latest = standings_of(results)
        return _latest


def leaderboard(model: str = "", split: str = "", attack: str = "") -> list[dict[str, Any]]:
    """Rows of the leaderboard: how well attacks recognise the training images of diffusion models. Higher figures mean that a model leaks.

    Args:
        model: only rows whose model has this in its name; empty for all.
        split: only rows whose data set has this in its name; empty for all.
        attack: only rows whose attack has this in its name; empty for all.

    Returns:
        One object per row: model, revision, split, attack, access, queries, auc, asr and tpr_at_1_fpr (value with low and high of its 95 %
        interval), self_reported and claimed figures apart from those, the entry's id, and "apart": whether the data set fails the shift
        check or couldn't be checked, so that the figures needn't say anything about the model.
    """
    now = current_standings()
    searched = {"model": model, "split": split, "attack": attack}
    return [
        tables.for_programs(row) | {"apart": apart}
        for apart, rows in ((False, now.rows), (True, now.rows_apart))
        for row in rows
        if all(text.lower() in row[key].lower() for key, text in searched.items())
    ]
