"""What a reference denoiser adds where no base is known: the demo, given a small denoiser of other images of the kind.

    python -m studies.reference_denoiser

It trains the reference denoisers first, on images of Fashion-MNIST that the demo was neither trained on nor audited with. Then it gives one
of them as a base, and several, trained for a shorter time, as reference models.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mia_hub.attacks import get_attack
from mia_hub.attacks.scoring import Observations
from mia_hub.attacks.spelling import parse_attack, parse_name_and_parameters, spell
from mia_hub.auditing.measurement import measure as measure_scores
from mia_hub.denoisers.reference_denoiser import train_reference
from mia_hub.models.loading import load_model
from mia_hub.models.reference_models import reference_models
from mia_hub.rendering.markdown import markdown_table
from mia_hub.scores import ScoreTable
from mia_hub.splits.loading import load_split
from mia_hub.system.provenance import provenance
from studies.measuring import compare_attacks, interval_text, numbers, row_figures
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
# Several reference denoisers, each on other images; fixed beforehand, too.
COUNTS, FEWER_STEPS = (1, 2, 4), 750
T, STATISTICS = 100, ("loss", "sima")
GIVEN_ONE = f"sima-b:timesteps={T}"
COMPARED = ("lira", "rmia", "bavaria", "bavaria:prior=variances")
FIGURES = ("auc", "tpr_at_0.01_fpr", "members", "nonmembers")


def trained(folder: Path, steps: int, number: int = 0) -> str:
    """Return the folder of a reference denoiser, which is trained there unless it is there; each number has images of its own."""
    others = fashion_mnist(OTHERS, 1, side=28, skip=DEMO_IMAGES + number * OTHERS).members
    return str(train_reference(list(others), "demo", folder, steps=steps).resolve())


def measure(args: argparse.Namespace) -> dict[str, Any]:
    return as_base(args.runs) | {"reference_models": as_reference_models(args.runs)}


def as_reference_models(runs: Path) -> dict[str, Any]:
    """Measure the demo, compared with one, two and four reference denoisers."""
    folders = [trained(runs / f"reference-demo-{number}-{FEWER_STEPS}", FEWER_STEPS, number) for number in range(max(COUNTS))]
    split, scores = load_split("demo"), runs / "scores" / f"{NAME}-models"
    given_one = compare_attacks(load_model("demo", base=folders[0]), split, (GIVEN_ONE,), scores / "sima-b", shift_check=False).rows[0]
    model = load_model("demo", reference_models=folders)
    # They are sorted by revision; their numbers are those of their images.
    places = [[other.info.id for other in reference_models(model)].index(folder) for folder in folders]
    rows = []
    for compared in STATISTICS:
        # Every image is queried once; all attacks and numbers of reference denoisers are computed from that.
        observed = get_attack("bavaria", timesteps=(T,), compared=compared).observe(
            model, split.images, is_member=split.is_member, resume=scores / compared
        )
        statistics = np.exp(observed.values[..., [0, *(1 + place for place in places)]])
        rows += rows_of(compared, statistics, observed, math.prod(model.info.sample_shape))
    rows.append({"attack": "sima-b", "models": 1} | {name: row_figures(given_one)[name] for name in FIGURES})
    return {"rows": rows, "t": T, "steps": FEWER_STEPS, "provenance": provenance()}


def rows_of(compared: str, statistics: npt.NDArray[np.float64], observed: Observations, elements: int) -> list[dict[str, Any]]:
    """Return the rows of a statistic: alone, and compared by each attack.

    Args:
        compared: its name.
        statistics: on the demo and on each reference denoiser, ``[N, 1, 1 + 4]``.
        observed: states ids, labels and seed.
        elements: number of elements of an image.
    """
    rows = [{"attack": compared, "models": 0} | _figures(-np.log(statistics[..., 0]), observed, fitted=False)]
    for text in COMPARED:
        name, parameters = parse_name_and_parameters(text)
        attack: Any = get_attack(name, **parameters, timesteps=(T,), compared=compared)
        for count in COUNTS:
            values = attack.formula(torch.from_numpy(statistics[..., : 1 + count]), elements).numpy()
            concluded = attack.conclude(values, observed.ids, observed.is_member, observed.seed)
            row = {"attack": spell(attack, without=("timesteps",)), "models": count}
            rows.append(row | _figures(concluded, observed, fitted=attack.needs_training))
    return rows


def _figures(scores: Any, observed: Observations, *, fitted: bool) -> dict[str, Any]:
    """Return the figures of scores ``[N, 1]`` on the reported half."""
    table = ScoreTable(observed.ids, observed.is_member, np.array([T]), scores, attack="", model={})
    found = measure_scores(table, fitted=fitted, seed=observed.seed).at_selected
    figures = (numbers(found.auc), numbers(found.tpr_at_fpr[0.01]), found.auc.n_members, found.auc.n_nonmembers)
    return dict(zip(FIGURES, figures))


def as_base(runs: Path) -> dict[str, Any]:
    """Measure the demo, given one reference denoiser as its base."""
    model = load_model("demo", base=trained(runs / "reference-demo", STEPS))
    comparison = compare_attacks(model, load_split("demo", limit=MOST), tuple(ATTACKS.values()), runs / "scores" / NAME, shift_check=False)
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
    first, models = results["rows"][0], results["reference_models"]
    return {
        "models": markdown_table(
            [f"Attack, t = {models['t']}", "Reference denoisers", "AUC", "TPR@1%FPR"], _model_rows(models["rows"]), raw=True
        ),
        "fewer_steps": str(models["steps"]),
        "models_counts": f"{models['rows'][0]['members']:,} members and {models['rows'][0]['nonmembers']:,} non-members",
        "table": markdown_table(headers, rows, raw=True),
        "others": f"{results['others']:,}",
        "steps": f"{results['steps']:,}",
        "counts": f"{first['members']:,} members and {first['nonmembers']:,} non-members",
    }


def _model_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    return [
        [f"`{row['attack']}`", str(row["models"] or "—"), interval_text(row["auc"]), interval_text(row["tpr_at_0.01_fpr"])] for row in rows
    ]


if __name__ == "__main__":
    run_study(NAME, __doc__.split("\n")[0], measure, render)
