"""A request: "audit this model on this split with these attacks", or scores of one's own. Every way in validates it alike."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, replace
from functools import partial
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from leaderboard.errors import SubmissionError
from leaderboard.requests.attack_checks import canonical_attacks
from leaderboard.requests.naming import LONGEST_NAME, check_model, check_name, check_revision, is_local
from leaderboard.validation import at_most, checked, line_up_to
from mia_hub.system.validation import CLOSED, FROM_LIST, InvalidData, parsed, sentence, shortened

LONGEST_ATTACK, LONGEST_NOTE = 200, 500
MOST_ATTACKS = 24
Attack = Annotated[str, line_up_to(LONGEST_ATTACK)]


@dataclass(frozen=True, kw_only=True, config=CLOSED)
class Request:
    """A submission as it was made. Its `id` is derived from its content: the same request made twice is the same request.

    Attributes:
        kind: "model" (we compute the scores) or "scores" (every figure is recomputed from submitted scores).
        model: "demo", or the Hub id of the model; with something on top, "base + top@commit"; or "local:NAME", or "local:A + local:B".
        revision: commit of the model, or None for "demo"; of a local one the hashes of its weights, as reports state them.
        split: "demo", or the Hub id of the data set, or "local:NAME".
        split_revision: commit of the data set, or None for "demo"; of a local one the hash of its files.
        attacks: as the command line writes them, such as "sima-mc:draws=30"; of kind "scores" the one name that the board shows.
        captions: "split" or "empty".
        seed: of noise, of the calibration part and of intervals.
        scores: of kind "scores", the SHA-256 of the Parquet file.
        note: a remark of the submitter.
        push: whether the result is offered to the model's repository as a pull request.
        submitter: who, as logged in; no part of the id.
        submitted: when, ISO 8601 in UTC; no part of the id.
    """

    kind: Literal["model", "scores"]
    model: Annotated[str, line_up_to(8 * LONGEST_NAME), checked(check_model)]
    revision: str | None = None
    split: Annotated[str, line_up_to(LONGEST_NAME), checked(partial(check_name, "split"))]
    split_revision: str | None = None
    attacks: Annotated[tuple[Attack, ...], FROM_LIST, at_most(MOST_ATTACKS)]
    captions: Literal["split", "empty"] = "split"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    scores: str | None = None
    note: Annotated[str, line_up_to(LONGEST_NOTE, empty=True)] = ""
    push: bool = False
    submitter: Annotated[str, line_up_to(LONGEST_NAME, empty=True)] = ""
    submitted: Annotated[str, line_up_to(40, empty=True)] = ""

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        """Check the fields that depend on one another."""
        try:
            check_revision("revision", self.model, self.revision)
            check_revision("split_revision", self.split, self.split_revision)
        except SubmissionError as error:
            raise sentence(str(error)) from error
        if self.push and is_local(self.model):
            raise sentence("A local model has no repository that its result could be offered to; leave push out.")
        if self.kind == "scores":
            if self.scores is None or not re.fullmatch(r"[0-9a-f]{64}", self.scores):
                raise sentence(f"scores must be the SHA-256 of the Parquet file; got {shortened(self.scores)}.")
            if len(self.attacks) != 1:
                raise sentence(f"Scores are of one attack; got {len(self.attacks)} names.")
        elif self.scores is not None:
            raise sentence("scores is for kind 'scores'; leave it out.")
        elif not self.attacks:
            raise sentence("The request names no attack; name at least one, such as 'sima'.")
        return self

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits."""
        content = {key: value for key, value in self.to_dict().items() if key not in ("submitter", "submitted", "note", "push")}
        return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"attacks": list(self.attacks)}

    @classmethod
    def from_dict(cls, values: Any, *, past: bool = False) -> Request:
        """Return a request from plain values, if all of it can be understood without looking anything up.

        Args:
            values: a JSON object.
            past: whether it was evaluated already. Then its attacks stay as they are written: an entry doesn't leave the board because an
                attack has gained a parameter since, and reading entries loads no model code.

        Raises:
            SubmissionError: with one line per problem.
        """
        try:
            request = parsed(cls, values, "The request")
        except InvalidData as error:
            raise SubmissionError(str(error)) from error
        return request if past else with_canonical_attacks(request)


def with_canonical_attacks(request: Request) -> Request:
    """Return the request with its attacks in their shortest spelling and in order; scores of an attack of one's own keep its name.

    Raises:
        SubmissionError: if an attack is unknown, can't be submitted, or is named twice.
    """
    return request if request.kind == "scores" else replace(request, attacks=canonical_attacks(request.attacks))
