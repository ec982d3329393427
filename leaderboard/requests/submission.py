"""What people submit: "audit this model on this split with these attacks", or scores of their own. One validation for every way in."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from leaderboard.errors import SubmissionError
from leaderboard.requests.naming import LONGEST_NAME, check_model, check_name, check_revision, is_local
from leaderboard.requests.unpacking import check_unpacked

Kind = Literal["model", "scores"]
LONGEST_ATTACK, LONGEST_NOTE = 200, 500
MOST_ATTACKS = 24
# Of one attack. The dearest of the attacks' defaults takes 210 queries per image, and 12,800 before the first.
MOST_QUERIES, MOST_SETUP_QUERIES = 10_000, 1_000_000
# Of an attack's parameters. Some count up to theirs before they can say what they cost.
LARGEST_NUMBER = 100_000
# As much as the page takes in one upload.
LARGEST_SCORES = 50 * 2**20


@dataclass(frozen=True, kw_only=True)
class Request:
    """A submission as it was made. Its `id` is derived from its content: the same request made twice is the same request.

    Attributes:
        kind: "model" (we compute) or "scores" (every figure is recomputed from the scores given).
        model: "demo", or the Hub id of the model; with something on top, "base + top@commit"; or "local:NAME", or "local:A + local:B".
        revision: commit of the model, or None for "demo"; of a local one the hashes of its weights, as reports state them.
        split: "demo", or the Hub id of the data set, or "local:NAME".
        split_revision: commit of the data set, or None for "demo"; of a local one the hash of its files.
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
    check_model(_text("model", request.model, 8 * LONGEST_NAME))
    check_name("split", _text("split", request.split, LONGEST_NAME))
    check_revision("revision", request.model, request.revision)
    check_revision("split_revision", request.split, request.split_revision)
    if request.captions not in ("split", "empty"):
        raise SubmissionError(f"captions must be 'split' or 'empty'; got {request.captions!r:.40}.")
    if isinstance(request.seed, bool) or not isinstance(request.seed, int) or not 0 <= request.seed < 2**31:
        raise SubmissionError(f"seed must be a whole number from 0 to 2147483647; got {request.seed!r:.40}.")
    if not isinstance(request.push, bool):
        raise SubmissionError(f"push must be true or false; got {request.push!r:.40}.")
    if request.push and is_local(request.model):
        raise SubmissionError("A local model has no repository that its result could be offered to; leave push out.")
    for what, limit in (("note", LONGEST_NOTE), ("submitter", LONGEST_NAME), ("submitted", 40)):
        _text(what, getattr(request, what), limit, empty=True)
    return replace(request, attacks=_attack_name(request) if request.kind == "scores" else _attacks(request, past))


def _attack_name(request: Request) -> tuple[str, ...]:
    """Of scores: the one name that their attack shall have."""
    if not isinstance(request.scores, str) or not re.fullmatch(r"[0-9a-f]{64}", request.scores):
        raise SubmissionError(f"scores must be the SHA-256 of the Parquet file; got {request.scores!r:.80}.")
    if len(request.attacks) != 1:
        raise SubmissionError(f"Scores are of one attack; {len(request.attacks)} were named.")
    _text("attacks", request.attacks[0], LONGEST_ATTACK)
    return request.attacks


def _attacks(request: Request, past: bool) -> tuple[str, ...]:
    """The attacks that shall be run, each in its shortest spelling and in order."""
    if request.scores is not None:
        raise SubmissionError("scores is for kind 'scores'; leave it out.")
    if not request.attacks:
        raise SubmissionError("The request names no attack; name at least one, such as 'sima'.")
    if len(request.attacks) > MOST_ATTACKS:
        raise SubmissionError(f"{len(request.attacks)} attacks are too many for one request; at most {MOST_ATTACKS}.")
    named = [_text("attacks", attack, LONGEST_ATTACK) for attack in request.attacks]
    if past:
        return tuple(named)
    canonical = [spelled_again(attack) for attack in named]
    if len(set(canonical)) < len(canonical):
        raise SubmissionError("The same attack is named more than once.")
    return tuple(sorted(canonical))


def spelled_again(text: str) -> str:
    """An attack in the one way that we spell it, or as given where that is cut short and would not be understood again.

    Raises:
        SubmissionError: if it is no attack, or none that strangers may have run.
    """
    from mia_hub.attacks import get_attack
    from mia_hub.attacks.spelling import attack_from, attack_words, spelled
    from mia_hub.errors import MiaHubError

    try:
        name, parameters = attack_words(text)
        # Before it is made of them: some attacks read files then.
        _check_parameters(name, parameters)
        attack = get_attack(name, **parameters)
    except SubmissionError:
        raise
    except MiaHubError as error:
        raise SubmissionError(f"attacks: {error}") from error
    _check_cost(attack, text)
    short = spelled(attack)
    try:
        return short if attack_from(short) == attack else text
    except MiaHubError:
        return text


