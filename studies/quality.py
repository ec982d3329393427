"""How good a trained model's pictures are: the Fréchet distance of `training.quality`, with an interval over groups of samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.stats import t as student

from studies.measuring import once
from training.data import TrainingSet
from training.quality import floor, frechet_distance
from training.train_ddpm import sample, to_uint8
from training.train_ldm import decoded

# Of the same size everywhere, since the distance depends on it.
GROUPS, GROUP = 4, 256


def generated(folder: Path, data: TrainingSet, n: int, *, seed: int = 0) -> np.ndarray:
    """Pictures drawn from an unconditional model, uint8 ``[n, H, W]``, or ``[n, H, W, 3]`` where the data have colours."""
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(folder, use_safetensors=True)
    pipeline.unet.eval()
    config = pipeline.unet.config
    drawn = sample(pipeline.unet, _schedule(pipeline.scheduler), (config.in_channels, config.sample_size, config.sample_size), n, seed=seed)
    vae = getattr(pipeline, "vqvae", None)
    pictures = to_uint8(drawn if vae is None else decoded(vae.eval(), drawn))
    return pictures if pictures.ndim == data.members.ndim else pictures.mean(-1).round().astype(np.uint8)


def _schedule(scheduler) -> dict:
    names = ("num_train_timesteps", "beta_schedule", "beta_start", "beta_end")
    return {name: scheduler.config[name] for name in names}


def distance(folder: Path, data: TrainingSet, kept: Path, *, border: int = 0) -> list[float]:
    """``[mean, low, high]`` of the Fréchet distance to the non-members, with Student's 95 % interval over groups of samples.

    Args:
        folder: of a pipeline.
        kept: where the distances of the groups are kept, once measured.
        border: black pixels around what the model draws, where it is smaller than the data.
    """

    def measured() -> list[float]:
        pictures = generated(folder, data, GROUPS * GROUP)
        pictures = np.pad(pictures, ((0, 0), (border, border), (border, border), (0, 0))[: pictures.ndim])
        return [frechet_distance(part, data.nonmembers) for part in np.split(pictures, GROUPS)]

    found = np.array(once(kept, measured))
    half = student.ppf(0.975, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found))
    return [round(float(value), 4) for value in (found.mean(), found.mean() - half, found.mean() + half)]


def best_possible(data: TrainingSet) -> float:
    """What as many real pictures as a group has reach against the other non-members, a mean over groups."""
    return float(np.mean([floor(data.nonmembers, GROUP, seed=seed) for seed in range(GROUPS)]))
