"""An entry of the board: what one request came to, with everything that is needed to compute its figures again."""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from leaderboard.errors import StoreError
from leaderboard.requests.naming import LOCAL_PREFIX, is_local
from leaderboard.results.trained import check_trained
from mia_hub.errors import MiaHubError, first_line

if TYPE_CHECKING:
    from mia_hub.auditing.report import AuditReport
    from mia_hub.metrics.estimates import Estimate

SCHEMA = 1
COMPUTED, SELF_REPORTED = "computed", "self-reported"
FIGURES = ("auc", "asr")
ROUNDING = 1e-12
# Another machine rounds otherwise, by which pairs of images may change places.
AS_SHOWN = 1e-3
ACCESS = ("black", "gray", "white", "unknown")
# An entry's files, by the number of the row: where its scores lie, and its report.
SCORES = re.compile(r"scores/([0-9]{2})\.parquet")
MOST_ROWS, LONGEST_TEXT = 100, 4000


def build_entry(request, rows: list[dict[str, Any]], *, model: dict, split: dict, blind: Estimate | None, flags, provenance: dict) -> dict:
    """An entry as it is stored.

    Args:
        request: the `leaderboard.requests.submission.Request`.
        rows: of `build_row`, one per attack.
        model, split: as reports describe them.
        blind: AUC of the blind classifier, or None.
        flags: those that concern all rows, as `mia_hub.flags.Flag`.
        provenance: versions and time.
    """
    return {
        "schema": SCHEMA,
        "id": request.id,
        "origin": COMPUTED if request.kind == "model" else SELF_REPORTED,
        "request": request.to_dict(),
        "model": model,
        "split": split,
        "blind_auc": None if blind is None else asdict(blind),
        "flags": [asdict(flag) for flag in flags],
        "rows": rows,
        "command": command_of(request),
        "provenance": provenance,
    }


