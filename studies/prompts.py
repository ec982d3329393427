"""Memorised prompts: which detectors find the captions that a model memorised, among captions that it saw as often with many images?

python -m studies.prompts            # trains the models (five minutes of an idle CPU core) and measures
python -m studies.prompts --render   # writes the page again from docs/studies/prompts.json
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file

from mia_hub.metrics import auc, clopper_pearson, delong, tpr_at_fpr, tpr_at_fpr_interval
from mia_hub.metrics.p_values import CriticalScore
from mia_hub.prompts import get_detector
from mia_hub.prompts.plot import scores_svg
from mia_hub.prompts.scoring import score_prompts
from mia_hub.rendering.markdown import markdown_table
from mia_hub.rendering.numbers import percent_with_interval, with_interval
from mia_hub.system.provenance import provenance
from studies.page import run_study
from studies.prompt_model import CaptionedData, Denoiser, Recipe, as_model, captioned_data, spreads, train

NAME = "prompts"
SETTINGS = {"open": Recipe(), "named": Recipe(named=True)}
DETECTORS = (
    "guidance-norm:draws=1",
    "guidance-norm",
    "guidance-norm:draws=16",
    "curvature:draws=1",
    "curvature",
    "curvature:form=exact",
    "alignment",
    "alignment:weights=0,1",
)
DRAWN = ("guidance-norm", "curvature")
KINDS = ("memorised", "varied", "held_out")
LABELS = {"memorised": "captions with one image", "varied": "captions with many images", "held_out": "captions never seen"}
HEADINGS = {"open": "of all classes", "named": "of the named class"}
# Root mean square over pixels in [-1, 1]: two samples that lie closer show one image.
SAME = 0.15


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Train the models, unless they were trained before, and score their captions by each detector."""
    settings = {name: setting(recipe, args.runs / NAME / f"{name}.safetensors") for name, recipe in SETTINGS.items()}
    return {"settings": settings, "provenance": provenance()}


def setting(recipe: Recipe, weights: Path) -> dict[str, Any]:
    """Return the figures of one model."""
    data = captioned_data(recipe)
    network = trained(recipe, weights, data)
    model = as_model(network, recipe.side)
    alike = {}
    for kind in KINDS:
        distances = spreads(network, getattr(data, kind), recipe.side)
        alike[kind] = {"alike": int((distances < SAME).sum()), "n": len(distances), "median": float(np.median(distances))}
    detectors = {name: measured(name, model, data) for name in DETECTORS}
    return {"recipe": asdict(recipe), "ideal": ideal(data), "alike": alike, "detectors": detectors}


def ideal(data: CaptionedData) -> list[float]:
    """Return the AUC of the norm of a perfect model's guidance at pure noise: how far the mean of a caption's images lies from all."""
    means = data.images.flatten(2).mean(dim=1)
    lengths = (means - means.mean(dim=0)).norm(dim=1).tolist()
    return figures_of(lengths[: len(data.memorised)], lengths[len(data.memorised) :])["auc"]


def trained(recipe: Recipe, path: Path, data: CaptionedData) -> Denoiser:
    """Return the denoiser, trained once and then read from a file."""
    if not path.exists():
        network = train(recipe, data, lambda step, loss: print(f"step {step:,}: loss {loss:.4f}", file=sys.stderr, flush=True))
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(network.state_dict(), path)
    network = Denoiser(data.trained + data.held_out, recipe.side)
    network.load_state_dict(load_file(path))
    return network.eval().requires_grad_(False)


