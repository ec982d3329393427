"""Measurements of the studies: attacks on a model through `mia_hub.compare`. Scores are stored, so that a study resumes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mia_hub.attacks.spelling import parse_attack
from mia_hub.auditing.compare import compare
from mia_hub.auditing.comparison import ComparedAttack, Comparison
from mia_hub.metrics.estimates import Estimate
from mia_hub.splits.member_split import MemberSplit
from mia_hub.system.files import write_text

# The strongest timesteps, thinned out: each costs one query per image.
GRID = "40,70,100,130,160"
SIMA, CONDITIONAL = f"sima:timesteps={GRID}", "sima-cn:timesteps=70,100,130"
# Attacks that need no known member: chance, SimA, its Monte Carlo form, and SimA given complexity.
FIRST = ("random", SIMA, "sima-mc:timesteps=70,100", "sima-c")
# All others that aren't conditional. Grids are thin where an attack's own would only cost more; everything else is at its default.
OTHERS = (
    "loss:timesteps=20,60,100,140,180",
    "secmi",
    "secmi-nns",
    "pia:timesteps=50,100,150,200,250,300",
    "pian:timesteps=50,100,150,200,250,300",
    "pfami",
    "rediffuse",
    "gsa1",
    "gsa2",
    "forensics-vlb",
    "forensics-mse",
    "forensics-xstart",
    "nearest-generated",
    "nearest-generated:space=feature",
)


def compare_attacks(model, split: MemberSplit, attacks: Sequence[str], folder: Path, **options: Any) -> Comparison:
    """Compare attacks, spelled as on the command line, on one model; timesteps are chosen on the calibration half."""
    return compare(
        str(model) if isinstance(model, Path) else model, split, [parse_attack(text) for text in attacks], folder=folder, **options
    )


def row_figures(row: ComparedAttack) -> dict[str, Any]:
    """Return a row's figures as JSON values."""
    report = row.report
    low = {f"tpr_at_{rate:g}_fpr": numbers(estimate) for rate, estimate in report.tpr_at_fpr.items()}
    images = {"members": report.auc.n_members, "nonmembers": report.auc.n_nonmembers}
    cost = {"queries": row.queries_at_timestep, "timestep": report.timestep}
    return {"attack": row.label, "auc": numbers(report.auc), **low, **images, **cost, "chosen": row.chosen}


def numbers(estimate: Estimate) -> list[float]:
    """Return ``[value, low, high]``."""
    return [round(float(part), 5) for part in (estimate.value, estimate.low, estimate.high)]


def entry_numbers(estimate: Mapping[str, float] | None) -> list[float] | None:
    """Return ``[value, low, high]`` of an estimate in a leaderboard entry; None from None."""
    return estimate and [round(estimate[part], 5) for part in ("value", "low", "high")]


def interval_text(numbers: Sequence[float] | None, decimals: int = 3) -> str:
    """Return ``.931 [.918, .942]``, or a dash where nothing was measured."""
    if numbers is None:
        return "—"
    value, low, high = (f"{part:.{decimals}f}" for part in numbers)
    return f"{value} [{low}, {high}]"


def once(path: Path, measure: Callable[[], Any]) -> Any:
    """Return the stored result of a measurement; measure and store it if there is none."""
    if path.exists():
        return json.loads(path.read_text())
    result = measure()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(result))
    return result
