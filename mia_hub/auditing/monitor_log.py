"""What a training monitor measured, one JSON line for each checkpoint, in a file that a resumed training run continues."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mia_hub.auditing.epsilon import EpsilonFinding
from mia_hub.errors import MiaHubError
from mia_hub.metrics.estimates import Estimate, Rates
from mia_hub.scores import ScoreTable
from mia_hub.system.files import write_text


@dataclass(frozen=True)
class MonitoredStep:
    """The figures of a model in training at one step. **Higher = leaks more.**

    Attributes:
        step: of the training run.
        timestep: the timestep of the figures.
        auc, asr: the figures, with 95 % intervals over the images.
        tpr_at_fpr: true-positive rate by false-positive rate.
        warnings: clauses that say which limits of ``warn_above`` are exceeded.
        stops: clauses that say which limits of ``stop_above`` are exceeded.
        seconds: wall-clock time that the monitor took.
        scores: the table that the figures come from; None for a step that was read from a file.
        epsilon: lower bounds on ε, as in an audit; None if there are too few images for one.
    """

    step: int
    timestep: int
    auc: Estimate
    asr: Estimate
    tpr_at_fpr: dict[float, Estimate]
    warnings: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()
    seconds: float | None = None
    scores: ScoreTable | None = field(default=None, repr=False, compare=False)
    epsilon: EpsilonFinding | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tpr_at_fpr", Rates(self.tpr_at_fpr))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values, without the scores."""
        rates = {str(rate): asdict(estimate) for rate, estimate in self.tpr_at_fpr.items()}
        return {
            "step": self.step,
            "timestep": self.timestep,
            "auc": asdict(self.auc),
            "asr": asdict(self.asr),
            "tpr_at_fpr": rates,
            "warnings": list(self.warnings),
            "stops": list(self.stops),
            "seconds": self.seconds,
            "epsilon": None if self.epsilon is None else self.epsilon.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> MonitoredStep:
        """Return the step that `to_dict` gave these values for."""
        rates = {float(rate): Estimate(**estimate) for rate, estimate in values["tpr_at_fpr"].items()}
        # Files of earlier versions have no bound.
        epsilon = None if values.get("epsilon") is None else EpsilonFinding.from_dict(values["epsilon"])
        return cls(
            values["step"], values["timestep"], Estimate(**values["auc"]), Estimate(**values["asr"]), rates,
            tuple(values["warnings"]), tuple(values["stops"]), values["seconds"], epsilon=epsilon,
        )  # fmt: skip

    def tracked(self) -> dict[str, float]:
        """Return the figures by the names under which trackers show them, such as "mia/auc" and "mia/auc_low"."""
        named = {"auc": self.auc, "asr": self.asr} | {f"tpr_at_{rate:g}_fpr": estimate for rate, estimate in self.tpr_at_fpr.items()}
        ends = {"": "value", "_low": "low", "_high": "high"}
        figures = {f"mia/{name}{end}": getattr(estimate, part) for name, estimate in named.items() for end, part in ends.items()}
        bounds = () if self.epsilon is None else self.epsilon.bounds
        # By method: only that of one run bounds the training's ε.
        return figures | {f"mia/epsilon_{bound.method.replace('-', '_')}_at_delta_{bound.delta:g}": bound.bound for bound in bounds}


@dataclass(frozen=True)
class MonitorLog:
    """A file of JSON lines.

    Attributes:
        path: the file; None to keep the steps in memory alone.
        identity: what steps must have in common to be one curve; written into each line.
    """

    path: Path | None
    identity: dict[str, Any]

    def read(self) -> list[MonitoredStep]:
        """Return the steps in the file; a last line that was cut short is left out.

        Raises:
            MiaHubError: for a file of another form, or of another split, attack or seed.
        """
        if self.path is None or not self.path.exists():
            return []
        steps: list[MonitoredStep] = []
        try:
            lines = self.path.read_text(encoding="utf-8").split("\n")
            for line in lines[:-1]:
                values = json.loads(line)
                if values["identity"] != self.identity:
                    raise MiaHubError(
                        f"{self.path} holds the curve of another monitor: {values['identity']}, and this one is {self.identity}. Give "
                        "another file, or the same images, attack and seed."
                    )
                steps.append(MonitoredStep.from_dict(values))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise MiaHubError(f"{self.path} is no file of a monitor ({type(error).__name__}: {error}). Give another file.") from error
        return steps

    def write(self, steps: list[MonitoredStep]) -> None:
        """Write all steps.

        Raises:
            MiaHubError: if the file can't be written.
        """
        if self.path is None:
            return
        lines = [json.dumps(step.to_dict() | {"identity": self.identity}) + "\n" for step in steps]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, "".join(lines))
        except OSError as error:
            raise MiaHubError(f"{self.path} can't be written ({error.strerror}); give another file.") from error
