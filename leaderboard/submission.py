"""What people submit: "audit this model on this split with these attacks", or scores of their own. One validation for every way in."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from leaderboard.errors import SubmissionError

Kind = Literal["model", "scores"]
# A Hub id, or something embedded. Two dots in a row, and anything that isn't printed, are in none of them.
NAME = re.compile(r"demo|[A-Za-z0-9][\w-]*(\.[\w-]+)*/[A-Za-z0-9][\w-]*(\.[\w-]+)*")
COMMIT = re.compile(r"[0-9a-f]{40}")
LONGEST_NAME, LONGEST_ATTACK, LONGEST_NOTE = 96, 200, 500
MOST_ATTACKS = 24
LARGEST_SCORES = 64 * 2**20
ON_TOP = " + "


@dataclass(frozen=True, kw_only=True)
class Request:
    """A submission as it was made. Its `id` is derived from its content: the same request made twice is the same request.

    Attributes:
        kind: "model" (we compute) or "scores" (every figure is recomputed from the scores given).
        model: "demo", or the Hub id of the model; with something on top, "base + top".
        revision: commit of the model, or None for "demo".
        split: "demo", or the Hub id of the data set.
        split_revision: commit of the data set, or None for "demo".
        attacks: as the command line writes them, such as "sima-mc:draws=30"; of kind "scores" the one name that it shall have.
        captions: "split" or "empty".
        seed: of noise, of the calibration part and of intervals.
        scores: of kind "scores", the SHA-256 of the Parquet file.
        note: what the submitter says about it.
        push: whether the result is offered to the model's repository as a pull request.
        submitter: who, as logged in; no part of the id.
        submitted: when, ISO 8601 in UTC; no part of the id.
    """

    kind: Kind
    model: str
    revision: str | None = None
    split: str
    split_revision: str | None = None
    attacks: tuple[str, ...]
    captions: str = "split"
    seed: int = 0
    scores: str | None = None
    note: str = ""
    push: bool = False
    submitter: str = ""
    submitted: str = ""

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits."""
        content = {key: value for key, value in self.to_dict().items() if key not in ("submitter", "submitted", "note", "push")}
        return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"attacks": list(self.attacks)}

    @classmethod
    def from_dict(cls, values: Any, *, past: bool = False) -> Request:
        """A request from plain values, checked; see `validated`, which also explains ``past``.

        Raises:
            SubmissionError: with the reason.
        """
        if not isinstance(values, dict):
            raise SubmissionError(f"A request is a JSON object; got {type(values).__name__}.")
        known = {field.name for field in fields(cls)}
        for name in values:
            if name not in known:
                raise SubmissionError(f"A request has no field {str(name)[:40]!r}; it has {', '.join(sorted(known))}.")
        for name in ("kind", "model", "split", "attacks"):
            if name not in values:
                raise SubmissionError(f"The request lacks the field {name!r}.")
        attacks = values["attacks"]
        if isinstance(attacks, str) or not isinstance(attacks, Sequence):
            raise SubmissionError(f"attacks must be a list of attacks, such as ['sima', 'pia:timesteps=200']; got {attacks!r:.80}.")
        return validated(cls(**values | {"attacks": tuple(attacks)}), past=past)


def validated(request: Request, *, past: bool = False) -> Request:
    """The request, if all of it can be understood without looking anything up; its attacks spelled in the one way that we spell them.

    Args:
        request: any.
        past: whether it was evaluated already. Then its attacks are taken as they are written: an entry doesn't leave the board because an
            attack was given another parameter since, and reading entries loads no model code.

    Raises:
        SubmissionError: with the reason.
    """
    if request.kind not in ("model", "scores"):
        raise SubmissionError(f"kind must be 'model' or 'scores'; got {request.kind!r:.40}.")
    for part in _text("model", request.model, 4 * LONGEST_NAME).split(ON_TOP):
        _check_name("model", part)
    _check_name("split", _text("split", request.split, LONGEST_NAME))
    for what, name, revision in (("revision", request.model, request.revision), ("split_revision", request.split, request.split_revision)):
        if name == "demo" and revision is not None:
            raise SubmissionError(f"{what}: 'demo' has none; leave it out.")
        if name != "demo" and (not isinstance(revision, str) or not COMMIT.fullmatch(revision)):
            raise SubmissionError(
                f"{what} must be a commit hash of 40 hexadecimal digits, so that what is audited can't change; got {revision!r:.60}."
            )
    if request.captions not in ("split", "empty"):
        raise SubmissionError(f"captions must be 'split' or 'empty'; got {request.captions!r:.40}.")
    if isinstance(request.seed, bool) or not isinstance(request.seed, int) or not 0 <= request.seed < 2**31:
        raise SubmissionError(f"seed must be a whole number from 0 to 2147483647; got {request.seed!r:.40}.")
    if not isinstance(request.push, bool):
        raise SubmissionError(f"push must be true or false; got {request.push!r:.40}.")
    for what, limit in (("note", LONGEST_NOTE), ("submitter", LONGEST_NAME), ("submitted", 40)):
        _text(what, getattr(request, what), limit, empty=True)
    return replace(request, attacks=_attacks(request, past))


