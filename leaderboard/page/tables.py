"""From rows to what the page's tables are drawn from, and to rows for programs: pure functions, without torch and without Gradio."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from leaderboard.page.columns import ATTACKS, MODELS, Column, Row
from leaderboard.results.board_rows import BUDGETS, UNKNOWN_BUDGET
from leaderboard.results.ranking import attack_ranking, model_ranking


def payload(columns: Sequence[Column], rows: Iterable[Row], *, name: str, empty: str, link: Callable[[Row], str]) -> str:
    """Return a table for ``board_table.js``, as JSON: text costs Gradio nothing, and nested lists a second for ten thousand rows.

    Args:
        columns: of the table; one of them has the key "attack".
        rows: of `leaderboard.results.board_rows`.
        name: of the files that it is downloaded as.
        empty: message where there are no rows.
        link: function of a row that returns what a click on it opens, beside its attack: ``kind=id``.
    """
    rows = list(rows)
    described = [{"key": c.key, "name": c.name, "kind": c.kind, "help": c.help, "facet": c.facet, "width": c.width} for c in columns]
    cells = [[column.of(row) for column in columns] for row in rows]
    table = {"name": name, "columns": described, "rows": cells, "links": [link(row) for row in rows], "empty": empty}
    return json.dumps(table, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def entry_link(row: Row) -> str:
    """Return the link to a row's entry, or to the published setting that it claims for."""
    if row["entry"] is None:
        return f"benchmark={row['claimed'][0]['benchmark']}"
    return f"entry={row['entry'] if row.get('auc') is not None else row['reported']['entry']}"


def attack_link(row: Row) -> str:
    """Return the link to an attack in all settings that it was run in, at this cost."""
    return f"budget={row['budget']}"


def attacks_table(entries: Iterable[Row], empty: str) -> str:
    """Return the table of attacks, ranked within their budgets."""
    rows, places = [], dict.fromkeys((*BUDGETS, UNKNOWN_BUDGET), 0)
    for row in attack_ranking(entries):
        places[row["budget"]] += 1
        rows.append(row | {"rank": places[row["budget"]]})
    return payload(ATTACKS, rows, name="leaderboard-attacks", empty=empty, link=attack_link)


def models_table(entries: Iterable[Row], empty: str) -> str:
    """Return the table of models, by the strongest attack's figures."""
    return payload(MODELS, model_ranking(entries), name="leaderboard-models", empty=empty, link=entry_link)


def rows_table(columns: Sequence[Column], rows: Sequence[Row], name: str, empty: str) -> str:
    """Return a table of rows as they are."""
    return payload(columns, rows, name=name, empty=empty, link=entry_link)


def for_programs(row: Row) -> dict[str, Any]:
    """Return a row with all that is known, JSON-ready; figures as ``{"value", "low", "high", "n_members", "n_nonmembers"}``."""
    keys = (
        "model",
        "revision",
        "split",
        "split_hash",
        "captions",
        "attack",
        "access",
        "queries",
        "budget",
        "timestep",
        "auc",
        "asr",
        "blind_auc",
    )
    return {key: row[key] for key in keys} | {
        "tpr_at_1_fpr": row["tpr"],
        "computed": row["auc"] is not None,
        "self_reported": row["reported"],
        "reproduced": row["reproduced"],
        "claimed": row["claimed"],
        "entry": row["entry"],
    }
