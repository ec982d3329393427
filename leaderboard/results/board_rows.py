"""From entries to the rows of the board: pure functions on plain values, without torch and without a store.

A *setting* is one model at one revision, queried about one split. Entries whose split fails the shift check, or can't be checked, are shown
apart and never ranked: where members and non-members differ visibly, an attack's figures say nothing about the model.

A further figure of the board starts in `KEYS` and `_figures`, a further property of a setting or an attack in `KEYS` and `_empty_row`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from leaderboard.requests.naming import is_local, repositories_of
from leaderboard.results.entry import COMPUTED
from mia_hub.rendering.numbers import with_interval

Entry = Mapping[str, Any]
Row = dict[str, Any]
SHIFTED = "distribution-shift"
PASSES, FAILS, NOT_CHECKED = "passes", "fails", "not checked"
RATE = "0.01"
# Attacks are ranked among those of similar cost: the largest number of queries of each class.
BUDGETS = {"1 query": 1, "2 to 5 queries": 5, "6 to 50 queries": 50, "more": math.inf}
UNKNOWN_BUDGET = "unknown"


def budget_of(queries: int | None) -> str:
    """Return the class of attacks, by cost, among which an attack is ranked."""
    if queries is None:
        return UNKNOWN_BUDGET
    return next(name for name, most in BUDGETS.items() if queries <= most)


def setting_of(entry: Entry) -> tuple[str, str, str]:
    """Return the model and its revision as requested, and the split's hash.

    The evaluation's own description of the model is not used: submitted scores come without one, and the setting is the same.
    """
    return entry["request"]["model"], entry["request"]["revision"] or "", entry["split"]["hash"]


def _lower(model: str) -> str:
    """Return a model's name with its ids on the Hub in lower case, in which each stands for one repository; other names as they are."""
    if is_local(model):
        return model
    for id in repositories_of(model):
        model = model.replace(id, id.lower(), 1)
    return model


def captions_of(entry: Entry) -> str:
    """Return the captions that a text-to-image model was conditioned on: "split" (the data set's own) or "empty"."""
    captions: str = entry["request"].get("captions", "split")
    return captions


def is_shifted(entry: Entry) -> bool:
    """Whether the split failed the shift check of this entry."""
    return any(flag["name"] == SHIFTED for flag in entry["flags"])


def shift_checks(entries: Iterable[Entry]) -> dict[str, str]:
    """Return the answer of the shift check for each split, by its hash: `PASSES`, `FAILS` or `NOT_CHECKED`.

    There is one answer per split, whichever entry it comes from: a flag of one entry holds for all of them.
    """
    answers: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        answer = FAILS if is_shifted(entry) else NOT_CHECKED if entry["blind_auc"] is None else PASSES
        answers[entry["split"]["hash"]].add(answer)
    return {split: next(answer for answer in (FAILS, PASSES, NOT_CHECKED) if answer in own) for split, own in answers.items()}


