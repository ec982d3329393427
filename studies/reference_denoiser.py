"""What a reference denoiser adds where no base is known: the demo, given a small denoiser of other images of the kind.

    python -m studies.reference_denoiser

It trains the reference denoiser first, on images of Fashion-MNIST that the demo was neither trained on nor audited with.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mia_hub.attacks.spelling import parse_attack
from mia_hub.denoisers.reference_denoiser import train_reference
from mia_hub.models.loading import load_model
from mia_hub.rendering.markdown import markdown_table
from mia_hub.splits.loading import load_split
from mia_hub.system.provenance import provenance
from studies.measuring import compare_attacks, interval_text, row_figures
from studies.page import run_study
from studies.train import DEMO_IMAGES
from training.data import fashion_mnist

NAME = "reference_denoiser"
OTHERS, STEPS, MOST = 4000, 3000, 2000
# Fixed before the first run, around the timestep of the demo's verdicts.
ATTACKS = {
    "SimA": "sima:timesteps=70,100,130",
    "given neighbours": "sima-cn:timesteps=100,given=complexity,shift-left,shift-right",
    "given the reference denoiser": "sima-b:timesteps=70,100,130",
    "given both": "sima-b:timesteps=100,given=base,complexity,shift-left,shift-right",
}


def trained(runs: Path) -> Path:
    """Return the folder of the reference denoiser; train it, unless it is there."""
    others = fashion_mnist(OTHERS, 1, side=28, skip=DEMO_IMAGES).members
    return train_reference(list(others), "demo", runs / "reference-demo", steps=STEPS)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    model = load_model("demo", base=str(trained(args.runs).resolve()))
    comparison = compare_attacks(
        model, load_split("demo", limit=MOST), tuple(ATTACKS.values()), args.runs / "scores" / NAME, shift_check=False
    )
    rows = []
    for (words, text), row in zip(ATTACKS.items(), comparison.rows):
        attack = parse_attack(text).with_chosen(row.chosen).at(row.report.timestep)
        rows.append({"words": words, "of_base": attack.base_queries_per_image} | row_figures(row))
    return {"rows": rows, "others": OTHERS, "steps": STEPS, "provenance": provenance()}


def render(results: dict[str, Any]) -> dict[str, str]:
    rows = [
        [
            row["words"],
            f"`{row['attack']}`",
            f"{row['queries'] - row['of_base']} + {row['of_base']}",
            str(row["timestep"]),
            interval_text(row["auc"]),
            interval_text(row["tpr_at_0.01_fpr"]),
        ]
        for row in results["rows"]
    ]
    headers = ["SimA …", "Attack", "Queries: demo + reference", "t", "AUC", "TPR@1%FPR"]
    first = results["rows"][0]
    return {
        "table": markdown_table(headers, rows, raw=True),
        "others": f"{results['others']:,}",
        "steps": f"{results['steps']:,}",
        "counts": f"{first['members']:,} members and {first['nonmembers']:,} non-members",
    }


if __name__ == "__main__":
    run_study(NAME, __doc__.split("\n")[0], measure, render)
