"""The page of `studies.theory`: figures, tables and the numbers in its sentences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mia_hub.rendering.markdown import markdown_table
from mia_hub.rendering.svg import TIMESTEP_LABEL
from studies.figures import lines_svg


def render(results: dict[str, Any]) -> dict[str, str]:
    """Return the parts of the page from the numbers."""
    plane, images, settings = results["plane"], results["images"], results["settings"]
    best = max(images, key=lambda row: row["trained_auc"][0])
    own, other = best["members"], best["held_out"]
    return {
        "theory-exact.svg": _exact_figure(plane, images),
        "theory-norms.svg": _norms_figure(images),
        "theory-angles.svg": _angles_figure(images),
        "theory-auc.svg": _auc_figure(plane, images),
        "sets": f"{settings['sets']}",
        "points": f"{settings['points']}",
        "images": f"{settings['images']}",
        "seed": f"{settings['seed']}",
        "identity": f"{max(row['identity'] for row in [*plane, *images]):.0e}",
        "best": f"{best['t']}",
        "exact-gap": f"{other['exact_norm'][0] / own['exact_norm'][0]:.0f}",
        "trained-gap": f"{other['trained_norm'][0] / own['trained_norm'][0]:.2f}",
        "exact-norms": f"{_interval(own['exact_norm'], 2)} and {_interval(other['exact_norm'], 2)}",
        "trained-norms": f"{_interval(own['trained_norm'], 2)} and {_interval(other['trained_norm'], 2)}",
        "to-mean": _interval(other["trained_to_mean"]),
        "to-control": _interval(other["trained_to_control"]),
        "beyond-control": _interval(other["beyond_control"]),
        "own-to-control": _interval(own["trained_to_control"]),
        "own-to-exact": _interval(own["trained_to_exact"]),
        "rank-held-out": _interval(other["rank_correlation"], 2),
        "rank-control": _interval(other["rank_control"], 2),
        "rank-members": _interval(own["rank_correlation"], 2),
        "trained-auc": _interval(best["trained_auc"]),
        "plane": _plane_table(plane),
        "exact": _exact_table(images),
        "trained": _trained_table(images),
    }


def _interval(part: list[float] | None, decimals: int = 3) -> str:
    if part is None:
        return "—"
    # A ratio of thousands needs no decimals.
    value, low, high = (f"{number:.{decimals}f}" if abs(number) < 1000 else f"{number:,.0f}" for number in part)
    return f"{value} [{low}, {high}]".replace("-", "−")


def _plane_table(rows: list[dict[str, Any]]) -> str:
    headers = ["t", "angle, degrees", "ratio of lengths", "points in the mean", "AUC of SimA"]
    cells = [
        [str(row["t"]), _interval(row["angle"], 2), *(_interval(row[name], 2) for name in ("ratio", "samples")), _interval(row["auc"])]
        for row in rows
    ]
    return markdown_table(headers, cells, raw=True)


def _exact_table(rows: list[dict[str, Any]]) -> str:
    headers = [
        "t",
        "σ",
        "angle, held-out",
        "ratio, held-out",
        "images in the mean, held-out",
        "norm, members",
        "norm, held-out",
        "AUC of SimA",
    ]
    cells = []
    for row in rows:
        other = row["held_out"]
        of_theory = [_interval(other["exact_angle"], 2), _interval(other["exact_ratio"], 2), _interval(other["samples"], 1)]
        norms = [_interval(row[name]["exact_norm"], 2) for name in ("members", "held_out")]
        cells.append([str(row["t"]), f"{row['width']:.2f}", *of_theory, *norms, _interval(row["exact_auc"])])
    return markdown_table(headers, cells, raw=True)


def _trained_table(rows: list[dict[str, Any]]) -> str:
    names = ("trained_norm", "trained_to_mean", "trained_to_control", "trained_to_exact", "trained_ratio", "rank_correlation")
    headers = [
        "t",
        "of",
        "norm",
        "cosine to local mean",
        "to a mean of other clothes",
        "to the exact ε",
        "norm over the exact one's",
        "rank correlation",
    ]
    headers.append("AUC of SimA")
    cells = []
    for row in rows:
        for kind, label in (("members", "members"), ("held_out", "held-out")):
            figures = [_interval(row[kind][name], 3 if "to" in name else 2) for name in names]
            cells.append([str(row["t"]), label, *figures, _interval(row["trained_auc"]) if kind == "members" else ""])
    return markdown_table(headers, cells, raw=True)


def _points(rows: list[dict[str, Any]], value: Callable[[dict[str, Any]], list[float] | None]) -> list[tuple[float, ...]]:
    return [(row["t"], *value(row)) for row in rows if value(row) is not None]


def _exact_figure(plane: list[dict[str, Any]], images: list[dict[str, Any]]) -> str:
    series = {
        "points in the plane, held out": _points(plane, lambda row: row["angle"]),
        "images, held out": _points(images, lambda row: row["held_out"]["exact_angle"]),
    }
    description = "Angle between the exact denoiser's predicted noise at the clean input and the way to the local mean, over the timesteps"
    return lines_svg(series, heading="Angle to the local mean (degrees)", x_label=TIMESTEP_LABEL, description=description)


def _norms_figure(rows: list[dict[str, Any]]) -> str:
    series = {
        f"{who} denoiser, {label}": _points([row for row in rows if row["t"]], lambda row, who=who, kind=kind: row[kind][f"{who}_norm"])
        for who in ("exact", "trained")
        for kind, label in (("members", "members"), ("held_out", "held-out"))
    }
    description = "Median 2-norm of the predicted noise of members and of held-out images, by the exact and by the trained denoiser"
    return lines_svg(
        series, heading="Norm of the predicted noise (median; cut at 60)", x_label=TIMESTEP_LABEL, description=description, y_limits=(0, 60)
    )


def _angles_figure(rows: list[dict[str, Any]]) -> str:
    series = {
        "held-out, to the local mean of the training set": _points(rows, lambda row: row["held_out"]["trained_to_mean"]),
        "held-out, to that of other clothes": _points(rows, lambda row: row["held_out"]["trained_to_control"]),
        "held-out, to the exact denoiser's noise": _points(rows, lambda row: row["held_out"]["trained_to_exact"]),
        "members, to the exact denoiser's noise": _points(rows, lambda row: row["members"]["trained_to_exact"]),
    }
    description = "Cosines between the trained denoiser's predicted noise and what the theory says of it, over the timesteps"
    return lines_svg(series, heading="Cosine (mean)", x_label=TIMESTEP_LABEL, description=description, y_limits=(0, 1))


def _auc_figure(plane: list[dict[str, Any]], images: list[dict[str, Any]]) -> str:
    series = {
        "images, exact denoiser": _points(images, lambda row: row["exact_auc"]),
        "images, trained denoiser": _points(images, lambda row: row["trained_auc"]),
        "points in the plane, exact denoiser": _points(plane, lambda row: row["auc"]),
    }
    description = "AUC of SimA over the timesteps, with the exact and with the trained denoiser"
    return lines_svg(series, heading="AUC of SimA", x_label=TIMESTEP_LABEL, description=description, chance=0.5)
