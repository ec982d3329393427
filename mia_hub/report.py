"""Results with their uncertainty and provenance. No bare number leaves as a result."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any

from mia_hub.errors import MetricError

if TYPE_CHECKING:
    from mia_hub.scores import ScoreTable

RECORDED_PACKAGES = ("mia_hub", "torch", "diffusers", "numpy", "pillow", "scikit-learn")
# Of what is said of a split, which anyone may have written.
MOST_NOTES, LONGEST_NOTE = 20, 1000


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval and the number of images behind it.

    Attributes:
        value: the figure, in [0, 1].
        low, high: its 95 % interval.
        n_members, n_nonmembers: images that it was measured on.
    """

    value: float
    low: float
    high: float
    n_members: int
    n_nonmembers: int

    @property
    def n(self) -> int:
        """Images that it was measured on, of both kinds."""
        return self.n_members + self.n_nonmembers

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Flag:
    """Something the reader of a result must know.

    Attributes:
        name: short, stable, such as "distribution-shift"; `FLAGS` documents each.
        raised_by: what was measured.
        meaning: what it means for the reader.
    """

    name: str
    raised_by: str
    meaning: str


# name: (raised if, what it means and what to do)
FLAGS = {
    "distribution-shift": (
        "a blind classifier, which sees the images and never the model, tells members from non-members better than chance",
        "An attack's AUC on this split is not evidence of memorisation: it may only see that the two kinds of images differ. "
        "Compare it with the blind AUC, and use members and non-members drawn from one source.",
    ),
    "oracle-selection": (
        "the timestep and the threshold were chosen on the same images that the figures are reported on",
        "The figures are optimistic. Use them only to compare with papers that select in this way.",
    ),
    "few-nonmembers": (
        "there are fewer non-members than an asked false-positive rate can resolve",
        "Figures at such rates are left out: they can't be measured with so few, and are not extrapolated.",
    ),
    "duplicates": (
        "the same picture occurs more than once among the members or among the non-members",
        "Repeated pictures count repeatedly, so the intervals are too narrow. Remove the copies.",
    ),
    "empty-captions": (
        "a model conditioned on text (or on classes) was queried without captions (or without a class)",
        "An attacker who knows the training captions may see more than these figures show.",
    ),
    "captions-truncated": (
        "captions are longer than the model's text encoder takes",
        "Their ends were cut off, as in training and sampling with the same encoder; where the model was trained with a longer limit, "
        "the figures are too low.",
    ),
    "precision-fallback": (
        "parts of the model gave infinity or NaN in half precision",
        "They were moved to a wider precision and everything was scored again; the figures are those of the precisions named.",
    ),
    "no-shift-check": (
        "the split is too small for the blind classifier, or the check was switched off",
        "It is not known whether members and non-members have one distribution.",
    ),
}


def flag(name: str, raised_by: str) -> Flag:
    """The documented flag of that name, with what was measured."""
    return Flag(name, raised_by, FLAGS[name][1])


@dataclass(frozen=True)
class Cost:
    """What the scores cost.

    Attributes:
        queries_per_image: denoiser forward passes per image.
        queries: in all, counted in images.
        seconds: wall-clock time of scoring.
        images_per_second: of scoring.
        peak_memory_mb: peak of the accelerator's allocator, or of the process on the CPU; None where unknown.
    """

    queries_per_image: int
    queries: int
    seconds: float | None
    images_per_second: float | None
    peak_memory_mb: float | None