def _attacks(request: Request, past: bool) -> tuple[str, ...]:
    if not request.attacks:
        raise SubmissionError("The request names no attack; name at least one, such as 'sima'.")
    if len(request.attacks) > MOST_ATTACKS:
        raise SubmissionError(f"{len(request.attacks)} attacks are too many for one request; at most {MOST_ATTACKS}.")
    for attack in request.attacks:
        _text("attacks", attack, LONGEST_ATTACK)
    if request.kind == "scores":
        if not isinstance(request.scores, str) or not re.fullmatch(r"[0-9a-f]{64}", request.scores):
            raise SubmissionError(f"scores must be the SHA-256 of the Parquet file; got {request.scores!r:.80}.")
        if len(request.attacks) != 1:
            raise SubmissionError(f"Scores are of one attack; {len(request.attacks)} were named.")
        return request.attacks
    if request.scores is not None:
        raise SubmissionError("scores is for kind 'scores'; leave it out.")
    if past:
        return request.attacks
    from mia_hub.cli import attack_from
    from mia_hub.comparing import spelled
    from mia_hub.errors import MiaHubError

    try:
        spelled_out = tuple(spelled(attack_from(attack)) for attack in request.attacks)
        # What is spelled with an ellipsis would not be understood again.
        canonical = tuple(short if attack_from_or_none(short) else given for short, given in zip(spelled_out, request.attacks))
    except MiaHubError as error:
        raise SubmissionError(f"attacks: {error}") from error
    if len(set(canonical)) < len(canonical):
        raise SubmissionError("The same attack is named more than once.")
    return tuple(sorted(canonical))


def attack_from_or_none(text: str):
    """The attack, or None if the text is none."""
    from mia_hub.cli import attack_from
    from mia_hub.errors import MiaHubError

    try:
        return attack_from(text)
    except MiaHubError:
        return None


def _text(what: str, value: Any, longest: int, *, empty: bool = False) -> str:
    if not isinstance(value, str) or (not value and not empty):
        raise SubmissionError(f"{what} must be text; got {value!r:.60}.")
    if len(value) > longest:
        raise SubmissionError(f"{what} is {len(value):,} characters long; at most {longest} are taken.")
    if not value.isprintable():
        raise SubmissionError(f"{what} has control characters or line breaks in it; take them out.")
    return value


def _check_name(what: str, name: str) -> None:
    if not NAME.fullmatch(name) or ".." in name:
        raise SubmissionError(f"{what} must be 'demo' or a Hub id of the form 'owner/name'; got {name!r:.120}.")


def check_scores(content: bytes, *, ids: Sequence[str], is_member: Sequence[int], name: str = "The scores"):
    """Reads a submitted table, and refuses one that isn't of this split.

    Args:
        content: the Parquet file.
        ids: content ids of the split's images.
        is_member: 1 or 0 each.
        name: of the table, for messages.

    Returns:
        A ScoreTable with the split's own labels, in the order of ``ids``.

    Raises:
        SubmissionError: with the reason.
    """
    import numpy as np

    from mia_hub.errors import MetricError
    from mia_hub.scores import UNKNOWN, ScoreTable

    if len(content) > LARGEST_SCORES:
        raise SubmissionError(f"{name} are {len(content) / 2**20:.0f} MiB; at most {LARGEST_SCORES // 2**20} MiB are taken.")
    try:
        table = ScoreTable.from_parquet(io.BytesIO(content))
    except MetricError as error:
        raise SubmissionError(f"{name} can't be read: write them with ScoreTable.to_parquet ({error}).") from error
    places = {sample: row for row, sample in enumerate(table.ids)}
    if len(places) < len(table):
        raise SubmissionError(f"{name} have {len(table) - len(places)} ids more than once; each image is scored once.")
    missing = [sample for sample in ids if sample not in places]
    if missing or len(table) != len(ids):
        raise SubmissionError(
            f"{name} are of {len(table)} images, of which {len(ids) - len(missing)} are among the {len(ids)} of the split; all of the "
            f"split's and no others are needed{f' (missing: {missing[0]})' if missing else ''}."
        )
    table = table.select(np.array([places[sample] for sample in ids]))
    if not np.isfinite(table.scores).all():
        raise SubmissionError(f"{name} have {int((~np.isfinite(table.scores)).sum())} values that are NaN or infinite.")
    if not len(table.timesteps):
        raise SubmissionError(f"{name} have no column of scores.")
    claimed = table.is_member != UNKNOWN
    wrong = int((table.is_member[claimed] != np.asarray(is_member)[claimed]).sum())
    if wrong:
        raise SubmissionError(f"{name} have {wrong} labels that differ from those of the split.")
    return replace(table, is_member=np.asarray(is_member, np.int8))
