"""The stored format of an entry, with its bounds. Entries are shown to everyone, whoever wrote them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from leaderboard.results.training_facts import TrainingFacts
from leaderboard.validation import at_most, line_up_to
from mia_hub.system.validation import Closed, Open, must_be

SCHEMA = 1
# Files of an entry below its folder, by the number of the row.
SCORES = r"^scores/[0-9]{2}\.parquet$"
MOST_ROWS, LONGEST_TEXT = 100, 4000
MOST_TRAINED = 10


def _rate(text: str) -> str:
    try:
        inside = 0 < float(text) < 1
    except ValueError:
        inside = False
    if not inside:
        raise must_be("a false-positive rate between 0 and 1")
    return text


def _not_empty(rows: list[RowFormat]) -> list[RowFormat]:
    if not rows:
        raise must_be("a list of at least one row")
    return rows


Line = Annotated[str, line_up_to(LONGEST_TEXT)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Rate = Annotated[str, AfterValidator(_rate)]


class EstimateFormat(Closed):
    """A figure with its 95 % interval and the number of images that it was measured on."""

    value: Share
    low: Share
    high: Share
    n_members: Count
    n_nonmembers: Count

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if not self.low <= self.value <= self.high:
            raise must_be("a value inside its interval")
        return self


class FlagFormat(Closed):
    name: Line
    raised_by: Line
    meaning: Line


class RowFormat(Closed):
    """One attack."""

    attack: Line
    access: Literal["black", "gray", "white", "unknown"]
    queries: Annotated[int, Field(ge=0)] | None
    timestep: int
    auc: EstimateFormat
    asr: EstimateFormat
    tpr_at_fpr: dict[Rate, EstimateFormat]
    flags: list[Line]
    scores: Annotated[str, Field(pattern=SCORES)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class ModelDescription(Open):
    id: Line
    revision: Line | None = None


class SplitDescription(Open):
    name: Line
    hash: Line
    notes: Annotated[list[Line], Field(default_factory=list)]


class Provenance(Open):
    created: Line


class EntryFormat(Closed):
    """An entry. Its request has a model of its own, `leaderboard.requests.request.Request`."""

    format: Annotated[Literal[1], Field(alias="schema")]
    id: str
    origin: str
    request: dict[str, Any]
    model: ModelDescription
    split: SplitDescription
    blind_auc: EstimateFormat | None
    flags: list[FlagFormat]
    rows: Annotated[list[RowFormat], at_most(MOST_ROWS, "rows"), AfterValidator(_not_empty)]
    command: Line
    provenance: Provenance
    trained: Annotated[list[TrainingFacts], at_most(MOST_TRAINED), Field(default_factory=list)]
