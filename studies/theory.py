"""SimA's theory: does the predicted noise point to a local mean of the training set? In the plane, on images, and for a trained model.

``python -m studies.theory`` takes about five minutes on one core; data and model come with mia_hub.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata

from mia_hub.attacks.sima import p_norm
from mia_hub.metrics import auc, delong
from mia_hub.models.exact import training_set_denoiser
from mia_hub.models.loading import load_model
from mia_hub.splits.loading import load_split
from mia_hub.system.provenance import provenance
from mia_hub.ui.how.plane import members_and_others
from studies.local_mean import cosine, degrees, kernel_width, local_mean, predict_flat
from studies.page import run_study
from studies.theory_page import render

NAME = "theory"
SEED = 0
TIMESTEPS = (0, 10, 30, 60, 100, 150, 200, 300, 400, 500, 600, 800, 999)
# In the plane: training sets, points in each, and as many held-out points beside each.
SETS, POINTS = 300, 16
# The demo's images: queries on each side.
IMAGES = 256
RESAMPLES = 1000


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return all numbers of the study as JSON values; an estimate is ``[value, low, high]``."""
    started = time.monotonic()
    results = {"plane": [_plane(t) for t in TIMESTEPS], "images": _images()}
    settings = {"seed": SEED, "sets": SETS, "points": POINTS, "images": IMAGES, "resamples": RESAMPLES}
    return {**results, "settings": settings, "provenance": provenance(seconds=round(time.monotonic() - started))}


def _plane(t: int) -> dict[str, Any]:
    """Return one timestep in the plane: each training set gives one value, and the interval is over the sets."""
    sets = [_plane_set(*map(torch.from_numpy, members_and_others(POINTS, POINTS, seed)), t) for seed in range(SEED, SEED + SETS)]
    row = {name: bootstrap([one[name] for one in sets]) for name in sets[0] if name != "identity"}
    return {"t": t, "identity": max(one["identity"] for one in sets), **row}


def _plane_set(members: torch.Tensor, others: torch.Tensor, t: int) -> dict[str, float]:
    model = training_set_denoiser(members[:, None, None])
    exact = compare_with_theory(model, others, members, t)
    own, other = (p_norm(predict_flat(model, x, t), 4) for x in (members, others))
    return {
        "identity": max(identity_error(model, x, members, t) for x in (members, others)),
        "angle": exact["angle"].nanmedian().item(),
        "ratio": exact["ratio"].nanmedian().item(),
        "samples": exact["samples"].median().item(),
        "auc": auc(*_scores_and_labels(own, other)),
    }


def identity_error(model, x: torch.Tensor, samples: torch.Tensor, t: int) -> float:
    """Return the largest difference between -σ_t·ε(√ᾱ_t·x, t) and m_σ(x) - x, in any coordinate; for an exact model, it is rounding."""
    width = kernel_width(model, t)
    way = local_mean(x, samples, width)[0] - x
    return (-width * predict_flat(model, model.schedule.signals[t] * x, t) - way).abs().max().item()


def compare_with_theory(model, x: torch.Tensor, samples: torch.Tensor, t: int) -> dict[str, torch.Tensor]:
    """Compare the noise predicted at the *clean* x with m_σ(x) - x: angle in degrees, ratio of lengths, samples in the mean; ``[N]``."""
    width = kernel_width(model, t)
    mean, samples_in_it = local_mean(x, samples, width)
    epsilon = predict_flat(model, x, t)
    angle = degrees(cosine(-epsilon, mean - x))
    ratio = epsilon.norm(dim=1) * width / (mean - x).norm(dim=1)
    # A vector of no length has no direction, and its length is rounding.
    return {"angle": angle, "ratio": torch.where(angle.isnan(), torch.nan, ratio), "samples": samples_in_it}


def _images() -> list[dict[str, Any]]:
    """Query the exact and the trained denoiser of the same 512 images about members and held-out images."""
    model, split = load_model("demo"), load_split("demo")
    members = model.encode(split.members).double()
    held_out = model.encode(split.nonmembers[: IMAGES + len(members)]).double()
    exact, other = (training_set_denoiser(part, model.schedule.signals**2) for part in (members, held_out[IMAGES:]))
    groups = {"members": members[:IMAGES].flatten(1), "held_out": held_out[:IMAGES].flatten(1)}
    control = held_out[IMAGES:].flatten(1)
    return [_image_row(model, exact, other, groups, members.flatten(1), control, t) for t in TIMESTEPS]


