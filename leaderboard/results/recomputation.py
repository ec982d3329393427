"""An entry's figures, computed again from its scores; and compared with those of another run of it."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from leaderboard.results.entry import FIGURES

if TYPE_CHECKING:
    from mia_hub.metrics.estimates import TimestepRow

ROUNDING = 1e-12
# Another machine rounds differently, so that pairs of images may swap places.
AS_SHOWN = 1e-3
Read = Callable[[str], bytes]


def discrepancies(entry: Mapping[str, Any], read: Read) -> list[str]:
    """Return what of an entry's figures doesn't follow from its scores; nothing for an honest entry.

    Args:
        entry: as stored.
        read: returns the content of a file by its path below the entry's folder; KeyError if there is none.

    Returns:
        One line per discrepancy.
    """
    return [f"{row['attack']}: {text}" for row in entry["rows"] for text in _of_row(row, entry["request"]["seed"], read)]


def _of_row(row: Mapping[str, Any], seed: int, read: Read) -> Iterator[str]:
    from mia_hub.auditing.measurement import measure
    from mia_hub.scores import ScoreTable

    try:
        content = read(row["scores"])
    except KeyError:
        yield f"its scores {row['scores']} are missing"
        return
    if hashlib.sha256(content).hexdigest() != row["sha256"]:
        yield "its scores were changed"
        return
    measured = measure(ScoreTable.from_parquet(io.BytesIO(content)), seed=seed).at_selected
    if measured.timestep != row["timestep"]:
        yield f"the timestep is {measured.timestep}, and not {row['timestep']}"
        return
    yield from _of_figures(row, measured)


def _of_figures(row: Mapping[str, Any], measured: TimestepRow) -> Iterator[str]:
    pairs = [(figure, row[figure], getattr(measured, figure)) for figure in FIGURES]
    rates = {f"{rate:g}": value for rate, value in measured.tpr_at_fpr.items()}
    if set(rates) != set(row["tpr_at_fpr"]):
        yield f"it reports TPR at {sorted(row['tpr_at_fpr'])}, and can at {sorted(rates)}"
    pairs += [(f"TPR at FPR {rate}", row["tpr_at_fpr"][rate], value) for rate, value in rates.items() if rate in row["tpr_at_fpr"]]
    for figure, stated, value in pairs:
        for part in ("value", "low", "high", "n_members", "n_nonmembers"):
            if not math.isclose(stated[part], getattr(value, part), rel_tol=0, abs_tol=ROUNDING):
                yield f"{figure} ({part}) is {getattr(value, part)}, and not {stated[part]}"


def agree(entry: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two entries of one id agree: figures to the digits that are shown, whoever computed them when, on what machine.

    Args:
        entry, other: of `leaderboard.results.entry.parse_entry`.
    """
    rows = [[_machine_independent(row) for row in each["rows"]] for each in (entry, other)]
    shared = [{part: each[part] for part in ("origin", "model", "split", "command")} for each in (entry, other)]
    flags = [{flag["name"] for flag in each["flags"]} for each in (entry, other)]
    if rows[0] != rows[1] or shared[0] != shared[1] or flags[0] != flags[1]:
        return False
    pairs = [(entry["blind_auc"], other["blind_auc"])]
    for row, its in zip(entry["rows"], other["rows"]):
        pairs += [(row[figure], its[figure]) for figure in FIGURES]
        pairs += [(estimate, its["tpr_at_fpr"].get(rate)) for rate, estimate in row["tpr_at_fpr"].items()]
    return all(_alike(*pair) for pair in pairs)


def _machine_independent(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of a row that don't depend on the machine; the file of scores also says how long they took."""
    parts = {part: row[part] for part in ("attack", "access", "queries", "timestep", "scores")}
    return parts | {"flags": set(row["flags"]), "rates": set(row["tpr_at_fpr"])}


def _alike(estimate: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    if estimate is None or other is None:
        return estimate is other
    return all(math.isclose(estimate[part], other[part], rel_tol=0, abs_tol=AS_SHOWN) for part in ("value", "low", "high"))
