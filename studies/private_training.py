"""Bounds on ε of trainings whose ε is known: with DP-SGD, and without privacy.

    python -m studies.private_training

`studies.train` trains the models. The images and the canaries of each were in or out by coins.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import mia_hub
from mia_hub.attacks.spelling import parse_attack
from mia_hub.auditing.epsilon import measure_epsilon
from mia_hub.metrics.epsilon import gaussian_one_run_bound
from mia_hub.rendering.markdown import markdown_table
from mia_hub.splits.canaries import SUFFIX
from studies.figures import lines_svg
from studies.measuring import interval_text, numbers
from studies.page import run_study

NAME = "private_training"
# Fixed before the first run. The attack learns nothing from labels, as the one-run method requires.
ATTACK = "sima:timesteps=20,50,100,200"
RUNS = {"private-2": "DP-SGD, ε = 2", "private-8": "DP-SGD, ε = 8", "not-private": "without privacy"}
SIDES = {"": "images", SUFFIX: "canaries"}
METHODS = {
    "one-run": "one run, δ = 0",
    "one-run at δ": "one run, δ = 1e-5",
    "gaussian": "one run, δ = 1e-5, if Gaussian",
    "rates": "Clopper–Pearson, of one model",
}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    models = []
    for name in RUNS:
        folder = args.runs / name
        facts = json.loads((folder / "training.json").read_text(encoding="utf-8"))
        model = mia_hub.load_model(str((folder / "model").resolve()))
        sides = {label: _bounds(model, folder / f"split{suffix}", facts["delta"]) for suffix, label in SIDES.items()}
        models.append({"name": name, "facts": facts, "sides": sides})
    return {"attack": ATTACK, "models": models}


def _bounds(model, split, delta: float) -> dict[str, Any]:
    """Return an audit's AUC and the bounds on ε of one split."""
    report = mia_hub.audit(model, parse_attack(ATTACK), str(split), epsilon="one-run", shift_check=False, progress=False)
    at_zero, at_delta = report.epsilon.bounds
    gaussian = gaussian_one_run_bound(at_delta.correct, at_delta.guesses, at_delta.m, delta=delta)
    rates = measure_epsilon(report.scores, "clopper-pearson")
    bounds = {"one-run": at_zero.bound, "one-run at δ": at_delta.bound, "gaussian": gaussian.bound, "rates": rates.bounds[0].bound}
    counts = {"guesses": at_zero.guesses, "correct": at_zero.correct, "m": at_zero.m, "timestep": report.epsilon.timestep}
    return {"auc": numbers(report.auc), "bounds": bounds, "hash": report.split["hash"], **counts}


def render(results: dict[str, Any]) -> dict[str, str]:
    models = results["models"]
    places = {i: RUNS[model["name"]] for i, model in enumerate(models)}
    shown = [("images", "one-run at δ"), ("canaries", "one-run at δ"), ("canaries", "gaussian")]
    series = {
        f"{side}: {METHODS[method]}": [(i, *3 * [model["sides"][side]["bounds"][method]]) for i, model in enumerate(models)]
        for side, method in shown
    }
    stated = [(i, *3 * [model["facts"]["epsilon"]]) for i, model in enumerate(models) if model["facts"]["epsilon"]]
    rows = [
        [
            RUNS[model["name"]], side, interval_text(figures["auc"]), f"{figures['correct']} of {figures['guesses']}",
            *(f"{figures['bounds'][method]:.2f}" for method in METHODS),
        ]
        for model in models for side, figures in model["sides"].items()
    ]  # fmt: skip
    return {
        "private_training.svg": lines_svg(
            {"stated ε at δ = 1e-5": stated, **series}, heading="ε", x_label="Training", ticks=places,
            description="Lower bounds on ε of three trainings, of which two have a stated ε: " + _described(models),
        ),
        "bounds": markdown_table(["Training", "Guessed", "AUC", "Right", *METHODS.values()], rows),
        "verdicts": "\n".join(map(_verdict, models)),
        "recipes": "\n".join(map(_recipe, models)),
    }  # fmt: skip


def _described(models: list[dict[str, Any]]) -> str:
    return "; ".join(f"{RUNS[model['name']]}, {model['sides']['canaries']['bounds']['one-run']:.2f} by canaries" for model in models) + "."


def _verdict(model: dict[str, Any]) -> str:
    """Return whether the bounds are what they must be: at most the stated ε, and above 1 without privacy."""
    stated = model["facts"]["epsilon"]
    # At the δ of the stated ε: at δ = 0, DP-SGD has none.
    highest = max(figures["bounds"]["one-run at δ"] for figures in model["sides"].values())
    if stated is None:
        held = "above 1, as it should be" if highest > 1 else "**not above 1**: the attack finds too little"
        return f"- {RUNS[model['name']]}: the highest one-run bound is {highest:.2f}, {held}."
    held = f"below the stated {stated:g}, as it should be with 95 % confidence" if highest <= stated else f"**above the stated {stated:g}**"
    return f"- {RUNS[model['name']]}: the highest one-run bound is {highest:.2f}, {held}."


def _recipe(model: dict[str, Any]) -> str:
    facts = model["facts"]
    recipe = facts["recipe"]
    noise = f"; noise multiplier {facts['noise multiplier']:.3f}, clipping norm {facts['clipping norm']:g}" if facts["epsilon"] else ""
    members, canaries = (model["sides"][side]["hash"] for side in ("images", "canaries"))
    return (
        f"- {RUNS[model['name']]}: {facts['members']} of {recipe['images']} images and {facts['canaries']} of {recipe['canaries']} "
        f"canaries were in; {recipe['steps']:,} steps of {recipe['batch']} images on average, seed {recipe['seed']}{noise}. Splits "
        f"`{members}` and `{canaries}`."
    )


if __name__ == "__main__":
    run_study(NAME, __doc__.split("\n")[0], measure, render)