def provenance(**details: Any) -> dict[str, Any]:
    """Versions, time and whatever else is needed to make a result again."""
    versions = {"python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {"created": datetime.now(UTC).isoformat(timespec="seconds"), "versions": versions, **details}


class Rates(dict):
    """Figures by false-positive rate; a rate that wasn't measured is an error that names those that were."""

    def __missing__(self, rate):
        measured = ", ".join(f"{known:g}" for known in sorted(self, reverse=True)) or "none"
        raise MetricError(
            f"There is no figure at a false-positive rate of {rate}. Measured are: {measured}. A rate of 1/n needs n non-members or more, "
            "and has to be asked for (fprs) where it isn't 0.01 or 0.001."
        )


@dataclass(frozen=True)
class TimestepRow:
    """The figures at one timestep."""

    timestep: int
    auc: Estimate
    asr: Estimate
    tpr_at_fpr: dict[float, Estimate]

    def __post_init__(self) -> None:
        object.__setattr__(self, "tpr_at_fpr", Rates(self.tpr_at_fpr))


@dataclass(frozen=True)
class AuditReport:
    """How well an attack tells members from non-members of a model's training set.

    **Higher score = more likely a member; members are the positive class.** A high value means that the model leaks.

    Attributes:
        attack: the attack's identity.
        model: `ModelInfo.to_dict` of the model.
        split: name, revision, hash, n_members, n_nonmembers; and notes, if there are any, which its reader must know.
        selection: how the timestep was selected: method, timestep, criterion, and the sizes of both parts.
        auc: area under the ROC curve, at the selected timestep.
        asr: attack success rate, the balanced accuracy at the threshold chosen where the timestep was chosen.
        tpr_at_fpr: true-positive rate at each measurable false-positive rate; any other raises a MetricError.
        per_timestep: the same at every timestep.
        roc: false- and true-positive rates of the ROC curve at the selected timestep.
        blind_auc: of a classifier that never sees the model; None if it was not measured.
        flags: what the reader must know.
        cost: what the scores cost.
        provenance: versions, seed, device, precision, time.
        scores: the table that every figure comes from; it is no part of `to_dict`, and None in a report read back from there.
    """

    attack: str
    model: dict[str, Any]
    split: dict[str, Any]
    selection: dict[str, Any]
    auc: Estimate
    asr: Estimate
    tpr_at_fpr: dict[float, Estimate]
    per_timestep: tuple[TimestepRow, ...]
    roc: dict[str, list[float]]
    blind_auc: Estimate | None
    flags: tuple[Flag, ...]
    cost: Cost
    provenance: dict[str, Any] = field(default_factory=dict)
    scores: ScoreTable | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tpr_at_fpr", Rates(self.tpr_at_fpr))

    @property
    def timestep(self) -> int:
        """The selected timestep."""
        return self.selection["timestep"]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready values; rates of ``tpr_at_fpr`` become strings such as "0.01"."""
        values = asdict(replace(self, scores=None))
        del values["scores"]
        return _plain(values)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2)

    def to_markdown(self) -> str:
        from mia_hub.render import audit_markdown

        return audit_markdown(self)

    def to_html(self) -> str:
        """A self-contained page: no script, no request to anywhere."""
        from mia_hub.render import audit_html

        return audit_html(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> AuditReport:
        """The inverse of `to_dict`."""
        rates = lambda part: {float(rate): Estimate(**e) for rate, e in part.items()}  # noqa: E731
        rows = tuple(
            TimestepRow(row["timestep"], Estimate(**row["auc"]), Estimate(**row["asr"]), rates(row["tpr_at_fpr"]))
            for row in values["per_timestep"]
        )
        return cls(
            **{key: values[key] for key in ("attack", "model", "split", "selection", "roc", "provenance")},
            auc=Estimate(**values["auc"]),
            asr=Estimate(**values["asr"]),
            tpr_at_fpr=rates(values["tpr_at_fpr"]),
            per_timestep=rows,
            blind_auc=Estimate(**values["blind_auc"]) if values["blind_auc"] else None,
            flags=tuple(Flag(**f) for f in values["flags"]),
            cost=Cost(**values["cost"]),
        )


def split_notes(split: Mapping[str, Any]) -> list[str]:
    """What the reader must know of a split, as `mia_hub.auditing.describe_split` records it; not yet escaped."""
    notes = split.get("notes")
    return [str(note)[:LONGEST_NOTE] for note in notes[:MOST_NOTES]] if isinstance(notes, list) else []


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.item() if hasattr(value, "item") else value
