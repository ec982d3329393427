"""The comparison of several attacks on one model and one split."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from mia_hub.auditing.report import AuditReport
from mia_hub.flags import Flag
from mia_hub.metrics.estimates import Estimate


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
class SkippedAttack:
    """An attack that is not in the table, and why."""

    label: str
    reason: str


@dataclass(frozen=True)
class Comparison:
    """Attacks side by side. Members are the positive class; higher figures mean that the model leaks more.

    Attributes:
        rows: the attacks, in the order in which they were named.
        left_out: attacks that can't run on this model and split, with the reason.
    """

    rows: tuple[ComparedAttack, ...]
    left_out: tuple[SkippedAttack, ...] = ()

    @property
    def reports(self) -> tuple[AuditReport, ...]:
        """The audit report of each row."""
        return tuple(row.report for row in self.rows)

    @property
    def model(self) -> dict[str, Any]:
        """`ModelInfo.to_dict` of the model."""
        return self.rows[0].report.model

    @property
    def split(self) -> dict[str, Any]:
        """The split as results record it."""
        return self.rows[0].report.split

    @property
    def blind_auc(self) -> Estimate | None:
        """AUC of a classifier that sees the images and never the model; None if it was not measured."""
        return self.rows[0].report.blind_auc

    @property
    def rates(self) -> list[float]:
        """The false-positive rates that were measured, the highest first."""
        return sorted({rate for row in self.rows for rate in row.report.tpr_at_fpr}, reverse=True)

    @property
    def flags(self) -> tuple[Flag, ...]:
        """The flags of all rows, each once, with the reason of the first attack that raises it."""
        raised: dict[str, list[tuple[str, Flag]]] = {}
        for row in self.rows:
            for flag in row.report.flags:
                raised.setdefault(flag.name, []).append((row.label, flag))
        return tuple(self._one_flag(same_name) for same_name in raised.values())

    def _one_flag(self, raised: list[tuple[str, Flag]]) -> Flag:
        label, flag = raised[0]
        if len(raised) == len(self.rows) and len({other.raised_by for _, other in raised}) == 1:
            return flag
        more = f"; and so for {len(raised) - 1} more of the {len(self.rows)} attacks" if len(raised) > 1 else ""
        return replace(flag, raised_by=f"{label}: {flag.raised_by}{more}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values."""
        return {
            "rows": [{f.name: getattr(row, f.name) for f in fields(row)} | {"report": row.report.to_dict()} for row in self.rows],
            "left_out": [asdict(attack) for attack in self.left_out],
        }

    def to_json(self) -> str:
        """Return `to_dict` as JSON."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Comparison:
        """Return the comparison that `to_dict` gave these values for, without scores."""
        return cls(
            tuple(ComparedAttack(**row | {"report": AuditReport.from_dict(row["report"])}) for row in values["rows"]),
            tuple(SkippedAttack(**attack) for attack in values["left_out"]),
        )

    def to_markdown(self) -> str:
        """Return the comparison as Markdown with GitHub's tables."""
        from mia_hub.auditing.comparison_pages import comparison_markdown

        return comparison_markdown(self)

    def to_html(self) -> str:
        """Return a self-contained page: no script, no request to anywhere."""
        from mia_hub.auditing.comparison_pages import comparison_html

        return comparison_html(self)

    def plot_svg(self) -> str:
        """Return every attack's AUC and true-positive rate with 95 % intervals, and all ROC curves on logarithmic axes as one ``<svg>``."""
        from mia_hub.auditing.plots import comparison_svg

        return comparison_svg(self.rows)