def _check_parameters(name: str, parameters: dict[str, Any]) -> None:
    """Refuses parameters that reach into the machine that an attack would run on, and numbers that it would never come to the end of."""
    from mia_hub.attacks import ATTACKS

    local = ATTACKS[name].local_parameters if name in ATTACKS else ()
    for parameter, value in parameters.items():
        if parameter in local:
            raise SubmissionError(
                f"attacks: {parameter} of {name!r} takes what only the machine that runs it has, such as files or a function, and can't be "
                "submitted. Leave it out, or hand in the scores of your own run."
            )
        for entry in value if isinstance(value, tuple) else (value,):
            if isinstance(entry, (int, float)) and not abs(entry) <= LARGEST_NUMBER:
                raise SubmissionError(f"attacks: {parameter} of {name!r} may be {LARGEST_NUMBER:,} at most; got {entry!r:.40}.")


def _check_cost(attack: Any, text: str) -> None:
    """Refuses an attack that asks the model too often."""
    for cost, most, what in (
        (attack.queries_per_image, MOST_QUERIES, "queries per image"),
        (attack.setup_queries, MOST_SETUP_QUERIES, "queries before the first image"),
    ):
        if cost > most:
            hint = "Ask for fewer draws or timesteps."
            raise SubmissionError(f"attacks: {text!r:.80} takes {cost:,} {what}; at most {most:,} are taken. {hint}")


def _text(what: str, value: Any, longest: int, *, empty: bool = False) -> str:
    if not isinstance(value, str) or (not value and not empty):
        raise SubmissionError(f"{what} must be text; got {value!r:.60}.")
    if len(value) > longest:
        raise SubmissionError(f"{what} is {len(value):,} characters long; at most {longest} are taken.")
    if not value.isprintable():
        raise SubmissionError(f"{what} has control characters or line breaks in it; take them out.")
    return value


def check_size(size: int, name: str = "The scores") -> None:
    """Refuses a file of scores by its size, before it is read.

    Raises:
        SubmissionError: if it has more than `LARGEST_SCORES` bytes.
    """
    if size > LARGEST_SCORES:
        raise SubmissionError(f"{name} are {size / 2**20:,.0f} MiB; at most {LARGEST_SCORES // 2**20} MiB are taken.")


def read_scores(content: bytes, name: str = "The scores"):
    """A submitted table, as far as it can be checked without its split.

    Args:
        content: the Parquet file.
        name: of the table, for messages.

    Returns:
        A ScoreTable; its metadata is what the submitter claims.

    Raises:
        SubmissionError: with the reason.
    """
    import numpy as np

    from mia_hub.errors import MetricError
    from mia_hub.scores import ScoreTable

    check_size(len(content), name)
    try:
        check_unpacked(content, name)
        table = ScoreTable.from_parquet(io.BytesIO(content))
    except MetricError as error:
        raise SubmissionError(f"{name} can't be read: write them with ScoreTable.to_parquet ({_briefly(error)}).") from error
    if not len(table.timesteps):
        raise SubmissionError(f"{name} have no column of scores.")
    if len(set(table.timesteps.tolist())) < len(table.timesteps):
        raise SubmissionError(f"{name} have two columns of one timestep; give each once.")
    if not np.isfinite(table.scores).all():
        raise SubmissionError(f"{name} have {int((~np.isfinite(table.scores)).sum())} values that are NaN or infinite.")
    return table


def _rows_of(scored: Sequence[str], ids: Sequence[str], name: str) -> list[int]:
    """For each image of a split, the row of a table that has its scores."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, sample in enumerate(scored):
        rows[sample].append(row)
    copies = Counter(ids)
    missing = [sample for sample in copies if sample not in rows]
    if missing or len(rows) != len(copies):
        raise SubmissionError(
            f"{name} are of {len(rows)} images, of which {len(copies) - len(missing)} are among the {len(copies)} of the split; all of the "
            f"split's and no others are needed{f' (missing: {missing[0]})' if missing else ''}."
        )
    for sample, found in rows.items():
        if len(found) not in (1, copies[sample]):
            raise SubmissionError(
                f"{name} have the image {sample} {len(found)} times, and the split has it {copies[sample]} times; score it once, or once "
                "for each of its copies."
            )
    seen: Counter[str] = Counter()
    places = []
    for sample in ids:
        places.append(rows[sample][min(seen[sample], len(rows[sample]) - 1)])
        seen[sample] += 1
    return places


def _briefly(error: Exception) -> str:
    return str(error)[:300].rstrip(".")


def check_scores(content: bytes, *, ids: Sequence[str], is_member: Sequence[int], name: str = "The scores"):
    """Reads a submitted table, and refuses one that isn't of this split.

    Args:
        content: the Parquet file.
        ids: content ids of the split's images. Copies of a image share one: the table may have their scores once for all of them, or once
            for each, in the order of the split.
        is_member: 1 or 0 each.
        name: of the table, for messages.

    Returns:
        A ScoreTable with the split's own labels, in the order of ``ids``.

    Raises:
        SubmissionError: with the reason.
    """
    import numpy as np

    from mia_hub.scores import UNKNOWN

    table = read_scores(content, name)
    table = table.select(np.array(_rows_of(table.ids, ids, name)))
    claimed = table.is_member != UNKNOWN
    wrong = int((table.is_member[claimed] != np.asarray(is_member)[claimed]).sum())
    if wrong:
        raise SubmissionError(f"{name} have {wrong} labels that differ from those of the split.")
    return replace(table, is_member=np.asarray(is_member, np.int8))
