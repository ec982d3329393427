"""Conditional SimA against every other attack at equal cost, on every model; its neighbours, and how many non-members it needs.

python -m studies.conditional
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import norm

from mia_hub.attacks import get_attack
from mia_hub.metrics import auc, auc_difference, delong
from mia_hub.models.loading import load_model
from mia_hub.rendering.markdown import markdown_table
from mia_hub.splits.partition import calibration_part
from studies.attacks import FOUR_SHIFTS, PHOTOGRAPHS, model_of, model_rows, scores_of, split_of
from studies.figures import lines_svg
from studies.measuring import CONDITIONAL, entry_numbers, interval_text, once
from studies.models import MODELS
from studies.page import read_results, run_study

NAME = "conditional"
# An attack is compared with the last of these that costs no more queries. Fixed beforehand.
LADDER = ("sima-c", CONDITIONAL, FOUR_SHIFTS)
# Fixed, so that the ablations differ in one thing.
TIMESTEP = 100
GIVEN = (
    ("complexity",),
    ("mirror",),
    ("shift-left",),
    ("complexity", "mirror"),
    ("complexity", "turn"),
    ("complexity", "shift-left"),
    ("complexity", "shift-left", "shift-right"),
    ("complexity", "shift-left", "shift-up"),
    ("complexity", "shift-left", "shift-right", "shift-up", "shift-down"),
    ("complexity", "mirror", "turn", "shift-left", "shift-up"),
)
NULL_SAMPLES, DRAWS = (20, 30, 50, 100, 200, 400), 20
WIN, LOSS, TIE = "wins", "loses", "no difference shown"
ALPHA = 0.05


def measure(args: argparse.Namespace) -> dict[str, Any]:
    models, stored = {}, read_results(NAME)["models"]
    for name in MODELS:
        folder = args.runs / "scores" / NAME
        models[name] = {"duels": _duels(name), "ablations": stored.get(name, {}).get("ablations")}
        # The demo's ablations are in docs/attacks.md: its split is nine times as large, and those of photographs larger still.
        if name not in ("demo", *PHOTOGRAPHS) and (args.runs / name).exists():
            given, null = (
                once(folder / f"{name}-{what}.json", lambda ablation=ablation, name=name: ablation(name))
                for what, ablation in ABLATIONS.items()
            )
            models[name]["ablations"] = {"given": given, "null": null}
    return {"models": {name: one for name, one in models.items() if one["duels"]}}


def _duels(name: str) -> list[dict[str, Any]]:
    """Return paired comparisons of every other attack with the last step of the ladder that costs no more queries."""
    rows = model_rows(name)
    ladder = [row for step in LADDER for row in rows if row["attack"] == step]
    duels = []
    for row in rows:
        affordable = [step for step in ladder if step["queries"] <= row["queries"]]
        if row in ladder or not affordable or row["attack"] == "random":
            continue
        own = affordable[-1]
        ours, theirs, is_member = _paired_scores(name, own, row)
        difference = [round(part, 5) for part in auc_difference(ours, theirs, is_member)]
        duels.append({"difference": difference, "own": _figures(own), "other": _figures(row)})
    return duels


def _figures(row: dict[str, Any]) -> dict[str, Any]:
    figures = {"attack": row["attack"], "queries": row["queries"], "auc": entry_numbers(row["auc"])}
    return figures | {"tpr_at_0.01_fpr": entry_numbers(row["tpr_at_fpr"].get("0.01"))}


def _paired_scores(name: str, *rows: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """Return the scores of each attack on the reported images in one order, and the images' labels."""
    columns, first = [], None
    for row in rows:
        table = scores_of(row)
        order = np.argsort(table.ids)
        ids, labels = np.array(table.ids)[order], table.is_member[order]
        if first is None:
            first, reported = ids, ~calibration_part(list(ids), labels, seed=table.seed)
        if not np.array_equal(ids, first):
            raise SystemExit(f"The attacks on {name} scored different images. Remove its entries and run them again.")
        columns.append(table.at(row["timestep"])[order][reported])
    return (*columns, labels[reported])


def _observe(name: str, given: tuple[str, ...], p: float = 2):
    """Return conditional SimA with these features, and its observations of a model's images."""
    attack, split = get_attack("sima-cn", timesteps=(TIMESTEP,), given=given, p=p), split_of(name)
    observations = attack.observe(load_model(model_of(name)), split.images, captions=split.captions, is_member=split.is_member)
    return attack, observations


def _given(name: str) -> dict[str, Any]:
    """Vary the features that the score is conditioned on, and the order of the norm, one at a time."""
    rows = []
    for given, p in [(given, 2.0) for given in GIVEN] + [(GIVEN[6], 4.0)]:
        attack, observations = _observe(name, given, p)
        scores = attack.conclude(observations.values, observations.ids, observations.is_member, observations.seed)[:, 0]
        reported = ~calibration_part(observations.ids, observations.is_member, seed=observations.seed)
        scores, labels = scores[reported], observations.is_member[reported]
        estimate = [float(auc(scores, labels)), *map(float, delong(scores, labels))]
        rows.append({"given": list(given), "p": p, "queries": attack.queries_per_image, "auc": estimate})
    return {"rows": rows}


