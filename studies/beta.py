"""The β of a β-VAE: how much latent diffusion leaks, and what its pictures are worth.

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
from studies.measuring import CONDITIONAL, SIMA, attacked, figures_of, shown
from studies.models import MOST, quality_in, trained
from studies.page import run_study
from studies.quality import best_possible, distance

NAME = "beta"
# Adversary or not, to how its runs' names end; and the settings of β with it.
LOSSES = {"without": "", "with": "-adv"}
BETAS = {"without": ("0", "1e-6", "1e-2", "1e-1", "1"), "with": ("1e-6", "1e-2", "1")}
ATTACKS = {
    "sima": SIMA,
    "sima-cn": CONDITIONAL,
    "loss": "loss:timesteps=60,100,140",
    "pia": "pia:timesteps=100,200",
    "secmi": "secmi:timesteps=50,100",
}


# The denoiser asked with a draw of the posterior instead of its mode.
BY_SAMPLE = "sima by sample"


def measure(args: argparse.Namespace) -> dict[str, Any]:
    kept, rows = args.runs / "scores" / NAME, []
    for loss, ending in LOSSES.items():
        for beta in BETAS[loss]:
            name = f"b{beta}{ending}"
            model = trained(args.runs / f"ldm-{name}")
            found = _leakage(model.final, model.split(), kept / name)
            drawn = attacked(load_model(str(model.final), latents="sample"), model.split(), [ATTACKS["sima"]], kept / f"{name}-sample")
            found[BY_SAMPLE] = figures_of(drawn.rows[0])
            psnr = quality_in(args.runs / f"vae-{name}" / "vae", "PSNR")
            quality = distance(model.final, model.data, kept / name / "distances.json")
            rows.append({"beta": float(beta), "adversary": loss, "psnr": psnr, "distance": quality, "attacks": found})
    pixels = {"attacks": _leakage("demo", load_split("demo", limit=MOST), kept / "pixels")}
    pixels["distance"] = distance(DEMO_FOLDER / "model", model.data, kept / "pixels" / "distances.json", border=2)
    return {"rows": rows, "pixels": pixels, "floor": best_possible(model.data), "steps": model.facts["steps"]}


def _leakage(model, split, folder) -> dict[str, Any]:
    found = attacked(model, split, list(ATTACKS.values()), folder, shift_check=False)
    return {name: figures_of(row) for name, row in zip(ATTACKS, found.rows)}


def render(results: dict[str, Any]) -> dict[str, str]:
    rows, pixels = results["rows"], results["pixels"]
    # On a logarithmic axis β = 0 stands to the left of the smallest other.
    place = {row["beta"]: row["beta"] or 1e-8 for row in rows}
    axis = {"x_label": "β, the weight of the KL term", "log_x": True, "ticks": {x: weight(beta) for beta, x in place.items()}}

    def series(figure) -> dict[str, list]:
        return {f"{loss} adversary": [(place[row["beta"]], *figure(row)) for row in rows if row["adversary"] == loss] for loss in LOSSES}

    leakage = series(lambda row: row["attacks"]["sima"]["auc"])
    low, value, high = min(place.values()), pixels["attacks"]["sima"]["auc"][0], max(place.values())
    leakage["diffusion on the pixels of the same pictures"] = [(x, value, value, value) for x in (low, high)]
    said = "; ".join(f"{name}: {', '.join(f'{point[1]:.3f}' for point in points)}" for name, points in leakage.items())
    return {
        "beta.svg": lines_svg(
            leakage, heading="AUC of SimA (higher = leaks more)", chance=0.5, description=f"AUC of SimA for rising β. {said}.", **axis
        ),
        "beta-quality.svg": lines_svg(
            series(lambda row: row["distance"]), heading="Fréchet distance of samples (lower = better pictures)",
            description="Fréchet distance of generated pictures for rising β.", **axis,
        ),
        "leakage": markdown_table(LEAKAGE, [*map(_leaks, rows), _leaks(pixels)]),
        "quality": markdown_table(QUALITY, [*map(_worth, rows), _worth(pixels)]),
        "floor": f"{results['floor']:.3f}",
        "spread": _spread(rows),
        "steps": f"{results['steps']:,}",
    }  # fmt: skip


LEAKAGE = ["β", "Adversary", *(f"{name}: AUC" for name in (*ATTACKS, BY_SAMPLE))]
QUALITY = ["β", "Adversary", "SimA: TPR@1%FPR", "sima-cn: TPR@1%FPR", "PSNR of the autoencoder, dB", "Fréchet distance"]


def weight(beta: float) -> str:
    """As β is written: 0, 1e-6, 0.01, 0.1, 1."""
    return f"{beta:g}".replace("e-0", "e-")


def _names(row: dict[str, Any]) -> list[str]:
    return [weight(row["beta"]), row["adversary"]] if "beta" in row else ["pixels", "—"]


def _leaks(row: dict[str, Any]) -> list[str]:
    return _names(row) + [shown(row["attacks"].get(name, {}).get("auc")) for name in (*ATTACKS, BY_SAMPLE)]


def _worth(row: dict[str, Any]) -> list[str]:
    low = [shown(row["attacks"][name].get("tpr_at_0.01_fpr")) for name in ("sima", "sima-cn")]
    return [*_names(row), *low, f"{row['psnr']:.1f}" if "psnr" in row else "—", shown(row["distance"])]


def _spread(rows: list[dict[str, Any]]) -> str:
    """Rank correlation of leakage with the distance, over all settings."""
    from scipy.stats import spearmanr

    found = spearmanr([row["attacks"]["sima"]["auc"][0] for row in rows], [row["distance"][0] for row in rows])
    return f"{found.statistic:+.2f} (p = {found.pvalue:.2g}, {len(rows)} settings)"


if __name__ == "__main__":
    run_study(NAME, __doc__.split("\n")[0], measure, render)