def build_row(label: str, report: AuditReport, scores: str, content: bytes, *, access: str, queries: int | None) -> dict[str, Any]:
    """One attack of an entry.

    Args:
        label: how the attack is written.
        report: its audit.
        scores: path of its scores, below the entry's folder.
        content: of that file.
        access: "black", "gray" or "white"; "unknown" for scores that others made.
        queries: forward passes per image for the score that is reported, or None where unknown.
    """
    return {
        "attack": label,
        "access": access,
        "queries": queries,
        "timestep": report.timestep,
        **{name: asdict(getattr(report, name)) for name in FIGURES},
        "tpr_at_fpr": {f"{rate:g}": asdict(found) for rate, found in report.tpr_at_fpr.items()},
        "flags": [flag.name for flag in report.flags],
        "scores": scores,
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def command_of(request) -> str:
    """The command that reproduces an entry, or checks its figures; of what is local it is run in the folder of that."""
    if request.kind == "scores":
        return f"python -m leaderboard.verify {request.id}"
    import shlex

    words = [
        "mia-hub",
        "compare",
        "--model",
        _found_at(request.model),
        "--split",
        _found_at(request.split),
        "--attacks",
        *request.attacks,
        "--seed",
        str(request.seed),
    ]
    words += ["--revision", request.revision] if request.revision and not is_local(request.model) else []
    words += ["--split-revision", request.split_revision] if request.split_revision and not is_local(request.split) else []
    words += ["--captions", request.captions] if request.captions != "split" else []
    return shlex.join(words)


def _found_at(name: str) -> str:
    """What a command has to be given for a name, in the folder of local models."""
    return name.replace(LOCAL_PREFIX, "./") if is_local(name) else name


def recomputed(entry: Mapping[str, Any], read) -> list[str]:
    """What of an entry's figures doesn't follow from its scores; nothing, for an honest entry.

    Args:
        entry: as stored.
        read: path below the entry's folder to content.

    Returns:
        One line per discrepancy.
    """
    from mia_hub.auditing.measurement import measure
    from mia_hub.scores import ScoreTable

    wrong = []
    for row in entry["rows"]:
        name = row["attack"]
        try:
            content = read(row["scores"])
        except KeyError:
            wrong.append(f"{name}: its scores {row['scores']} are missing")
            continue
        if hashlib.sha256(content).hexdigest() != row["sha256"]:
            wrong.append(f"{name}: its scores were changed")
            continue
        table = ScoreTable.from_parquet(io.BytesIO(content))
        found = measure(table, seed=entry["request"]["seed"])
        if found.at_selected.timestep != row["timestep"]:
            wrong.append(f"{name}: the timestep is {found.at_selected.timestep}, and not {row['timestep']}")
            continue
        pairs = [(figure, row[figure], getattr(found.at_selected, figure)) for figure in FIGURES]
        rates = {f"{rate:g}": value for rate, value in found.at_selected.tpr_at_fpr.items()}
        if set(rates) != set(row["tpr_at_fpr"]):
            wrong.append(f"{name}: it reports TPR at {sorted(row['tpr_at_fpr'])}, and can at {sorted(rates)}")
        pairs += [(f"TPR at FPR {rate}", row["tpr_at_fpr"][rate], value) for rate, value in rates.items() if rate in row["tpr_at_fpr"]]
        for figure, said, value in pairs:
            for part in ("value", "low", "high", "n_members", "n_nonmembers"):
                if not math.isclose(said[part], getattr(value, part), rel_tol=0, abs_tol=ROUNDING):
                    wrong.append(f"{name}: {figure} ({part}) is {getattr(value, part)}, and not {said[part]}")
    return wrong


def says_the_same(entry: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two entries of one id come to the same: figures to the digits that are shown, whoever computed them when, on what machine.

    Args:
        entry, other: of `parse_entry`.
    """
    rows = [[_same_everywhere(row) for row in each["rows"]] for each in (entry, other)]
    shared = [{part: each[part] for part in ("origin", "model", "split", "command")} for each in (entry, other)]
    flags = [{flag["name"] for flag in each["flags"]} for each in (entry, other)]
    pairs = [(entry["blind_auc"], other["blind_auc"])]
    for row, its in zip(entry["rows"], other["rows"]):
        pairs += [(row[figure], its[figure]) for figure in FIGURES]
        pairs += [(found, its["tpr_at_fpr"].get(rate)) for rate, found in row["tpr_at_fpr"].items()]
    return rows[0] == rows[1] and shared[0] == shared[1] and flags[0] == flags[1] and all(_alike(*pair) for pair in pairs)


def _same_everywhere(row: Mapping[str, Any]) -> dict[str, Any]:
    """What of a row doesn't depend on the machine; the scores' own file also says how long they took."""
    kept = {part: row[part] for part in ("attack", "access", "queries", "timestep", "scores")}
    return kept | {"flags": set(row["flags"]), "rates": set(row["tpr_at_fpr"])}


def _alike(estimate: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    if estimate is None or other is None:
        return estimate is other
    return all(math.isclose(estimate[part], other[part], rel_tol=0, abs_tol=AS_SHOWN) for part in ("value", "low", "high"))


def parse_entry(content: bytes, id: str) -> dict[str, Any]:
    """An entry from its file, with its schema and bounds checked. No model code is loaded for it.

    Raises:
        StoreError: if it is none, or not that of ``id``.
    """
    from leaderboard.requests.submission import Request

    try:
        entry = json.loads(content)
        if entry["schema"] != SCHEMA or entry["id"] != id:
            raise ValueError(f"its schema is {entry['schema']} and its id {entry['id']}")
        request = Request.from_dict(entry["request"], past=True)
        if request.id != id:
            raise ValueError("its request is another one")
        if entry["origin"] != (COMPUTED if request.kind == "model" else SELF_REPORTED):
            raise ValueError(f"it calls itself {entry['origin']}")
        if not 0 < len(entry["rows"]) <= MOST_ROWS:
            raise ValueError(f"it has {len(entry['rows'])} rows")
        for row in entry["rows"]:
            _check_row(row)
        if entry["blind_auc"] is not None:
            _check_estimate("blind_auc", entry["blind_auc"])
        _check_described(entry)
        check_trained(entry.get("trained", []))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, MiaHubError) as error:
        raise StoreError(f"The entry {id} can't be understood ({first_line(error)[:200]}).") from error
    return entry


def _check_described(entry: dict[str, Any]) -> None:
    for part in ("model", "split", "provenance"):
        if not isinstance(entry[part], dict):
            raise ValueError(f"its {part} is no object")
    model, split = entry["model"], entry["split"]
    named = {"its model": model["id"], "its split": split["name"], "its split's hash": split["hash"], "its command": entry["command"]}
    named |= {"its model's revision": model.get("revision") or "none", "its time": entry["provenance"]["created"]}
    _check_texts(named | {f"note {number} of its split": note for number, note in enumerate(split.get("notes", []))})
    for flag in entry["flags"]:
        _check_texts({f"a flag's {part}": flag[part] for part in ("name", "raised_by", "meaning")})


def _check_texts(named: Mapping[str, Any]) -> None:
    for what, text in named.items():
        if not isinstance(text, str) or not text or len(text) > LONGEST_TEXT or not text.isprintable():
            raise ValueError(f"{what} is {text!r:.60}, and should be a line of text")


def _check_row(row: dict[str, Any]) -> None:
    for name in FIGURES:
        _check_estimate(name, row[name])
    for rate, found in row["tpr_at_fpr"].items():
        if not 0 < float(rate) < 1:
            raise ValueError(f"it has a TPR at FPR {rate}")
        _check_estimate(rate, found)
    _check_texts({"an attack": row["attack"]} | {f"flag {number}": name for number, name in enumerate(row["flags"])})
    if isinstance(row["timestep"], bool) or not isinstance(row["timestep"], int):
        raise ValueError("a row has no timestep")
    if row["access"] not in ACCESS:
        raise ValueError(f"its access is {row['access']!r:.20}")
    if not SCORES.fullmatch(row["scores"]) or not re.fullmatch("[0-9a-f]{64}", row["sha256"]):
        raise ValueError("a row doesn't say which scores it comes from")
    queries = row["queries"]
    if queries is not None and (isinstance(queries, bool) or not isinstance(queries, int) or queries < 0):
        raise ValueError(f"its queries are {queries!r:.20}")


def _check_estimate(name: str, found: dict[str, Any]) -> None:
    value, low, high = (found[part] for part in ("value", "low", "high"))
    if not all(isinstance(part, (int, float)) for part in (value, low, high)) or not 0 <= low <= value <= high <= 1:
        raise ValueError(f"its {name} is {value!r:.20} [{low!r:.20}, {high!r:.20}]")
    if not all(isinstance(found[part], int) and found[part] >= 1 for part in ("n_members", "n_nonmembers")):
        raise ValueError(f"its {name} is of no images")
