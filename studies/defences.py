"""Defences: how much leakage fewer steps, flips, raw weights, larger training sets and β remove, and their cost in quality.

python -m studies.defences
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mia_hub.rendering.markdown import markdown_table
from studies.beta import weight
from studies.figures import scatter_svg
from studies.measuring import CONDITIONAL, SIMA, compare_attacks, interval_text, row_figures
from studies.models import TrainedModel, load_run
from studies.page import read_results, run_study
from studies.quality import best_possible, distance

NAME = "defences"
# The undefended model: 512 images of 16×16, no flips, averaged weights.
PLAIN = "ddpm-512"
STEPS = (2000, 4000, 6000)
SIZES = (128, 256, 1024, 2048)
ATTACKS = (SIMA, CONDITIONAL)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    rows = []
    for defence, setting, model, folder in _settings(args.runs):
        scores = args.runs / "scores" / NAME / f"{model.folder.name}-{folder.name}"
        comparison = compare_attacks(folder, model.split(), ATTACKS, scores, shift_check=False)
        figures = dict(zip(("sima", "sima-cn"), map(row_figures, comparison.rows)))
        quality = distance(folder, model.data, scores / "distances.json")
        rows.append({"defence": defence, "setting": setting, "attacks": figures, "distance": quality})
    return {"rows": rows, "floor": best_possible(model.data)}


def _settings(runs: Path) -> Iterator[tuple[str, str, TrainedModel, Path]]:
    plain = load_run(runs / PLAIN)
    yield "none", f"{plain.members} images, {plain.facts['steps']:,} steps", plain, plain.final
    for step in STEPS:
        yield "fewer steps", f"{step:,} steps", plain, plain.snapshots[step]
    yield "no averaging of weights", "the last step's weights", plain, plain.folder / "raw"
    flips = load_run(runs / f"{PLAIN}-flips")
    yield "random flips", "every image or its mirror image", flips, flips.final
    for size in SIZES:
        model = load_run(runs / f"ddpm-{size}")
        yield "another training set", f"{size:,} images, {model.facts['steps']:,} steps", model, model.final


def render(results: dict[str, Any]) -> dict[str, str]:
    rows = results["rows"]
    plain = rows[0]
    series: dict[str, list[tuple[list[float], list[float]]]] = {}
    for row in rows:
        series.setdefault(row["defence"], []).append((row["distance"], row["attacks"]["sima-cn"]["auc"]))
    values = "; ".join(f"{row['defence']} ({row['setting']}): {row['attacks']['sima-cn']['auc'][0]:.3f}" for row in rows)
    return {
        "defences.svg": scatter_svg(
            series, heading="AUC of sima-cn (higher = leaks more)", x_label="Fréchet distance of samples (lower = better images)",
            ticks=(0.5, 1, 2, 5, 10), chance=0.5,
            description=f"AUC of conditional SimA against the quality of images, for every defence. {values}.",
        ),
        "pixels": markdown_table(["Defence", "Setting", *FIGURES], [[row["defence"], row["setting"], *_cells(row)] for row in rows]),
        "beta": markdown_table(["β", "Adversary", *FIGURES], _beta_rows()),
        "floor": f"{results['floor']:.3f}",
        "plain": f"AUC {interval_text(plain['attacks']['sima-cn']['auc'])} and Fréchet distance {interval_text(plain['distance'])}",
    }  # fmt: skip


FIGURES = ("SimA: AUC", "sima-cn: AUC", "sima-cn: TPR@1%FPR", "Fréchet distance")


def _cells(row: dict[str, Any]) -> list[str]:
    attacks = row["attacks"]
    low = interval_text(attacks["sima-cn"].get("tpr_at_0.01_fpr"))
    return [interval_text(attacks["sima"]["auc"]), interval_text(attacks["sima-cn"]["auc"]), low, interval_text(row["distance"])]


def _beta_rows() -> list[list[str]]:
    """Return the rows of the study of β, which has other models: latent diffusion on 32×32."""
    return [[weight(row["beta"]), row["adversary"], *_cells(row)] for row in read_results("beta")["rows"]]


if __name__ == "__main__":
    run_study(NAME, __doc__.split("\n")[0], measure, render)
