"""From entries to tables: pure functions on plain values, without torch and without a store.

A *setting* is one model at one revision asked about one split. Entries whose split fails the shift check, or can't be checked, are shown
apart and never ranked: where members and non-members differ visibly, an attack's figures say nothing about the model.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from leaderboard.results.entry import COMPUTED

Entry = Mapping[str, Any]
SHIFTED = "distribution-shift"
PASSES, FAILS, NOT_CHECKED = "passes", "fails", "not checked"
RATE = "0.01"
# Attacks are ranked among those that cost about as much: the largest number of queries of each class.
BUDGETS = {"1 query": 1, "2 to 5 queries": 5, "6 to 50 queries": 50, "more": math.inf}
UNKNOWN_BUDGET = "unknown"
NORMAL_95 = 1.959963984540054


def budget_of(queries: int | None) -> str:
    """The class of attacks that one is ranked among."""
    if queries is None:
        return UNKNOWN_BUDGET
    return next(name for name, most in BUDGETS.items() if queries <= most)


def setting_of(entry: Entry) -> tuple[str, str, str]:
    """Model and its revision as they were requested, and the split's hash.

    Not as the evaluation describes the model: of scores that others made nobody was there to describe it, and the setting is the same.
    """
    return entry["request"]["model"], entry["request"]["revision"] or "", entry["split"]["hash"]


def told(entry: Entry) -> str:
    """Which captions a text-to-image model was told: "split" (the data set's own) or "empty"."""
    return entry["request"].get("captions", "split")


def is_shifted(entry: Entry) -> bool:
    """Whether the split failed the shift check of this entry."""
    return any(flag["name"] == SHIFTED for flag in entry["flags"])


def shift_checks(entries: Iterable[Entry]) -> dict[str, str]:
    """What the shift check says of each split, by its hash: `PASSES`, `FAILS` or `NOT_CHECKED`.

    It is one answer per split, whichever entry it comes from: what one entry flags holds for all of them.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        says = FAILS if is_shifted(entry) else NOT_CHECKED if entry["blind_auc"] is None else PASSES
        found[entry["split"]["hash"]].add(says)
    return {split: next(says for says in (FAILS, PASSES, NOT_CHECKED) if says in said) for split, said in found.items()}


def parted(entries: Iterable[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Those that are ranked, and those that are shown apart: whose split fails the shift check, or was not checked."""
    entries = list(entries)
    checks, ranked, apart = shift_checks(entries), [], []
    for entry in entries:
        (ranked if checks[entry["split"]["hash"]] == PASSES else apart).append(entry)
    return ranked, apart


def rows_of(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """One row per setting, captions told and attack; the figures that we computed, and beside them those that others report.

    Where the same was computed more than once, or reported more than once by one submitter, the newest counts. Where several submitters
    report figures of the same attack, each has a row: the first of them the one with our figures, so that nobody takes another's place.
    ``entries`` has the ids of all that went into a row, the newest last.
    """
    computed: dict[tuple, dict[str, Any]] = {}
    reported: dict[tuple, dict[str, dict[str, Any]]] = defaultdict(dict)
    for entry in sorted(entries, key=lambda entry: str(entry["provenance"].get("created", ""))):
        for row in entry["rows"]:
            key = (*setting_of(entry), told(entry), row["attack"])
            figures = {"auc": row["auc"], "asr": row["asr"], "tpr": row["tpr_at_fpr"].get(RATE), "timestep": row["timestep"]}
            if entry["origin"] == COMPUTED:
                merged = computed.setdefault(key, _blank(entry, row))
                merged |= figures | {"entry": entry["id"], "access": row["access"], "queries": row["queries"]}
                merged["budget"] = budget_of(row["queries"])
            else:
                by = entry["request"]["submitter"]
                merged = reported[key].setdefault(by, _blank(entry, row))
                merged["reported"] = figures | {"entry": entry["id"], "by": by}
            merged["entries"].append(entry["id"])
    return [row for key in dict.fromkeys((*computed, *reported)) for row in _together(computed.get(key), [*reported[key].values()])]


def _together(computed: dict[str, Any] | None, reported: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of one attack in one setting, from what we computed and what each submitter reports, the first submitter first."""
    rows = [row | {"reproduced": _reproduced(row, computed)} for row in reported]
    if computed is None:
        return rows
    if not rows:
        return [computed | {"reproduced": ""}]
    first = {key: rows[0][key] for key in ("reported", "reproduced")}
    return [computed | first | {"entries": [*rows[0]["entries"], *computed["entries"]]}, *rows[1:]]


def _blank(entry: Entry, row: Mapping[str, Any]) -> dict[str, Any]:
    model, revision, split = setting_of(entry)
    return {
        "model": model,
        "revision": revision,
        "split": entry["split"]["name"],
        "split_hash": split,
        "captions": told(entry),
        "attack": row["attack"],
        "access": row["access"],
        "queries": row["queries"],
        "budget": budget_of(row["queries"]),
        "auc": None,
        "asr": None,
        "tpr": None,
        "timestep": None,
        "entry": entry["id"],
        "entries": [],
        "blind_auc": entry["blind_auc"],
        "reported": None,
        "claimed": [],
    }


def _reproduced(row: Mapping[str, Any], computed: Mapping[str, Any] | None) -> str:
    """Whether what others report was found again: its AUC inside of our interval."""
    if computed is None:
        return "not yet"
    low, high = computed["auc"]["low"], computed["auc"]["high"]
    return "yes" if low <= row["reported"]["auc"]["value"] <= high else "no"


def attacks_ranked(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Attacks by how well they do over settings, ranked among those of about the same cost.

    Only what we computed counts. The rank in one setting is by AUC, ties sharing their mean rank; `mean_rank` averages it over the settings
    in which the attack was run, relative to how many were ranked there: 0 is always first, 1 always last.

    Returns:
        Rows ``{"attack", "access", "budget", "settings", "entries", "mean_rank", "compared", "auc", "tpr"}``, the best first within each
        budget; ``compared`` is in how many settings another attack of the budget was run;
        ``auc`` and ``tpr`` are ``{"value", "low", "high", "n"}``: the mean over settings, with the interval that follows from those of
        its parts.
    """
    settings = defaultdict(list)
    for row in rows_of(entries):
        if row["auc"] is not None:
            settings[row["model"], row["revision"], row["split_hash"], row["captions"], row["budget"]].append(row)
    gathered = defaultdict(lambda: defaultdict(list))
    for rows in settings.values():
        for row, rank in zip(rows, _relative_ranks([row["auc"]["value"] for row in rows])):
            own = gathered[row["attack"], row["budget"]]
            own["rank"].append(rank)
            own["compared"].append(len(rows) > 1)
            own["auc"].append(row["auc"])
            own["access"].append(row["access"])
            own["entry"].append(row["entry"])
            if row["tpr"] is not None:
                own["tpr"].append(row["tpr"])
    table = [
        {
            "attack": attack,
            "access": own["access"][-1],
            "budget": budget,
            "settings": len(own["rank"]),
            "entries": own["entry"],
            "mean_rank": sum(own["rank"]) / len(own["rank"]),
            "compared": sum(own["compared"]),
            "auc": mean_of(own["auc"]),
            "tpr": mean_of(own["tpr"]),
        }
        for (attack, budget), own in gathered.items()
    ]
    order = [*BUDGETS, UNKNOWN_BUDGET]
    return sorted(table, key=lambda row: (order.index(row["budget"]), row["mean_rank"], -row["auc"]["value"], row["attack"]))


def _relative_ranks(values: Sequence[float]) -> list[float]:
    """0 for the largest … 1 for the smallest; ties share; a single one is in the middle."""
    n = len(values)
    if n == 1:
        return [0.5]
    above = [(sum(other > value for other in values), sum(other == value for other in values)) for value in values]
    return [(higher + (same - 1) / 2) / (n - 1) for higher, same in above]


def mean_of(estimates: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The mean of independent figures, with the 95 % interval that follows from theirs; None of none.

    It speaks of these settings, and not of others that one might add: how much settings differ is seen in one data set's table.
    """
    if not estimates:
        return None
    n = len(estimates)
    value = sum(e["value"] for e in estimates) / n
    below, above = (math.sqrt(sum((e[side] - e["value"]) ** 2 for e in estimates)) / n for side in ("low", "high"))
    return {"value": value, "low": max(0.0, value - below), "high": min(1.0, value + above), "n": n}


def models_ranked(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Models by leakage: in each setting, what the strongest attack finds.

    The largest of several figures is too large by chance; its interval is widened for the number of attacks that it was picked from
    (Bonferroni), so that its lower end still holds at 97.5 %.

    Returns:
        One row per setting, the one whose lower end is highest first: ``{"model", "revision", "split", "attack", "attacks", "auc", "tpr",
        "entry"}``, with the number of attacks that it is the strongest of.
    """
    settings = defaultdict(list)
    for row in rows_of(entries):
        if row["auc"] is not None:
            settings[row["model"], row["revision"], row["split_hash"]].append(row)
    table = []
    for rows in settings.values():
        best = max(rows, key=lambda row: row["auc"]["value"])
        kept = {key: best[key] for key in ("model", "revision", "split", "split_hash", "attack", "queries", "entry", "blind_auc")}
        tpr = best["tpr"] and widened(best["tpr"], len(rows))
        table.append(kept | {"attacks": len(rows), "auc": widened(best["auc"], len(rows)), "tpr": tpr})
    return sorted(table, key=lambda row: (-row["auc"]["low"], row["model"], row["split_hash"]))


def widened(estimate: Mapping[str, Any], tried: int) -> dict[str, Any]:
    """A 95 % interval widened for the number of attacks that its figure is the largest of, on a normal scale."""
    from statistics import NormalDist

    factor = NormalDist().inv_cdf(1 - 0.025 / tried) / NORMAL_95
    value, low, high = (estimate[part] for part in ("value", "low", "high"))
    wide = {"low": max(0.0, value - factor * (value - low)), "high": min(1.0, value + factor * (high - value))}
    return dict(estimate) | wide


def by_model_then_auc(row: Mapping[str, Any]) -> tuple:
    """To sort rows by: the models in order, of each the highest AUC first, those that were not computed last."""
    return row["model"], row["auc"] is None, -(row["auc"] or {"value": 0})["value"], row["attack"]


def with_claims(rows: Iterable[Mapping[str, Any]], claims: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows with the figures that papers claim beside them, and a row for each claim that nothing was computed for. Claims rank nothing.

    A claim belongs to a row if the row's setting is that of the published one (`is_setting`) and its attack is the published one, whatever
    its parameters.

    Args:
        rows: of `rows_of`.
        claims: of `leaderboard.results.claimed.claimed_figures`.
    """
    found = [dict(row) | {"claimed": []} for row in rows]
    by_attack = defaultdict(list)
    for row in found:
        by_attack[name_of(row["attack"])].append(row)
    alone: dict[tuple[str, str], dict[str, Any]] = {}
    for claim in claims:
        matched = [row for row in by_attack[claim["attack"]] if is_setting(row, claim)]
        if not matched:
            matched = [alone.setdefault((claim["benchmark"], claim["attack"]), _unfilled(claim))]
        for row in matched:
            row["claimed"].append(claim)
    return [*found, *alone.values()]


def name_of(attack: str) -> str:
    """An attack's name without its parameters."""
    return attack.partition(":")[0]


def is_setting(row: Mapping[str, Any], claim: Mapping[str, Any]) -> bool:
    """Whether a row is of a published setting: by the names of its split and of its model.

    The split must be named as the setting: that of ``mia-hub benchmark run NAME``, or a data set ``anyone/NAME``. The model must be the
    setting's own, where that is on the Hub; where it is not public, any model counts, and that it was trained on just these members is
    taken on trust.
    """
    split, name = row["split"], claim["benchmark"]
    same_split = split.rpartition("/")[2] == name or split == f"benchmark {name}" or split.startswith(f"benchmark {name},")
    return same_split and claim["model_id"] in (None, row["model"])


def _unfilled(claim: Mapping[str, Any]) -> dict[str, Any]:
    names = {"model": claim["model"], "split": f"benchmark {claim['benchmark']}", "attack": claim["attack"], "budget": UNKNOWN_BUDGET}
    keys = ("revision", "split_hash", "captions", "access", "queries", "auc", "asr", "tpr", "timestep", "entry", "blind_auc", "reported")
    return dict.fromkeys(keys) | names | {"entries": [], "reproduced": "", "claimed": []}


def splits_of(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """The data sets that there are results of: ``{"split", "split_hash", "models", "rows", "shift_check"}``."""
    entries = list(entries)
    checks = shift_checks(entries)
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        key = entry["split"]["hash"]
        own = found.setdefault(key, {"split": entry["split"]["name"], "models": set(), "rows": 0, "shift_check": checks[key]})
        own["models"].add(setting_of(entry)[0])
        own["rows"] += len(entry["rows"])
    return [
        own | {"split_hash": key, "models": len(own["models"])} for key, own in sorted(found.items(), key=lambda pair: pair[1]["split"])
    ]


def shown(estimate: Mapping[str, Any] | None) -> str:
    """A figure with its interval, as tables have it."""
    if estimate is None:
        return ""
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"