def _image_row(model, exact, other, groups, members: torch.Tensor, control: torch.Tensor, t: int) -> dict[str, Any]:
    """Return one timestep. ``other`` is the exact denoiser of ``control``, as many images neither trained on nor queried: what any set of
    clothes explains is no memory."""
    width, row, norms = kernel_width(model, t), {"t": t}, {}
    row["width"] = round(width, 5)
    row["identity"] = max(identity_error(exact, x, members, t) for x in groups.values())
    for name, x in groups.items():
        (mean, samples), (other_mean, _) = (local_mean(x, part, width) for part in (members, control))
        epsilon = {"exact": predict_flat(exact, x, t), "trained": predict_flat(model, x, t)}
        scaled = predict_flat(model, model.schedule.signals[t] * x, t)
        norms[name] = {who: p_norm(noise, 4) for who, noise in epsilon.items()}
        lengths = {who: noise.norm(dim=1) for who, noise in epsilon.items()}
        theory = compare_with_theory(exact, x, members, t)
        row[name] = {
            "samples": _median(samples),
            "exact_angle": _median(theory["angle"]),
            "exact_ratio": _median(theory["ratio"]),
            "exact_norm": _median(lengths["exact"]),
            "trained_norm": _median(lengths["trained"]),
            # The trained model against the theory in its simple form, and against the exact denoiser at the same input.
            "trained_to_mean": _mean(to_mean := cosine(-epsilon["trained"], mean - x)),
            "trained_to_control": _mean(to_control := cosine(-epsilon["trained"], other_mean - x)),
            "beyond_control": _mean(to_mean - to_control),
            "trained_to_exact": _mean(cosine(epsilon["trained"], epsilon["exact"])),
            "scaled_to_mean": _mean(cosine(-scaled, mean - x)),
            "trained_ratio": _median(lengths["trained"] / lengths["exact"]),
            "rank_correlation": _rank_correlation(lengths["trained"], lengths["exact"]),
            "rank_control": _rank_correlation(lengths["trained"], predict_flat(other, x, t).norm(dim=1)),
        }
    for who in ("exact", "trained"):
        scores = _scores_and_labels(norms["members"][who], norms["held_out"][who])
        row[f"{who}_auc"] = _numbers(auc(*scores), *delong(*scores))
    return row


def _scores_and_labels(own: torch.Tensor, other: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return SimA's scores, higher for members, and labels."""
    return -torch.cat([own, other]).numpy(), np.repeat([1, 0], [len(own), len(other)])


# Intervals: percentiles of the bootstrap.


def bootstrap(values: Sequence[float], statistic: Callable = np.mean) -> list[float] | None:
    """Return ``[value, low, high]`` at 95 %; None if half of the values or more are undefined, since the rest would be a selection."""
    values = np.asarray(values, dtype=np.float64)
    defined = values[np.isfinite(values)]
    if len(defined) <= len(values) / 2:
        return None
    drawn = np.random.default_rng(SEED).integers(0, len(defined), (RESAMPLES, len(defined)))
    return _numbers(statistic(defined), *np.quantile(statistic(defined[drawn], axis=1), [0.025, 0.975]))


def _mean(values: torch.Tensor) -> list[float] | None:
    return bootstrap(values.numpy())


def _median(values: torch.Tensor) -> list[float] | None:
    return bootstrap(values.numpy(), np.median)


def _rank_correlation(one: torch.Tensor, other: torch.Tensor) -> list[float]:
    """Return Spearman's rank correlation over images."""
    pairs = np.stack([one.numpy(), other.numpy()])

    def spearman(rows: np.ndarray) -> float:
        return float(np.corrcoef(rankdata(pairs[0, rows]), rankdata(pairs[1, rows]))[0, 1])

    rng, everyone = np.random.default_rng(SEED), np.arange(pairs.shape[1])
    drawn = [spearman(rng.choice(everyone, len(everyone))) for _ in range(RESAMPLES)]
    return _numbers(spearman(everyone), *np.quantile(drawn, [0.025, 0.975]))


def _numbers(*parts: float) -> list[float]:
    return [float(f"{float(part):.5g}") for part in parts]


if __name__ == "__main__":
    run_study(NAME, __doc__.split("\n")[0], measure, render)