def measured(name: str, model: Any, data: CaptionedData) -> dict[str, Any]:
    """Return the figures and the scores of one detector; captions that were held out serve as the unmemorised prompts."""
    report = score_prompts(data.trained, model, unmemorised=data.held_out, detector=name, progress=False)
    answers = {answer.prompt: answer for answer in report.prompts}
    scores = {kind: [answers[prompt].score for prompt in getattr(data, kind)] for kind in KINDS[:2]}
    scores["held_out"] = list(report.unmemorised)
    evidence = {kind: sum(answers[prompt].verdict == "evidence" for prompt in getattr(data, kind)) for kind in KINDS[:2]}
    pairs = (("memorised", "varied"), ("memorised", "held_out"), ("varied", "held_out"))
    figures = {f"{one} {other}": figures_of(scores[one], scores[other]) for one, other in pairs}
    rounded = {kind: [float(f"{score:.5g}") for score in values] for kind, values in scores.items()}
    return {"queries": report.queries_per_prompt, "figures": figures, "evidence": evidence, "scores": rounded}


def figures_of(one: list[float], other: list[float]) -> dict[str, list[float]]:
    """Return the AUC of one kind of captions over another, and the share detected at 1 % of the others, each with its interval."""
    scores, labels = np.array([*one, *other]), np.repeat([1, 0], [len(one), len(other)])
    figures = {"auc": [auc(scores, labels), *delong(scores, labels)]}
    if len(other) >= 100:  # fewer can't resolve the rate
        figures["tpr"] = [tpr_at_fpr(scores, labels, 0.01), *tpr_at_fpr_interval(scores, labels, 0.01)]
    return figures


def render(results: dict[str, Any]) -> dict[str, str]:
    """Return the parts of the page and its figures."""
    settings = results["settings"]
    recipe = settings["open"]["recipe"]
    parts = {f"table-{name}": table_of(one) for name, one in settings.items()}
    parts |= {f"ideal-{name}": with_interval(*one["ideal"]) for name, one in settings.items()}
    alike = [
        [
            HEADINGS[name],
            LABELS[kind],
            f"{counts['alike']} of {counts['n']}",
            share(counts["alike"], counts["n"]),
            f"{counts['median']:.2f}",
        ]
        for name, one in settings.items()
        for kind, counts in one["alike"].items()
    ]
    headers = ["Many images are", "Captions", "Two samples alike", "Share", "Median distance"]
    return {
        **{f"prompts-{name}.svg": drawn(name, settings["open"]["detectors"][name]["scores"]) for name in DRAWN},
        "prompts-named.svg": drawn(DRAWN[0], settings["named"]["detectors"][DRAWN[0]]["scores"]),
        **parts,
        "alike": markdown_table(headers, alike, raw=True),
        "limit": f"{SAME:g}",
        **{name: f"{recipe[name]:,}" for name in ("memorised", "varied", "held_out", "images", "side", "steps", "batch")},
    }


def table_of(one: dict[str, Any]) -> str:
    """Return the table of one model's detectors."""
    rows = []
    for name, detector in one["detectors"].items():
        figures, evidence, recipe = detector["figures"], detector["evidence"], one["recipe"]
        rows.append(
            [
                f"`{name}`",
                str(detector["queries"]),
                with_interval(*figures["memorised varied"]["auc"]),
                with_interval(*figures["memorised held_out"]["auc"]),
                percent_with_interval(*figures["memorised held_out"]["tpr"]),
                with_interval(*figures["varied held_out"]["auc"]),
                f"{evidence['memorised']} of {recipe['memorised']}",
                f"{evidence['varied']} of {recipe['varied']}",
            ]
        )
    headers = [
        "Detector",
        "Queries",
        "AUC, one image or many",
        "AUC, one image or never seen",
        "Detected at 1 % false",
        "AUC, many images or never seen",
        "Evidence, one image",
        "Evidence, many images",
    ]
    return markdown_table(headers, rows, raw=True)


def share(count: int, n: int) -> str:
    """Return a share with its interval, in percent."""
    return percent_with_interval(count / n, *clopper_pearson(count, n))


def drawn(name: str, scores: dict[str, list[float]]) -> str:
    """Return the picture of one detector's scores."""
    critical = CriticalScore.of(np.array(scores["held_out"]))
    kinds = {label: scores[kind] for kind, label in LABELS.items()}
    return scores_svg(kinds, get_detector(name).name, None if critical is None else critical.score)


if __name__ == "__main__":
    run_study(NAME, __doc__.split("\n")[0], measure, render)
