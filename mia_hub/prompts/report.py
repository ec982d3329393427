"""What a detector says of prompts: scores, ranks, verdicts, and how well it tells known memorised prompts from others."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mia_hub.metrics.estimates import Estimate
from mia_hub.rendering.text import csv_cell

COLUMNS = ("detector", "rank", "score", "standard_error", "p_value", "q_value", "verdict", "cut_off", "prompt")


@dataclass(frozen=True)
class PromptScore:
    """The answer for one prompt.

    Attributes:
        prompt: its text.
        rank: 1 for the highest score; prompts of one score share a rank.
        score: the mean of the detector's statistic over draws; higher = more likely memorised.
        standard_error: of that mean, over draws; None with one draw. It says nothing of how prompts differ from each other.
        verdict: "evidence", "cannot-tell", or "no-null" where no unmemorised prompts are known.
        p_value: conformal, in (0, 1], against the known unmemorised prompts; None without any.
        q_value: the p-value adjusted for the number of prompts; None for a single one, and without p-values.
        cut_off: whether the prompt is longer than the text encoder takes, so that its end has no part in the score.
    """

    prompt: str
    rank: int
    score: float
    standard_error: float | None
    verdict: str
    p_value: float | None = None
    q_value: float | None = None
    cut_off: bool = False


@dataclass(frozen=True)
class PromptReport:
    """What one detector says of prompts.

    Attributes:
        model: `ModelInfo.to_dict` of the model.
        detector: the detector's ``repr``.
        name, paper: of the detector.
        timestep: at which sampling begins for the detector.
        seed: of the noise draws.
        draws, queries_per_prompt: noise draws, and forward passes, for each prompt.
        queries: forward passes spent, with those for known prompts.
        seconds: wall-clock time spent.
        device, precision: where and in which precision it was computed.
        prompts: the answers, the highest score first.
        unmemorised, memorised: scores of the known prompts of either kind, in the order given; empty without any.
        critical: the score above which a prompt by itself gets evidence; None with too few unmemorised prompts.
        auc: the probability that a known memorised prompt has a higher score than a known unmemorised one; None unless both are known.
        tpr_at_fpr: by false-positive rate, the share of known memorised prompts that are detected there.
        notes: what the reader must know, in sentences.
    """

    model: dict[str, Any]
    detector: str
    name: str
    paper: str
    timestep: int
    seed: int
    draws: int
    queries_per_prompt: int
    queries: int
    seconds: float
    device: str
    precision: str
    prompts: tuple[PromptScore, ...]
    unmemorised: tuple[float, ...] = ()
    memorised: tuple[float, ...] = ()
    critical: float | None = None
    auc: Estimate | None = None
    tpr_at_fpr: dict[float, Estimate] | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values."""
        values = asdict(self)
        if self.tpr_at_fpr is not None:
            values["tpr_at_fpr"] = {f"{rate:g}": asdict(estimate) for rate, estimate in self.tpr_at_fpr.items()}
        return values

    def to_text(self, most: int | None = None) -> str:
        """Return the answers for a terminal: the prompts of the highest scores, at most ``most`` of them, and what they mean."""
        from mia_hub.prompts.report_text import report_text

        return report_text(self, most)

    def plot_svg(self) -> str:
        """Draw the scores of the prompts among those of the known ones, as one ``<svg>`` element."""
        from mia_hub.prompts.plot import prompts_svg

        return prompts_svg(self)


def reports_csv(reports: Sequence[PromptReport]) -> str:
    """Return the answers of one or several detectors as a table in CSV: one row per detector and prompt, the highest score first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for report in reports:
        for answer in report.prompts:
            values = asdict(answer) | {"detector": report.name}
            writer.writerow([csv_cell(values[column]) for column in COLUMNS])
    return text.getvalue().rstrip("\n")
