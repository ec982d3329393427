"""From rows to what the page's tables are drawn from, and to rows for programs: pure functions, without torch and without Gradio.

A cell is text, a number, or a figure ``[value, low, high]``; None is empty. Text is passed on as it is: whoever shows it, shows it as text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from leaderboard.results.board_rows import BUDGETS, UNKNOWN_BUDGET
from leaderboard.results.ranking import attack_ranking, model_ranking

TEXT, NUMBER, MEAN, DECIMAL, PERCENT, CLAIMS = "text", "number", "mean", "decimal", "percent", "claims"
LONGEST_CELL = 200
# More than any figure is certain to; all digits are in the entry's files.
DIGITS = 6
NOT_STATED = "not stated"
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: its name in files.
        name: its heading.
        kind: TEXT, NUMBER, MEAN (two decimals), DECIMAL or PERCENT (figures with their intervals) or CLAIMS.
        help: what it means.
        cell: the cell of a row; by default what the row has under ``key``.
        facet: whether one may choose among its values.
        width: in characters.
    """

    key: str
    name: str
    kind: str
    help: str
    cell: Callable[[Row], Any] | None = None
    facet: bool = False
    width: int = 7

    def of(self, row: Row) -> Any:
        value = row[self.key] if self.cell is None else self.cell(row)
        if self.kind in (DECIMAL, PERCENT):
            return None if value is None else [round(value[part], DIGITS) for part in ("value", "low", "high")]
        if self.kind == CLAIMS:
            return [[claim["value"], claim_text(claim)] for claim in value if claim["metric"] == "auc"] or None
        return str(value)[:LONGEST_CELL] if self.kind == TEXT and value is not None else value


def claim_text(claim: Row) -> str:
    """Where a published figure comes from, and what makes it hard to compare."""
    said = {"reported images": "its timestep was chosen on the reported images, which is optimistic"}
    note = f"; {claim['note']}" if claim["note"] else ""
    return f"{claim['source']}; {said.get(claim['selection'], 'selection: ' + claim['selection'])}{note}"


def _reported(row: Row) -> dict[str, Any] | None:
    return row["reported"] and row["reported"]["auc"]


def _by(row: Row) -> str | None:
    return row["reported"] and (row["reported"]["by"] or "unknown")


def _access(row: Row) -> str:
    return NOT_STATED if row["access"] in (None, "unknown") else row["access"]


def _budget(row: Row) -> str:
    return NOT_STATED if row["budget"] == UNKNOWN_BUDGET else row["budget"]


def _split(row: Row) -> str:
    # Every drawn benchmark is named so, and its own name begins too far right.
    return row["split"].removeprefix("benchmark ")


def _mean_rank(row: Row) -> float | None:
    return row["mean_rank"] if row["compared"] else None


MODEL = Column("model", "Model", TEXT, "Hub id of the model that was asked", facet=True, width=26)
SPLIT = Column("split", "Data set", TEXT, "Members and non-members: a split by its name", cell=_split, facet=True, width=18)
ATTACK = Column("attack", "Attack", TEXT, "The attack, with the parameters that differ from its defaults", width=23)
BUDGET = Column(
    "budget", "Budget", TEXT, "Attacks are ranked among those that cost about as many queries per image", cell=_budget, facet=True, width=15
)
ACCESS = Column(
    "access",
    "Access",
    TEXT,
    "What the attacker must see: generated images (black), the denoiser's output (gray), weights (white)",
    cell=_access,
    facet=True,
)
QUERIES = Column("queries", "Queries", NUMBER, "Forward passes of the denoiser per image, for the score that is reported", width=9)
AUC = Column(
    "auc",
    "AUC",
    DECIMAL,
    "How often a random member scores higher than a random non-member: 0.5 is guessing, 1 a complete leak. Below it the 95 % interval",
    width=12,
)
TPR = Column(
    "tpr",
    "TPR at 1 % FPR",
    PERCENT,
    "The share of members that are recognised where 1 in 100 non-members is taken for one; guessing gives 1 %",
    width=13,
)
ASR = Column(
    "asr", "Success rate", PERCENT, "Balanced accuracy at one threshold, which was chosen on other images: 50 % is guessing", width=13
)
REPORTED = Column(
    "self_reported",
    "Self-reported AUC",
    DECIMAL,
    "Computed by us from scores that somebody else made: we didn't ask the model",
    _reported,
    width=13,
)
REPORTED_BY = Column(
    "reported_by",
    "Reported by",
    TEXT,
    "Who made those scores; nobody has checked a name with “(pull request)” behind it",
    _by,
    width=14,
)
REPRODUCED = Column(
    "reproduced",
    "Reproduced",
    TEXT,
    "Whether the self-reported AUC lies in the interval of the one that we computed ourselves",
    facet=True,
    width=11,
)
CLAIMED = Column("claimed", "Claimed AUC", CLAIMS, "What a paper says of this setting; nothing was computed for it here", width=12)
BLIND = Column(
    "blind_auc", "Blind AUC", DECIMAL, "Of a classifier that sees the images and never the model; 0.5 is as it should be", width=12
)

