"""The timestep: how well scores separate members from non-members over the whole schedule, for each model.

python -m studies.timesteps
"""

from __future__ import annotations

import argparse
from typing import Any

from mia_hub.rendering.markdown import markdown_table
from mia_hub.splits.loading import load_split
from studies.figures import lines_svg
from studies.measuring import compare_attacks, interval_text, numbers
from studies.models import MODELS, load_run
from studies.page import run_study

NAME = "timesteps"
# Dense where the papers find the signal, and up to the end.
GRID = (0, 5, 10, 20, 30, 40, 50, 60, 80, 100, 120, 140, 160, 180, 200, 250, 300, 350, 400, 500, 600, 700, 800, 900, 990)
ATTACKS = ("sima", "loss", "pia")
MOST = 500


def measure(args: argparse.Namespace) -> dict[str, Any]:
    grid, families = ",".join(map(str, GRID)), {}
    for name in MODELS:
        model, split = ("demo", load_split("demo", limit=MOST)) if name == "demo" else _run(args, name)
        comparison = compare_attacks(model, split, [f"{attack}:timesteps={grid}" for attack in ATTACKS], args.runs / "scores" / NAME / name)
        rows = {}
        for attack, row in zip(ATTACKS, comparison.rows):
            curve = [[one.timestep, *numbers(one.auc)] for one in row.report.per_timestep]
            rows[attack] = {"curve": curve, "chosen": row.report.timestep, "auc": numbers(row.report.auc)}
        auc = comparison.rows[0].report.auc
        families[name] = {"attacks": rows, "members": auc.n_members, "nonmembers": auc.n_nonmembers, "blind": numbers(comparison.blind_auc)}
    return {"families": families}


def _run(args: argparse.Namespace, name: str):
    model = load_run(args.runs / name)
    return model.name, model.split(MOST)


def render(results: dict[str, Any]) -> dict[str, str]:
    families = results["families"]
    parts = {}
    for attack in ATTACKS:
        series = {MODELS[name]: one["attacks"][attack]["curve"] for name, one in families.items()}
        best = {name: max(curve, key=lambda point: point[1]) for name, curve in series.items()}
        parts[f"timesteps-{attack}.svg"] = lines_svg(
            series, heading=f"AUC of {attack} (higher = leaks more)", x_label="Diffusion timestep t", chance=0.5,
            description=f"AUC of {attack} over the schedule. Highest: "
            + "; ".join(f"{name} {top[1]:.3f} at t = {top[0]}" for name, top in best.items()),
        )  # fmt: skip
    rows = []
    for name, one in families.items():
        for attack, figures in one["attacks"].items():
            strong = [t for t, value, *_ in figures["curve"] if value >= max(point[1] for point in figures["curve"]) - 0.01]
            late = next(point for point in figures["curve"] if point[0] == 700)
            first = MODELS[name] if attack == ATTACKS[0] else ""
            chosen = [f"t = {figures['chosen']}", interval_text(figures["auc"])]
            rows.append(
                [
                    first,
                    f"`{attack}`",
                    *chosen,
                    ", ".join(map(str, strong)),
                    interval_text(figures["curve"][0][1:]),
                    interval_text(late[1:]),
                ]
            )
    headers = [
        "Model",
        "Attack",
        "Chosen on the calibration half",
        "AUC there",
        "Within .01 of the highest",
        "AUC at t = 0",
        "AUC at t = 700",
    ]
    counts = [f"{MODELS[name]}: {one['members']} members, {one['nonmembers']} non-members" for name, one in families.items()]
    return {**parts, "table": markdown_table(headers, rows, raw=True), "counts": "; ".join(counts)}


if __name__ == "__main__":
    run_study(NAME, __doc__.split("\n")[0], measure, render)
