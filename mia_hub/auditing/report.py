"""The report of an audit: figures with their uncertainty and provenance."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mia_hub.auditing.epsilon import EpsilonFinding
from mia_hub.auditing.ranking import Ranking
from mia_hub.flags import Flag
from mia_hub.metrics.estimates import Estimate, Rates, TimestepRow

if TYPE_CHECKING:
    from mia_hub.scores import ScoreTable


@dataclass(frozen=True)
class Cost:
    """The cost of scoring.

    Attributes:
        queries_per_image: denoiser forward passes per image.
        queries: in all, counted in images.
        seconds: wall-clock time of scoring.
        images_per_second: of scoring.
        peak_memory_mb: peak of the accelerator's allocator, or of the process on the CPU; None where unknown.
        base_queries_per_image: how many of the queries per image are of the model's base.
        reference_model_queries_per_image: how many of them are of its reference models.
    """

    queries_per_image: int
    queries: int
    seconds: float | None
    images_per_second: float | None
    peak_memory_mb: float | None
    base_queries_per_image: int = 0
    reference_model_queries_per_image: int = 0


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
        ranking: the members most at risk, if a ranking was requested; thumbnails are no part of `to_dict`.
        epsilon: lower bounds on the ε of differential privacy; None if none was measured.
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
    ranking: Ranking | None = None
    epsilon: EpsilonFinding | None = None
    scores: ScoreTable | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tpr_at_fpr", Rates(self.tpr_at_fpr))

    @property
    def timestep(self) -> int:
        """The selected timestep."""
        return int(self.selection["timestep"])

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values; rates of ``tpr_at_fpr`` become strings such as "0.01"."""
        values = asdict(replace(self, ranking=None, epsilon=None, scores=None))
        del values["scores"], values["ranking"], values["epsilon"]
        if self.ranking is not None:
            values["ranking"] = self.ranking.to_dict()
        if self.epsilon is not None:
            values["epsilon"] = self.epsilon.to_dict()
        return {key: _json_ready(value) for key, value in values.items()}

    def to_json(self) -> str:
        """Return `to_dict` as JSON."""
        return json.dumps(self.to_dict(), indent=2)

    def to_markdown(self) -> str:
        """Return the report as Markdown with GitHub's tables."""
        from mia_hub.auditing.report_pages import audit_markdown

        return audit_markdown(self)

    @cached_property
    def plots(self) -> tuple[tuple[str, str], ...]:
        """The plots as SVG, each with its title; the page and the PDF show the same ones, which are drawn once."""
        from mia_hub.auditing.plots import roc_svg, timesteps_svg

        return (
            ("AUC at every timestep", timesteps_svg(self)),
            (f"ROC curve at t = {self.timestep}, on logarithmic axes", roc_svg(self.roc, auc=self.auc, tpr_at_fpr=self.tpr_at_fpr)),
        )

    def to_html(self) -> str:
        """Return a self-contained page: no script, no request to anywhere."""
        from mia_hub.auditing.report_pages import audit_html

        return audit_html(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> AuditReport:
        """Return the report that `to_dict` gave these values for, without its scores."""
        rows = tuple(
            TimestepRow(row["timestep"], Estimate(**row["auc"]), Estimate(**row["asr"]), _estimates_by_rate(row["tpr_at_fpr"]))
            for row in values["per_timestep"]
        )
        return cls(
            **{key: values[key] for key in ("attack", "model", "split", "selection", "roc", "provenance")},
            auc=Estimate(**values["auc"]),
            asr=Estimate(**values["asr"]),
            tpr_at_fpr=_estimates_by_rate(values["tpr_at_fpr"]),
            per_timestep=rows,
            blind_auc=Estimate(**values["blind_auc"]) if values["blind_auc"] else None,
            flags=tuple(Flag(**flag) for flag in values["flags"]),
            cost=Cost(**values["cost"]),
            ranking=Ranking.from_dict(values["ranking"]) if values.get("ranking") else None,
            epsilon=EpsilonFinding.from_dict(values["epsilon"]) if values.get("epsilon") else None,
        )


def _estimates_by_rate(values: dict[str, dict[str, Any]]) -> dict[float, Estimate]:
    return {float(rate): Estimate(**estimate) for rate, estimate in values.items()}


def _json_ready(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _json_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_ready(item) for item in value]
    return value.item() if hasattr(value, "item") else value
