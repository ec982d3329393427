"""The columns of the board's tables: heading, meaning, and the cell of a row. A new column is declared here, and added to the tables below.

A cell is text, a number, or a figure ``[value, low, high]``; None is empty. Text is passed on as it is: whoever shows it, shows it as text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from leaderboard.results.board_rows import UNKNOWN_BUDGET

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
        key: name in files.
        name: heading.
        kind: TEXT, NUMBER, MEAN (two decimals), DECIMAL or PERCENT (figures with their intervals) or CLAIMS.
        help: meaning, shown at the heading.
        cell: function of a row that returns the cell; by default the row's value of ``key``.
        facet: whether rows can be filtered by its values.
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
        """Return the cell of a row."""
        value = row[self.key] if self.cell is None else self.cell(row)
        if self.kind in (DECIMAL, PERCENT):
            return None if value is None else [round(value[part], DIGITS) for part in ("value", "low", "high")]
        if self.kind == CLAIMS:
            return [[claim["value"], claim_text(claim)] for claim in value if claim["metric"] == "auc"] or None
        return str(value)[:LONGEST_CELL] if self.kind == TEXT and value is not None else value


def claim_text(claim: Row) -> str:
    """Return where a published figure comes from, and what makes it hard to compare."""
    selections = {"reported images": "its timestep was chosen on the reported images, which is optimistic"}
    note = f"; {claim['note']}" if claim["note"] else ""
    return f"{claim['source']}; {selections.get(claim['selection'], 'selection: ' + claim['selection'])}{note}"


def _reported(row: Row) -> dict[str, Any] | None:
    auc: dict[str, Any] | None = row["reported"] and row["reported"]["auc"]
    return auc


def _reporter(row: Row) -> str | None:
    return row["reported"] and (row["reported"]["by"] or "unknown")


def _access(row: Row) -> str:
    return NOT_STATED if row["access"] in (None, "unknown") else row["access"]


def _budget(row: Row) -> str:
    return NOT_STATED if row["budget"] == UNKNOWN_BUDGET else row["budget"]


def _split(row: Row) -> str:
    # Every drawn benchmark is named so, and its own name begins too far right.
    return str(row["split"]).removeprefix("benchmark ")


def _mean_rank(row: Row) -> float | None:
    return row["mean_rank"] if row["compared"] else None


MODEL = Column("model", "Model", TEXT, "Hub id of the model that was queried", facet=True, width=26)
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
    "Computed by us from scores that somebody else made: we didn't query the model",
    _reported,
    width=13,
)
REPORTED_BY = Column(
    "reported_by",
    "Reported by",
    TEXT,
    "Who made those scores; nobody has checked a name with “(pull request)” behind it",
    _reporter,
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
    replace(MODEL, width=22),
    SPLIT,
    Column("auc", "Strongest AUC", DECIMAL, AUC.help + ", widened for having been picked among several attacks", width=12),
    Column("tpr", "TPR at 1 % FPR", PERCENT, TPR.help + ", of that attack, widened likewise", width=13),
    Column("attack", "Strongest attack", TEXT, ATTACK.help, width=20),
    QUERIES,
    Column("attacks", "Tried", NUMBER, "How many attacks were run, of which this is the strongest"),
    BLIND,
)
ALL_ROWS = (MODEL, SPLIT, ATTACK, AUC, CLAIMED, TPR, ASR, BUDGET, QUERIES, ACCESS, REPORTED, REPORTED_BY, REPRODUCED)
ONE_SPLIT = tuple(column for column in ALL_ROWS if column is not SPLIT)
APART = (*ALL_ROWS[:5], CHECK, BLIND, *ALL_ROWS[5:])