def ranked_and_apart(entries: Iterable[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Return the entries that are ranked, and those shown apart because their split fails the shift check or was not checked."""
    entries = list(entries)
    checks = shift_checks(entries)
    ranked: list[Entry] = []
    apart: list[Entry] = []
    for entry in entries:
        (ranked if checks[entry["split"]["hash"]] == PASSES else apart).append(entry)
    return ranked, apart


def board_rows(entries: Iterable[Entry]) -> list[Row]:
    """Return one row per setting, captions and attack, with the figures that we computed and those reported by others beside them.

    Where the same was computed more than once, or reported more than once by one submitter, the newest counts. Where several submitters
    report figures of the same attack, each has a row. The first of them shares the row of our own figures, so that nobody takes another's
    place. ``entries`` has the ids of all entries that went into a row, the newest last.
    """
    computed: dict[tuple[str, ...], Row] = {}
    reported: dict[tuple[str, ...], dict[str, Row]] = defaultdict(dict)
    in_order = sorted(entries, key=lambda entry: str(entry["provenance"].get("created", "")))
    # Names in another case are the same on the Hub; the newest entries have the Hub's own spelling.
    spellings = {_lower(setting_of(entry)[0]): setting_of(entry)[0] for entry in in_order}
    for entry in in_order:
        model, revision, split = setting_of(entry)
        model = spellings[_lower(model)]
        for result in entry["rows"]:
            key = (model, revision, split, captions_of(entry), result["attack"])
            if entry["origin"] == COMPUTED:
                row = computed.setdefault(key, _empty_row(entry, result, model))
                row |= _figures(result) | {"entry": entry["id"], "access": result["access"], "queries": result["queries"]}
                row["budget"] = budget_of(result["queries"])
            else:
                submitter = entry["request"]["submitter"]
                row = reported[key].setdefault(submitter, _empty_row(entry, result, model))
                row["reported"] = _figures(result) | {"entry": entry["id"], "by": submitter}
            row["entries"].append(entry["id"])
    return [row for key in dict.fromkeys((*computed, *reported)) for row in _merged(computed.get(key), [*reported[key].values()])]


def _figures(result: Mapping[str, Any]) -> Row:
    return {"auc": result["auc"], "asr": result["asr"], "tpr": result["tpr_at_fpr"].get(RATE), "timestep": result["timestep"]}


# Everything that a row of the board can have; a row from elsewhere has None where it knows nothing.
KEYS = (
    "model", "revision", "split", "split_hash", "captions", "attack", "access", "queries", "budget", "auc", "asr", "tpr", "timestep",
    "entry", "blind_auc", "reported",
)  # fmt: skip


def board_row(**values: Any) -> Row:
    """Return a row with these values, and with nothing else known."""
    return {**dict.fromkeys(KEYS), "entries": [], "claimed": [], **values}


def _empty_row(entry: Entry, result: Mapping[str, Any], model: str) -> Row:
    _, revision, split = setting_of(entry)
    return board_row(
        model=model, revision=revision, split=entry["split"]["name"], split_hash=split, captions=captions_of(entry),
        attack=result["attack"], access=result["access"], queries=result["queries"], budget=budget_of(result["queries"]),
        entry=entry["id"], blind_auc=entry["blind_auc"],
    )  # fmt: skip


def _merged(computed: Row | None, reported: Sequence[Row]) -> list[Row]:
    """Return the rows of one attack in one setting, from the figures we computed and those of each submitter, the first one first."""
    rows = [row | {"reproduced": _reproduction(row, computed)} for row in reported]
    if computed is None:
        return rows
    if not rows:
        return [computed | {"reproduced": ""}]
    first = {key: rows[0][key] for key in ("reported", "reproduced")}
    return [computed | first | {"entries": [*rows[0]["entries"], *computed["entries"]]}, *rows[1:]]


def _reproduction(row: Row, computed: Row | None) -> str:
    """Return "yes" if the reported AUC lies in our interval, "no" if it doesn't, and "not yet" if we have computed none."""
    if computed is None:
        return "not yet"
    low, high = computed["auc"]["low"], computed["auc"]["high"]
    return "yes" if low <= row["reported"]["auc"]["value"] <= high else "no"


def board_order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return a key that sorts rows by model, then by falling AUC; rows without a computed AUC come last."""
    return row["model"], row["auc"] is None, -(row["auc"] or {"value": 0})["value"], row["attack"]


def split_summaries(entries: Iterable[Entry]) -> list[Row]:
    """Return ``{"split", "split_hash", "models", "rows", "shift_check"}`` for each data set that there are results of."""
    entries = list(entries)
    checks = shift_checks(entries)
    summaries: dict[str, Row] = {}
    models: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        key = entry["split"]["hash"]
        summary = summaries.setdefault(key, {"split": entry["split"]["name"], "rows": 0, "shift_check": checks[key]})
        summary["rows"] += len(entry["rows"])
        models[key].add(_lower(setting_of(entry)[0]))
    in_order = sorted(summaries.items(), key=lambda pair: pair[1]["split"])
    return [summary | {"split_hash": key, "models": len(models[key])} for key, summary in in_order]


def estimate_text(estimate: Mapping[str, Any] | None) -> str:
    """Return a figure with its interval, as tables show it; "" for None."""
    return "" if estimate is None else with_interval(estimate["value"], estimate["low"], estimate["high"])
