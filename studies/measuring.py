"""What studies measure of a model: attacks, by `mia_hub.compare`. Scores are kept, so that a study goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mia_hub.attacks.spelling import attack_from
from mia_hub.auditing.compare import compare
from mia_hub.auditing.comparison import ComparedAttack, Comparison
from mia_hub.metrics.estimates import Estimate
from mia_hub.splits.member_split import MemberSplit
from mia_hub.system.files import write_text

# Where the strongest timesteps lie; thinned, since each costs a query for each picture.
GRID = "40,70,100,130,160"
SIMA, CONDITIONAL = f"sima:timesteps={GRID}", "sima-cn:timesteps=70,100,130"
# Queried without knowing any member: chance, SimA, its Monte Carlo form, and SimA given complexity.
FIRST = ("random", SIMA, "sima-mc:timesteps=70,100", "sima-c")
# All but SimA and what is judged given difficulty. Grids are thin where an attack's own would only cost more; all else is at its default.
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


def attacked(model, split: MemberSplit, attacks: Sequence[str], folder: Path, **options: Any) -> Comparison:
    """Attacks, spelled as on the command line, on one model; timesteps are chosen on the calibration half and reported on the other."""
    return compare(
        str(model) if isinstance(model, Path) else model, split, [attack_from(text) for text in attacks], folder=folder, **options
    )


def figures_of(row: ComparedAttack) -> dict[str, Any]:
    """A row's figures as JSON values."""
    report = row.report
    low = {f"tpr_at_{rate:g}_fpr": numbers(estimate) for rate, estimate in report.tpr_at_fpr.items()}
    images = {"members": report.auc.n_members, "nonmembers": report.auc.n_nonmembers}
    cost = {"queries": row.queries_at_timestep, "timestep": report.timestep}
    return {"attack": row.label, "auc": numbers(report.auc), **low, **images, **cost, "chosen": row.chosen}


def numbers(estimate: Estimate) -> list[float]:
    """``[value, low, high]``."""
    return [round(float(part), 5) for part in (estimate.value, estimate.low, estimate.high)]


def triple(estimate: Mapping[str, float] | None) -> list[float] | None:
    """The same of an estimate as an entry of the leaderboard has it."""
    return estimate and [round(estimate[part], 5) for part in ("value", "low", "high")]


def shown(found: Sequence[float] | None, decimals: int = 3) -> str:
    """``.931 [.918, .942]``, or a dash where nothing was measured."""
    if found is None:
        return "—"
    value, low, high = (f"{part:.{decimals}f}" for part in found)
    return f"{value} [{low}, {high}]"


def once(path: Path, measure: Callable[[], Any]) -> Any:
    """What was measured before, or else is measured now and kept."""
    if path.exists():
        return json.loads(path.read_text())
    found = measure()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(found))
    return found