def _null(name: str) -> dict[str, Any]:
    """Vary the number of non-members that μ and σ are fitted on, by random draws from the calibration part."""
    attack, observations = _observe(name, GIVEN[6])
    calibration, rows = calibration_part(observations.ids, observations.is_member, seed=observations.seed), []
    known = np.flatnonzero(calibration & (observations.is_member == 0))
    for count in (*(n for n in NULL_SAMPLES if n < len(known)), len(known)):
        values = []
        for draw in range(DRAWS if count < len(known) else 1):
            chosen = np.random.default_rng((count, draw)).choice(known, count, replace=False)
            scorer = attack.learn(observations.values[chosen], observations.is_member[chosen], observations.seed)
            values.append(float(auc(scorer(observations.values[~calibration])[:, 0], observations.is_member[~calibration])))
        rows.append({"count": count, "auc": [float(part) for part in (np.median(values), min(values), max(values))]})
    return {"rows": rows}


ABLATIONS = {"given": _given, "null": _null}


def render(results: dict[str, Any]) -> dict[str, str]:
    models = results["models"]
    ablations = {name: one["ablations"] for name, one in models.items() if one["ablations"]}
    models = {name: one | {"duels": duels} for (name, one), duels in zip(models.items(), judged([one["duels"] for one in models.values()]))}
    counts = [duel["outcome"] for one in models.values() for duel in one["duels"]]
    series = {MODELS[name]: [(row["count"], *row["auc"]) for row in one["null"]["rows"]] for name, one in ablations.items()}
    return {
        "conditional.svg": lines_svg(
            series, heading=f"AUC of conditional SimA at t = {TIMESTEP}, two shifts", x_label="Known non-members in the fit",
            log_x=True, ticks={count: str(count) for count in (20, 50, 100, 200, 500)},
            description="AUC of conditional SimA over the number of known non-members it is fitted on.",
        ),
        "count": str(len(counts)),
        "tally": ", ".join(f"{counts.count(one)} × {one}" for one in (WIN, TIE, LOSS)),
        "lost": _lost(models),
        "duels": "\n\n".join(f"### {MODELS[name]}\n\n{_duel_table(one['duels'])}" for name, one in models.items()),
        "given": _given_table({name: one["given"]["rows"] for name, one in ablations.items()}),
    }  # fmt: skip


def judged(duels: Sequence[Sequence[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
    """Return the comparisons with their outcomes, by Holm's correction over all of them."""
    adjusted = iter(holm([_p_value(*duel["difference"]) for part in duels for duel in part]))
    sign = {True: WIN, False: LOSS}
    return [[duel | {"outcome": sign[duel["difference"][0] > 0] if next(adjusted) <= ALPHA else TIE} for duel in part] for part in duels]


def _p_value(difference: float, low: float, high: float) -> float:
    """Return the two-sided p-value of a difference whose 95 % interval is ``low`` to ``high``, by the normal distribution."""
    error = (high - low) / (2 * norm.ppf(0.975))
    return float(2 * norm.sf(abs(difference) / max(error, 1e-12)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values (1979): of the k-th smallest of m, the largest (m - j + 1)·p_j over j ≤ k, at most 1."""
    order, adjusted, largest = np.argsort(p_values), [1.0] * len(p_values), 0.0
    for rank, place in enumerate(order.tolist()):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def _lost(models: dict[str, Any]) -> str:
    lost = [(name, duel) for name, one in models.items() for duel in one["duels"] if duel["outcome"] == LOSS]
    if not lost:
        return "It lost to none."
    lines = (
        f"{MODELS[name]}: to `{duel['other']['attack']}` ({duel['other']['queries']} queries) by {-duel['difference'][0]:.3f}"
        for name, duel in lost
    )
    return "It lost:\n\n" + "\n".join(f"- {line}" for line in lines)


def _duel_table(duels: list[dict[str, Any]]) -> str:
    rows = []
    for duel in sorted(duels, key=lambda duel: (duel["other"]["queries"], duel["other"]["attack"])):
        cells = [cell for side in ("other", "own") for cell in _side(duel[side])]
        rows.append([*cells, interval_text(duel["difference"]), duel["outcome"]])
    headers = ["Attack", "Queries", "AUC", "TPR@1%FPR", "Conditional SimA", "Queries", "AUC", "TPR@1%FPR", "Difference of AUC", ""]
    return markdown_table(headers, rows, raw=True)


def _side(figures: dict[str, Any]) -> list[str]:
    return [f"`{figures['attack']}`", str(figures["queries"]), interval_text(figures["auc"]), interval_text(figures["tpr_at_0.01_fpr"])]


def _given_table(ablations: dict[str, list[dict[str, Any]]]) -> str:
    first = next(iter(ablations.values()))
    rows = []
    for i, row in enumerate(first):
        name = ", ".join(row["given"]) + (f"; p = {row['p']:g}" if row["p"] != 2 else "")
        rows.append([name, str(row["queries"]), *(interval_text(rows_of_model[i]["auc"]) for rows_of_model in ablations.values())])
    return markdown_table(["Features", "Queries", *(MODELS[name] for name in ablations)], rows)


if __name__ == "__main__":
    run_study(NAME, __doc__.split("\n")[0], measure, render)
