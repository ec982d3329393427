"""How strongly a model remembers while it is trained, and the stop rule made from it.

Only the calibration part of the split is watched (the part on which an audit may choose its timestep), so the other part stays unseen
until it is reported.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from mia_hub.images.image import content_id
from mia_hub.splits.partition import calibration_mask
from training.data import TrainingSet, model_space

WATCHED_TIMESTEPS = (60, 80, 100, 120)
# Of members and of non-members, for a stop rule: more would cost more than they tell.
MOST_WATCHED = 512


def calibration_pixels(data: TrainingSet, channels: int, *, most: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the calibration parts of members and non-members, at most ``most`` of each, ``[N, C, H, W]`` in [-1, 1]."""
    member, nonmember = (
        model_space(part[calibration_mask([content_id(image) for image in part])][:most], channels)
        for part in (data.members, data.nonmembers)
    )
    return member, nonmember


def watch(folder: Path, members: torch.Tensor, nonmembers: torch.Tensor, device: torch.device) -> dict[int, dict[str, float]]:
    """Return SimA's AUC and TPR@1%FPR per watched timestep, members positive (restated here in a few lines, to watch training).

    Args:
        folder: the saved pipeline. The network in training works in the training's precision.
    """
    from diffusers import UNet2DModel

    model = UNet2DModel.from_pretrained(folder, subfolder="unet", use_safetensors=True).to(device).eval()
    result = {}
    with torch.no_grad():
        for t in WATCHED_TIMESTEPS:
            norms = []
            for x in (members, nonmembers):
                parts = [model(chunk.to(device), t).sample.flatten(1).norm(p=4, dim=1).cpu() for chunk in x.split(128)]
                norms.append(torch.cat(parts).double().numpy())
            member, nonmember = -norms[0], -norms[1]
            auc = (np.searchsorted(np.sort(nonmember), member).mean() / len(nonmember)).item()
            threshold = np.sort(nonmember)[::-1][math.floor(0.01 * len(nonmember))]
            result[t] = dict(auc=round(auc, 4), tpr_at_1_fpr=round(float((member > threshold).mean()), 4))
    return result


def remembers(figures: Mapping[int, Mapping[str, float]], at: Mapping[str, float]) -> bool:
    """Return whether, at one timestep, every figure that ``at`` names reaches its value."""
    return any(all(row[name] >= value for name, value in at.items()) for row in figures.values())


def add_stop_rule(parser: argparse.ArgumentParser) -> None:
    """Add the option of `stop_check` to a recipe."""
    parser.add_argument("--stop-at", type=_auc_to_reach, help="stop when SimA's AUC on the calibration part reaches this value")


def _auc_to_reach(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"an AUC above 0, up to 1, is needed; got {text}.")
    return value


def stop_check(
    stop_at: float | None, calibration: Callable[[], tuple[torch.Tensor, torch.Tensor]], device: torch.device
) -> Callable[[Path], dict]:
    """Return the check of snapshots for `training.recipe.train_and_publish`, which ends a run by the stop rule.

    Args:
        stop_at: the AUC at which it ends; None for a run that isn't watched.
        calibration: returns the calibration parts of members and non-members in the model's space.
        device: of the network.
    """
    if stop_at is None:
        return lambda folder: {}
    parts, at = calibration(), {"auc": stop_at}

    def check(folder: Path) -> dict:
        figures = {"sima": watch(folder, *parts, device)}
        if remembers(figures["sima"], at):
            raise StopIteration(figures)
        return figures

    return check


def stop_settings(stop_at: float | None) -> dict[str, object]:
    """Return what the card says of the stop rule."""
    return {"stops at a calibration AUC of": stop_at} if stop_at else {}
