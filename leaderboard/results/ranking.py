"""Rankings over all settings: attacks by how well they do among those of their cost, models by how much they leak."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from leaderboard.results.board_rows import BUDGETS, UNKNOWN_BUDGET, Entry, Row, board_rows

NORMAL_95 = 1.959963984540054


def attack_ranking(entries: Iterable[Entry]) -> list[Row]:
    """Rank attacks over settings, among those of about the same cost.

    Only figures that we computed count. The rank in one setting is by AUC, ties sharing their mean rank; `mean_rank` averages it over the
    settings in which the attack was run, relative to how many were ranked there: 0 is always first, 1 always last.

    Returns:
        Rows ``{"attack", "access", "budget", "settings", "entries", "mean_rank", "compared", "auc", "tpr"}``, the best first within each
        budget. ``compared`` is the number of settings in which another attack of the budget was run; ``auc`` and ``tpr`` are
        ``{"value", "low", "high", "n"}``: the mean over settings, with the interval that follows from those of its parts.
    """
    settings = defaultdict(list)
    for row in board_rows(entries):
        if row["auc"] is not None:
            settings[row["model"], row["revision"], row["split_hash"], row["captions"], row["budget"]].append(row)
    results: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for rows in settings.values():
        for row, rank in zip(rows, _relative_ranks([row["auc"]["value"] for row in rows])):
            results[row["attack"], row["budget"]].append(row | {"rank": rank, "compared": len(rows) > 1})
    table = [
        {
            "attack": attack,
            "access": rows[-1]["access"],
            "budget": budget,
            "settings": len(rows),
            "entries": [row["entry"] for row in rows],
            "mean_rank": sum(row["rank"] for row in rows) / len(rows),
            "compared": sum(row["compared"] for row in rows),
            "auc": mean_estimate([row["auc"] for row in rows]),
            "tpr": mean_estimate([row["tpr"] for row in rows if row["tpr"] is not None]),
        }
        for (attack, budget), rows in results.items()
    ]
    order = [*BUDGETS, UNKNOWN_BUDGET]
    return sorted(table, key=lambda row: (order.index(row["budget"]), row["mean_rank"], -row["auc"]["value"], row["attack"]))


def _relative_ranks(values: Sequence[float]) -> list[float]:
    """Return 0 for the largest … 1 for the smallest; ties share their mean rank, and a single value has 0.5."""
    n = len(values)
    if n == 1:
        return [0.5]
    above = [(sum(other > value for other in values), sum(other == value for other in values)) for value in values]
    return [(higher + (same - 1) / 2) / (n - 1) for higher, same in above]


def mean_estimate(estimates: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the mean of independent figures, with the 95 % interval that follows from theirs; None for no figures.

    The interval is about these settings, not about others that one might add: one data set's table shows how much settings differ.
    """
    if not estimates:
        return None
    n = len(estimates)
    value = sum(e["value"] for e in estimates) / n
    below, above = (math.sqrt(sum((e[side] - e["value"]) ** 2 for e in estimates)) / n for side in ("low", "high"))
    return {"value": value, "low": max(0.0, value - below), "high": min(1.0, value + above), "n": n}


def model_ranking(entries: Iterable[Entry]) -> list[Row]:
    """Rank models by leakage: in each setting, the result of the strongest attack.

    The largest of several figures is too large by chance. Its interval is widened for the number of attacks that it was picked from
    (Bonferroni), so that its lower end still holds at 97.5 %.

    Returns:
        One row per setting, the one whose lower end is highest first: ``{"model", "revision", "split", "attack", "attacks", "auc", "tpr",
        "entry"}``, with the number of attacks that it is the strongest of.
    """
    settings = defaultdict(list)
    for row in board_rows(entries):
        if row["auc"] is not None:
            settings[row["model"], row["revision"], row["split_hash"]].append(row)
    table = []
    for rows in settings.values():
        best = max(rows, key=lambda row: row["auc"]["value"])
        shared = {key: best[key] for key in ("model", "revision", "split", "split_hash", "attack", "queries", "entry", "blind_auc")}
        tpr = best["tpr"] and bonferroni_interval(best["tpr"], len(rows))
        table.append(shared | {"attacks": len(rows), "auc": bonferroni_interval(best["auc"], len(rows)), "tpr": tpr})
    return sorted(table, key=lambda row: (-row["auc"]["low"], row["model"], row["split_hash"]))


def bonferroni_interval(estimate: Mapping[str, Any], tried: int) -> dict[str, Any]:
    """Widen a 95 % interval for the number of attacks that its figure is the largest of, on a normal scale."""
    from statistics import NormalDist

    factor = NormalDist().inv_cdf(1 - 0.025 / tried) / NORMAL_95
    value, low, high = (estimate[part] for part in ("value", "low", "high"))
    wide = {"low": max(0.0, value - factor * (value - low)), "high": min(1.0, value + factor * (high - value))}
    return dict(estimate) | wide
