"""Figures that papers claim, from the settings of `mia_hub.auditing.published_settings`: never mixed with what was computed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from leaderboard.results.board_rows import UNKNOWN_BUDGET, Row, board_row


@cache
def published_claims() -> tuple[dict[str, Any], ...]:
    """Return one claim per published figure.

    Returns:
        ``{"benchmark", "title", "model", "model_id", "shifted", "attack", "metric", "value", "source", "positive", "selection", "note"}``;
        ``model_id`` is None where the model isn't public, ``shifted`` says whether the setting's members and non-members are known to
        differ by themselves.
    """
    from mia_hub.auditing.published_settings import list_benchmarks, load_benchmark

    claims = []
    for name in list_benchmarks():
        setting = load_benchmark(name)
        shared = {"benchmark": name, "title": setting.title, "model": setting.model.name, "model_id": setting.model.id}
        for figure in setting.published:
            own = {key: getattr(figure, key) for key in ("attack", "metric", "value", "source", "positive", "selection", "note")}
            claims.append(shared | {"shifted": setting.shift.known is True} | own)
    return tuple(claims)


def rows_with_claims(rows: Iterable[Mapping[str, Any]], claims: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Return rows with the claimed figures beside them, and a row for each claim that nothing was computed for. Claims rank nothing.

    A claim belongs to a row if the row's setting is that of the published one (`is_claimed_setting`) and its attack is the published one,
    whatever its parameters.

    Args:
        rows: of `leaderboard.results.board_rows.board_rows`.
        claims: of `published_claims`.
    """
    with_claims: list[Row] = [dict(row) | {"claimed": []} for row in rows]
    by_attack = defaultdict(list)
    for row in with_claims:
        by_attack[attack_name(row["attack"])].append(row)
    alone: dict[tuple[str, str], Row] = {}
    for claim in claims:
        matches = [row for row in by_attack[claim["attack"]] if is_claimed_setting(row, claim)]
        if not matches:
            matches = [alone.setdefault((claim["benchmark"], claim["attack"]), _row_without_results(claim))]
        for row in matches:
            row["claimed"].append(claim)
    return [*with_claims, *alone.values()]


def attack_name(attack: str) -> str:
    """Return an attack's name without its parameters."""
    return attack.partition(":")[0]


def is_claimed_setting(row: Mapping[str, Any], claim: Mapping[str, Any]) -> bool:
    """Whether a row is of a published setting: by the names of its split and of its model.

    The split must be named as the setting: that of ``mia-hub benchmark run NAME``, or a data set ``anyone/NAME``. The model must be the
    setting's own, where that is on the Hub; where it is not public, any model counts, and that it was trained on just these members is
    taken on trust. Ids in any case are the same.
    """
    split, name = row["split"], claim["benchmark"]
    same_split = split.rpartition("/")[2].lower() == name.lower() or split == f"benchmark {name}" or split.startswith(f"benchmark {name},")
    return same_split and (claim["model_id"] is None or claim["model_id"].lower() == row["model"].lower())


def _row_without_results(claim: Mapping[str, Any]) -> Row:
    return board_row(
        model=claim["model"], split=f"benchmark {claim['benchmark']}", attack=claim["attack"], budget=UNKNOWN_BUDGET, reproduced=""
    )