CHECK = Column(
    "shift_check",
    "Shift check",
    TEXT,
    "Whether members and non-members differ by themselves: fails, not checked (too few of them to find out), or known to differ",
    facet=True,
    width=11,
)

ATTACKS = (
    Column("rank", "#", NUMBER, "Place among the attacks of this budget", width=3),
    replace(ATTACK, width=16),
    Column("auc", "Mean AUC", DECIMAL, AUC.help + ". The mean over data sets", width=12),
    Column("tpr", "Mean TPR at 1 % FPR", PERCENT, TPR.help + ". The mean over data sets", width=16),
    BUDGET,
    Column("mean_rank", "Mean rank", MEAN, "Rank by AUC within its budget, averaged over data sets; 0 is first", _mean_rank, width=10),
    Column("settings", "Settings", NUMBER, "In how many settings (a model and a data set) it was run"),
    ACCESS,
)  # fmt: skip
MODELS = (
    MODEL,
    SPLIT,
    Column("auc", "Strongest AUC", DECIMAL, AUC.help + ", widened for having been picked among several attacks", width=12),
    Column("tpr", "TPR at 1 % FPR", PERCENT, TPR.help + ", of that attack, widened likewise", width=13),
    Column("attack", "Strongest attack", TEXT, ATTACK.help, width=23),
    QUERIES,
    Column("attacks", "Tried", NUMBER, "How many attacks were run, of which this is the strongest"),
    BLIND,
)
ALL_ROWS = (MODEL, SPLIT, ATTACK, AUC, CLAIMED, TPR, ASR, BUDGET, QUERIES, ACCESS, REPORTED, REPORTED_BY, REPRODUCED)
ONE_SPLIT = tuple(column for column in ALL_ROWS if column is not SPLIT)
APART = (*ALL_ROWS[:5], CHECK, BLIND, *ALL_ROWS[5:])


def payload(columns: Sequence[Column], rows: Iterable[Row], *, name: str, empty: str, link: Callable[[Row], str]) -> str:
    """What the page draws a table from, as JSON: text costs Gradio nothing, and nested lists a second for ten thousand rows.

    Args:
        columns: of the table; one of them has the key "attack".
        rows: of `leaderboard.results.board_rows`.
        name: of the files that it is downloaded as.
        empty: what to say where there are no rows.
        link: what a click on a row asks for, beside its attack: ``what=which``.
    """
    rows = list(rows)
    described = [{"key": c.key, "name": c.name, "kind": c.kind, "help": c.help, "facet": c.facet, "width": c.width} for c in columns]
    cells = [[column.of(row) for column in columns] for row in rows]
    table = {"name": name, "columns": described, "rows": cells, "links": [link(row) for row in rows], "empty": empty}
    return json.dumps(table, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def entry_link(row: Row) -> str:
    """A row's entry, or the published setting that it claims for."""
    if row["entry"] is None:
        return f"benchmark={row['claimed'][0]['benchmark']}"
    return f"entry={row['entry'] if row.get('auc') is not None else row['reported']['entry']}"


def attack_link(row: Row) -> str:
    """An attack in all settings that it was run in, at this cost."""
    return f"budget={row['budget']}"


def attacks_table(entries: Iterable[Row], empty: str) -> str:
    """Attacks, ranked within their budgets."""
    rows, places = [], dict.fromkeys((*BUDGETS, UNKNOWN_BUDGET), 0)
    for row in attack_ranking(entries):
        places[row["budget"]] += 1
        rows.append(row | {"rank": places[row["budget"]]})
    return payload(ATTACKS, rows, name="leaderboard-attacks", empty=empty, link=attack_link)


def models_table(entries: Iterable[Row], empty: str) -> str:
    """Models by what the strongest attack finds."""
    return payload(MODELS, model_ranking(entries), name="leaderboard-models", empty=empty, link=entry_link)


def rows_table(columns: Sequence[Column], rows: Sequence[Row], name: str, empty: str) -> str:
    """Rows as they are."""
    return payload(columns, rows, name=name, empty=empty, link=entry_link)


def for_programs(row: Row) -> dict[str, Any]:
    """A row with all that is known, JSON-ready; figures as ``{"value", "low", "high", "n_members", "n_nonmembers"}``."""
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
