"""Memorisation over training and over the size of the training set: when a model becomes auditable.

python -m studies.memorisation
"""

from __future__ import annotations

import argparse
from typing import Any

from mia_hub.rendering.markdown import markdown_table
from studies.figures import lines_svg
from studies.measuring import CONDITIONAL, SIMA, compare_attacks, interval_text, row_figures
from studies.models import load_run
from studies.page import run_study

NAME = "memorisation"
SIZES = (128, 256, 512, 1024, 2048)
ATTACKS = (SIMA, CONDITIONAL)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    rows, models = [], {}
    for size in SIZES:
        model = load_run(args.runs / f"ddpm-{size}")
        split, recipe = model.split(), model.facts["recipe"]
        for step, folder in model.snapshots.items():
            last = folder == model.final
            comparison = compare_attacks(folder, split, ATTACKS, args.runs / "scores" / NAME / f"{size}-{step}", shift_check=last)
            passes = step * recipe["images per step"] / size
            sima, conditional = map(row_figures, comparison.rows)
            rows.append({"size": size, "step": step, "passes": passes, "sima": sima, "sima-cn": conditional})
            if last:
                models[str(size)] = {
                    "command": model.facts["command"],
                    "split": model.facts["split_hash"],
                    "blind": str(comparison.blind_auc),
                }
    return {"rows": rows, "models": models}


def render(results: dict[str, Any]) -> dict[str, str]:
    rows = results["rows"]
    sizes = sorted({row["size"] for row in rows})
    series = {f"{size:,} images": [(row["passes"], *row["sima-cn"]["auc"]) for row in rows if row["size"] == size] for size in sizes}
    last = {size: [row for row in rows if row["size"] == size][-1] for size in sizes}
    ends = "; ".join(f"{size} images, {row['passes']:.0f} passes: {interval_text(row['sima-cn']['auc'])}" for size, row in last.items())
    figure = lines_svg(
        series, heading="AUC of sima-cn (higher = leaks more)", x_label="Passes over the training set", log_x=True, chance=0.5,
        description=f"AUC of conditional SimA over training, for training sets of {len(sizes)} sizes. At the end: {ends}.",
        ticks={tick: f"{tick:,}" for tick in (10, 30, 100, 300, 1000)}, y_limits=(0.45, 1.02),
    )  # fmt: skip
    headers = ["Images", "Steps", "Passes", "SimA: AUC", "TPR@1%FPR", "sima-cn: AUC", "TPR@1%FPR"]
    return {
        "memorisation.svg": figure,
        "ends": markdown_table(headers, [_row(row) for row in last.values()]),
        "onset": markdown_table(["Images", *ONSETS], [_onsets(size, rows) for size in sizes]),
        "all": markdown_table(headers, [_row(row) for row in rows]),
        "models": "\n".join(
            f"- {size} images: `{model['command']}`; blind AUC of the split {model['blind']}." for size, model in results["models"].items()
        ),
    }


def _row(row: dict[str, Any]) -> list[str]:
    figures = [interval_text(row[attack].get(figure)) for attack in ("sima", "sima-cn") for figure in ("auc", "tpr_at_0.01_fpr")]
    return [f"{row['size']:,}", f"{row['step']:,}", f"{row['passes']:.0f}", *figures]


# Bounds on the lower ends of a snapshot's intervals.
ONSETS = {
    "AUC surely above .5": ("auc", 0.5),
    "AUC surely above .7": ("auc", 0.7),
    "TPR@1%FPR surely above 5 %": ("tpr_at_0.01_fpr", 0.05),
    "TPR@1%FPR surely above 50 %": ("tpr_at_0.01_fpr", 0.5),
}


def _onsets(size: int, rows: list[dict[str, Any]]) -> list[str]:
    """Return the passes at the first snapshot from which each bound always holds."""
    cells, own = [f"{size:,}"], [row for row in rows if row["size"] == size]
    for figure, bound in ONSETS.values():
        below = [i for i, row in enumerate(own) if figure not in row["sima-cn"] or row["sima-cn"][figure][1] <= bound]
        first = below[-1] + 1 if below else 0
        cells.append(f"{own[first]['passes']:.0f} passes" if first < len(own) else f"not in {own[-1]['passes']:.0f}")
    return cells


if __name__ == "__main__":
    run_study(NAME, __doc__.split("\n")[0], measure, render)
