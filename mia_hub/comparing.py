"""Several attacks on one model and one split: the same pictures, the same calibration part, the same reported rows."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from mia_hub.attacks import ATTACKS, Attack, get_attack
from mia_hub.attacks.combination import Combination, alone
from mia_hub.attacks.conditional import Conditional
from mia_hub.attacks.learning import FittedAttack
from mia_hub.auditing import audit_attack, describe_split
from mia_hub.errors import AttackError, MetricError, whole_number
from mia_hub.measurement import Selection, check_plan
from mia_hub.models.conditions import settled
from mia_hub.models.loading import load_model
from mia_hub.models.protocol import DiffusionModel
from mia_hub.report import AuditReport, Estimate, Flag
from mia_hub.shelf import Shelf
from mia_hub.splits import MemberSplit, load_split
from mia_hub.validity import survey

# A label names so many entries of a list, and of a longer one the first and the last; the identity beside it has them all.
NAMED_ENTRIES = 4
LONGEST_FILE_NAME = 60
UNFINISHED = "It was not finished when this was written; the same command goes on from here."


@dataclass(frozen=True)
class ComparedAttack:
    """One row of a comparison.

    Attributes:
        label: the attack's name and the parameters that differ from the defaults, as ``mia-hub compare --attacks`` takes them.
        access: what the attacker must see: "black" (generated images), "gray" (the denoiser's output), "white" (weights).
        one_score: whether the timesteps are aggregated into one score, so that none was chosen.
        queries_at_timestep: denoiser forward passes per image that the reported score costs: at the chosen timestep alone.
        setup_queries: forward passes spent once, whatever the number of images.
        chosen: parameters that the attack chose on the calibration part.
        report: its figures; ``report.cost.queries_per_image`` is the cost of the whole grid of timesteps, of which one was chosen.
    """

    label: str
    access: str
    one_score: bool
    queries_at_timestep: int
    setup_queries: int
    chosen: dict[str, Any]
    report: AuditReport

    @property
    def seconds_per_image(self) -> float | None:
        """Wall-clock time of scoring over the whole grid, per image."""
        rate = self.report.cost.images_per_second
        return None if rate is None else 1 / rate


@dataclass(frozen=True)
class LeftOut:
    """An attack that is not in the table, and why."""

    label: str
    reason: str


@dataclass(frozen=True)
class Comparison:
    """Attacks side by side. Members are the positive class; higher figures mean that the model leaks more.

    Attributes:
        rows: the attacks, in the order in which they were asked for.
        left_out: attacks that can't run on this model and split, with the reason.
    """

    rows: tuple[ComparedAttack, ...]
    left_out: tuple[LeftOut, ...] = ()

    @property
    def reports(self) -> tuple[AuditReport, ...]:
        """The audit report of each row."""
        return tuple(row.report for row in self.rows)

    @property
    def model(self) -> dict[str, Any]:
        return self.rows[0].report.model

    @property
    def split(self) -> dict[str, Any]:
        return self.rows[0].report.split

    @property
    def blind_auc(self) -> Estimate | None:
        """Of a classifier that sees the images and never the model."""
        return self.rows[0].report.blind_auc

    @property
    def rates(self) -> list[float]:
        """The false-positive rates that were measured, falling."""
        return sorted({rate for row in self.rows for rate in row.report.tpr_at_fpr}, reverse=True)

    @property
    def flags(self) -> tuple[Flag, ...]:
        """What the reader must know, each flag once; where attacks raise it for different reasons, with that of the first."""
        raised: dict[str, list[tuple[str, Flag]]] = {}
        for row in self.rows:
            for flag in row.report.flags:
                raised.setdefault(flag.name, []).append((row.label, flag))
        return tuple(self._one_flag(found) for found in raised.values())

    def _one_flag(self, raised: list[tuple[str, Flag]]) -> Flag:
        label, flag = raised[0]
        if len(raised) == len(self.rows) and len({other.raised_by for _, other in raised}) == 1:
            return flag
        more = f"; and so for {len(raised) - 1} more of the {len(self.rows)} attacks" if len(raised) > 1 else ""
        return replace(flag, raised_by=f"{label}: {flag.raised_by}{more}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready values."""
        return {
            "rows": [{f.name: getattr(row, f.name) for f in fields(row)} | {"report": row.report.to_dict()} for row in self.rows],
            "left_out": [asdict(left) for left in self.left_out],
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Comparison:
        """The inverse of `to_dict`."""
        return cls(
            tuple(ComparedAttack(**row | {"report": AuditReport.from_dict(row["report"])}) for row in values["rows"]),
            tuple(LeftOut(**left) for left in values["left_out"]),
        )

    def to_markdown(self) -> str:
        from mia_hub.render_comparison import comparison_markdown

        return comparison_markdown(self)

    def to_html(self) -> str:
        """A self-contained page: no script, no request to anywhere."""
        from mia_hub.render_comparison import comparison_html

        return comparison_html(self)

    def plot_svg(self) -> str:
        """AUC and the true-positive rate of every attack with 95 % intervals, and all ROC curves on logarithmic axes; one ``<svg>``."""
        from mia_hub.plots import comparison_svg

        return comparison_svg(self.rows)


def compare(
    model: str | DiffusionModel = "demo",
    split: str | MemberSplit = "demo",
    attacks: Sequence[str | Attack] | None = None,
    *,
    combine: Sequence[Sequence[str | Attack]] = (),
    selection: Selection = "calibration",
    fprs: Sequence[float] | None = None,
    limit: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    captions: str = "split",
    shift_check: bool = True,
    device=None,
    dtype=None,
    revision: str | None = None,
    folder: str | Path | None = None,
    progress: bool = True,
) -> Comparison:
    """Runs several attacks over one split and lays their figures side by side.

    Args:
        model, split, selection, fprs, limit, batch_size, seed, captions, shift_check, device, dtype, revision, progress: as for
            `mia_hub.audit`.
        attacks: names or Attacks. By default `default_attacks()`: all registered ones; those that can't run on this model and split are
            listed with the reason. One asked for by name that can't run is an error, before the model is queried.
        combine: combinations of attacks, such as ``[["sima", "pia"]]``. Each gets a row, and so does each of its parts alone with as
            many queries per image as the combination has; see `mia_hub.attacks.combination.alone` for the rule.
        folder: where each attack's scores are kept as soon as they are there, as ``scores-<attack>.parquet``, and all figures so far
            as ``comparison.json``; and, of the attack at hand, each finished batch. Scores found there of the same attack, model revision,
            split, seed and precision, made by the same code and versions of libraries, are not made again, so that a comparison that was
            killed at any moment goes on where it was. (A wrapped function has no revision to be known by; it is scored anew.)

    Returns:
        A Comparison: ``.rows``, ``.reports``, ``.left_out``, ``.to_markdown()``, ``.to_html()``, ``.to_dict()``, ``.plot_svg()``.

    Raises:
        MiaHubError: with a message for the user; what can be refused is refused before the model is queried.
    """
    planned, asked = _asked(attacks, combine)
    split = load_split(split, limit=limit, seed=seed)
    model = load_model(model, device=device, dtype=dtype, revision=revision)
    split = split.told(model.info.conditioning, captions)
    settled(model, split.captions, len(split.images))
    check_plan(len(split.members), len(split.nonmembers), (), selection=selection, fprs=fprs)
    whole_number("seed", seed, 0, MetricError)
    left_out = []
    for attack in list(planned):
        try:
            attack.check(model, split.captions)
            attack.check_labels(split.is_member)
        except AttackError as error:
            if asked:
                raise
            planned.remove(attack)
            left_out.append(LeftOut(spelled(attack), str(error)))
    labels = _labelled(planned, [_combination(parts) for parts in combine], model, split)
    if not labels:
        raise AttackError(f"None of the attacks can run on {model.info.id} with this split. The first: {left_out[0].reason}")

    seen = survey(split.images, split.is_member, blind=shift_check, progress=progress)
    described = describe_split(split, seen)
    shelf = None if folder is None else Shelf(folder, model, described, seen.ids, split.is_member, seed, progress)
    rows: dict[str, ComparedAttack] = {}

    def so_far() -> Comparison:
        unfinished = tuple(LeftOut(label, UNFINISHED) for label in labels if label not in rows)
        return Comparison(tuple(rows[label] for label in labels if label in rows), (*left_out, *unfinished))

    files = {label: _file_name(label, attack) for label, attack in labels.items()}
    kept = {label: shelf.find(files[label], attack) for label, attack in labels.items()} if shelf else {}
    # First those that are there already, so that the figures written meanwhile lack none of them.
    for label in sorted(labels, key=lambda label: kept.get(label) is None):
        attack = labels[label]
        table = kept.get(label)
        report = audit_attack(
            model, attack, split, described, blind=seen.blind, selection=selection, fprs=fprs, batch_size=batch_size, seed=seed,
            progress=progress, table=table, resume=shelf and shelf.unfinished(files[label]),
        )  # fmt: skip
        rows[label] = _row(label, attack, report)
        if shelf:
            # The scores last: that they are there says that the attack is finished.
            shelf.write("comparison.json", so_far().to_json())
        if shelf and table is None:
            shelf.keep(files[label], report.scores)
        elif progress and table is not None:
            tqdm.write(f"{label}: scores taken from {shelf.folder / files[label]}", file=sys.stderr)
    return so_far()


def default_attacks() -> list[str]:
    """What `compare` runs unless told otherwise: chance, then all other registered attacks but "combine", which combine=[…] asks for."""
    return sorted((name for name in ATTACKS if name != Combination.name), key=lambda name: name != "random")


def _row(label: str, attack: Attack, report: AuditReport) -> ComparedAttack:
    chosen = report.scores.chosen
    settled = attack.settled(chosen)
    queries = settled.at(report.timestep).queries_per_image
    return ComparedAttack(label, attack.access, attack.one_score, queries, attack.setup_queries, _as_json(chosen), report)


def _as_json(values: dict[str, Any]) -> dict[str, Any]:
    """As it is read back from JSON, so that a comparison equals the one read back."""
    return json.loads(json.dumps(values))


# Which attacks, and how they are called.


def _asked(attacks, combine) -> tuple[list[Attack], bool]:
    """The attacks, and whether they were asked for; refuses what is no attack, or is there twice."""
    asked = attacks is not None
    if isinstance(attacks, (str, Attack)):
        attacks = [attacks]
    planned = [get_attack(attack) for attack in (attacks if asked else default_attacks())]
    for i, attack in enumerate(planned):
        if attack in planned[:i]:
            raise AttackError(f"{spelled(attack)} is to be compared with itself; name each attack once: {attack!r}.")
    if not planned and not len(combine):
        raise AttackError(f"There is nothing to compare; name attacks among {', '.join(default_attacks())}, or leave attacks=None for all.")
    if isinstance(combine, str):
        raise AttackError(f"combine takes a list of lists of attacks, such as combine=[['sima', 'pia']]; got {combine!r}.")
    for parts in combine:
        _combination(parts)
    return planned, asked


def _combination(parts) -> Combination:
    if isinstance(parts, Combination):
        return parts
    if isinstance(parts, (str, Attack)) or not isinstance(parts, Sequence):
        raise AttackError(f"combine takes a list of lists of attacks, such as combine=[['sima', 'pia']]; got {parts!r} in it.")
    return Combination(parts=tuple(parts))


def _labelled(planned: list[Attack], combinations: list[Combination], model, split) -> dict[str, Attack]:
    """All rows in order: attacks, then each combination with its parts alone; what is there already gets no second row."""
    wanted = [(spelled(attack), attack) for attack in planned]
    for combination in combinations:
        combination.check(model, split.captions)
        combination.check_labels(split.is_member)
        wanted.append((spelled(combination), combination))
        budget = combination.queries_per_image
        for part in combination.parts if len(combination.parts) > 1 else ():
            label = f"{spelled(part, without=('timesteps',))} alone, ≤ {budget:,} queries"
            wanted.append((label, alone(part, budget, model, split.captions)))
    found: dict[str, Attack] = {}
    for label, attack in wanted:
        if attack in found.values():
            continue
        namesakes = sum(other == label or other.startswith(f"{label} (") for other in found)
        found[f"{label} ({namesakes + 1})" if namesakes else label] = attack
    return found


def spelled(attack: Attack, *, without: Sequence[str] = ()) -> str:
    """An attack's name, and the parameters that differ from its defaults: "sima-mc:draws=30,timesteps=50,100"."""
    if isinstance(attack, Combination):
        return "+".join(spelled(part, without=without) for part in attack.parts)
    if isinstance(attack, FittedAttack):
        return f"{spelled(attack.attack, without=without)} (fitted)"
    name, settings = attack.name, list(_settings(attack, without))
    if isinstance(attack, Conditional):
        name, settings = attack.attack.name, [*_settings(attack.attack, without), *_settings(attack, ("timesteps", "attack"))]
    return f"{name}:{','.join(settings)}" if settings else name


def _settings(attack: Attack, without: Sequence[str]) -> Iterator[str]:
    for parameter in fields(attack):
        value = getattr(attack, parameter.name)
        if parameter.repr and parameter.name not in without and value != parameter.default:
            yield f"{parameter.name}={_spelled_value(parameter.name, value)}"


def _spelled_value(name: str, value: Any) -> str:
    if isinstance(value, (tuple, list)):
        entries = [_spelled_value("", entry) for entry in value]
        if len(entries) > NAMED_ENTRIES:
            return f"{entries[0]},…,{entries[-1]}"
        # The comma says that it is a list, which of timesteps is known.
        return ",".join(entries) + "," * (len(entries) == 1 and name != "timesteps")
    return str(value).lower() if isinstance(value, bool) else getattr(value, "__name__", str(value))


# What is kept on disk.


def _file_name(label: str, attack: Attack) -> str:
    """Of an attack's scores; a name that doesn't say all about the attack has a hash of its identity in it."""
    name = re.sub(r"[^\w.=,+-]+", "-", label)[:LONGEST_FILE_NAME]
    if label != attack.name:
        name += "-" + hashlib.sha256(repr(attack).encode()).hexdigest()[:8]
    return f"scores-{name}.parquet"
