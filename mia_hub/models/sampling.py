"""Deterministic DDIM sampling (Song et al. 2021, arXiv 2010.02502), through anything that can be queried for ε."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from mia_hub.models.schedule import NoiseSchedule


def ddim_timesteps(schedule: NoiseSchedule, steps: int) -> list[int]:
    """``steps`` timesteps of a sampling trajectory, evenly spaced from the noisiest down to 0; 1 ≤ steps ≤ T."""
    # Where no signal is left (ᾱ_t = 0) the noise says nothing about the clean image; such a schedule is entered one step later.
    return torch.linspace(schedule.last_with_signal, 0, steps, dtype=torch.float64).round().long().tolist()


def predicted_clean_images(model: Any, x: torch.Tensor, timesteps: Sequence[int], cond: Any = None) -> Iterator[torch.Tensor]:
    """Sample along a trajectory by deterministic DDIM steps.

    Args:
        model: a `DiffusionModel`, or anything else with its ``schedule`` and its ``predict_noise(x, t, cond)``.
        x: ``[N, C, H, W]``, draws from N(0, I): the sample at the first timestep.
        timesteps: of the trajectory, in descending order.
        cond: condition of the batch.

    Yields:
        The predicted clean image x̂0 ``[N, C, H, W]`` at each timestep; the last one is the generated sample.
    """
    for i, t in enumerate(timesteps):
        epsilon = model.predict_noise(x, torch.full((len(x),), t, device=x.device), cond)
        yield model.schedule.predict_x0(x, epsilon, t)
        if i + 1 < len(timesteps):
            x = model.schedule.ddim_step(x, epsilon, t, timesteps[i + 1])
