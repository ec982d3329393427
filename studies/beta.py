"""The β of a β-VAE: how much latent diffusion leaks, and the quality of its images.

python -m studies.beta
"""

from __future__ import annotations

import argparse
from typing import Any

from mia_hub.defaults import DEMO_FOLDER
from mia_hub.models.loading import load_model
from mia_hub.rendering.markdown import markdown_table
from mia_hub.splits.loading import load_split
from studies.figures import lines_svg
from studies.measuring import CONDITIONAL, SIMA, compare_attacks, interval_text, row_figures
from studies.models import MOST, load_run, quality_in
from studies.page import run_study
from studies.quality import best_possible, distance

NAME = "beta"
# Adversary: ending of its runs' names; and the settings of β with and without it.
LOSSES = {"without": "", "with": "-adv"}
BETAS = {"without": ("0", "1e-6", "1e-2", "1e-1", "1"), "with": ("1e-6", "1e-2", "1")}
ATTACKS = {
    "sima": SIMA,
    "sima-cn": CONDITIONAL,
    "loss": "loss:timesteps=60,100,140",
    "pia": "pia:timesteps=100,200",
    "secmi": "secmi:timesteps=50,100",
}


# The denoiser queried with a draw from the posterior instead of its mode.
BY_SAMPLE = "sima by sample"


def measure(args: argparse.Namespace) -> dict[str, Any]:
    folder, rows = args.runs / "scores" / NAME, []
    for loss, ending in LOSSES.items():
        for beta in BETAS[loss]:
            name = f"b{beta}{ending}"
            model = load_run(args.runs / f"ldm-{name}")
            figures = _leakage(model.final, model.split(), folder / name)
            sampled = compare_attacks(
                load_model(str(model.final), latents="sample"), model.split(), [ATTACKS["sima"]], folder / f"{name}-sample"
            )
            figures[BY_SAMPLE] = row_figures(sampled.rows[0])
            psnr = quality_in(args.runs / f"vae-{name}" / "vae", "PSNR")
            quality = distance(model.final, model.data, folder / name / "distances.json")
            rows.append({"beta": float(beta), "adversary": loss, "psnr": psnr, "distance": quality, "attacks": figures})
    pixels = {"attacks": _leakage("demo", load_split("demo", limit=MOST), folder / "pixels")}
    pixels["distance"] = distance(DEMO_FOLDER / "model", model.data, folder / "pixels" / "distances.json", border=2)
    return {"rows": rows, "pixels": pixels, "floor": best_possible(model.data), "steps": model.facts["steps"]}


def _leakage(model, split, folder) -> dict[str, Any]:
    comparison = compare_attacks(model, split, list(ATTACKS.values()), folder, shift_check=False)
    return {name: row_figures(row) for name, row in zip(ATTACKS, comparison.rows)}


def render(results: dict[str, Any]) -> dict[str, str]:
    rows, pixels = results["rows"], results["pixels"]
    # On the logarithmic axis, β = 0 is drawn to the left of the smallest other value.
    place = {row["beta"]: row["beta"] or 1e-8 for row in rows}
    axis = {"x_label": "β, the weight of the KL term", "log_x": True, "ticks": {x: weight(beta) for beta, x in place.items()}}

    def series(figure) -> dict[str, list]:
        return {f"{loss} adversary": [(place[row["beta"]], *figure(row)) for row in rows if row["adversary"] == loss] for loss in LOSSES}

    leakage = series(lambda row: row["attacks"]["sima"]["auc"])
    low, value, high = min(place.values()), pixels["attacks"]["sima"]["auc"][0], max(place.values())
    leakage["diffusion on the pixels of the same images"] = [(x, value, value, value) for x in (low, high)]
    values = "; ".join(f"{name}: {', '.join(f'{point[1]:.3f}' for point in points)}" for name, points in leakage.items())
    return {
        "beta.svg": lines_svg(
            leakage, heading="AUC of SimA (higher = leaks more)", chance=0.5, description=f"AUC of SimA for rising β. {values}.", **axis
        ),
        "beta-quality.svg": lines_svg(
            series(lambda row: row["distance"]), heading="Fréchet distance of samples (lower = better images)",
            description="Fréchet distance of generated images for rising β.", **axis,
        ),
        "leakage": markdown_table(LEAKAGE, [*map(_leakage_row, rows), _leakage_row(pixels)]),
        "quality": markdown_table(QUALITY, [*map(_quality_row, rows), _quality_row(pixels)]),
        "floor": f"{results['floor']:.3f}",
        "spread": _correlation(rows),
        "steps": f"{results['steps']:,}",
    }  # fmt: skip


LEAKAGE = ["β", "Adversary", *(f"{name}: AUC" for name in (*ATTACKS, BY_SAMPLE))]
QUALITY = ["β", "Adversary", "SimA: TPR@1%FPR", "sima-cn: TPR@1%FPR", "PSNR of the autoencoder, dB", "Fréchet distance"]


def weight(beta: float) -> str:
    """Return β as text: 0, 1e-6, 0.01, 0.1, 1."""
    return f"{beta:g}".replace("e-0", "e-")


def _row_names(row: dict[str, Any]) -> list[str]:
    return [weight(row["beta"]), row["adversary"]] if "beta" in row else ["pixels", "—"]


def _leakage_row(row: dict[str, Any]) -> list[str]:
    return _row_names(row) + [interval_text(row["attacks"].get(name, {}).get("auc")) for name in (*ATTACKS, BY_SAMPLE)]


def _quality_row(row: dict[str, Any]) -> list[str]:
    low = [interval_text(row["attacks"][name].get("tpr_at_0.01_fpr")) for name in ("sima", "sima-cn")]
    return [*_row_names(row), *low, f"{row['psnr']:.1f}" if "psnr" in row else "—", interval_text(row["distance"])]


def _correlation(rows: list[dict[str, Any]]) -> str:
    """Return the rank correlation of leakage with the distance, over all settings."""
    from scipy.stats import spearmanr

    result = spearmanr([row["attacks"]["sima"]["auc"][0] for row in rows], [row["distance"][0] for row in rows])
    return f"{result.statistic:+.2f} (p = {result.pvalue:.2g}, {len(rows)} settings)"


if __name__ == "__main__":
    run_study(NAME, __doc__.split("\n")[0], measure, render)
