"""Quality of a trained model's images: the Fréchet distance of `training.quality`, with an interval over groups of samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.stats import t as student

from studies.measuring import once
from training.data import TrainingSet
from training.quality import floor, frechet_distance
from training.train_ddpm import sample, to_uint8
from training.train_ldm import decode_latents

# The same everywhere: the distance depends on the size of a group.
GROUPS, GROUP = 4, 256


def generate(folder: Path, data: TrainingSet, n: int, *, seed: int = 0) -> np.ndarray:
    """Return images of an unconditional model, uint8 ``[n, H, W]``, or ``[n, H, W, 3]`` if the data are in colour."""
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(folder, use_safetensors=True)
    pipeline.unet.eval()
    config = pipeline.unet.config
    samples = sample(
        pipeline.unet, _schedule(pipeline.scheduler), (config.in_channels, config.sample_size, config.sample_size), n, seed=seed
    )
    vae = getattr(pipeline, "vqvae", None)
    images = to_uint8(samples if vae is None else decode_latents(vae.eval(), samples))
    return images if images.ndim == data.members.ndim else images.mean(-1).round().astype(np.uint8)


def _schedule(scheduler) -> dict:
    names = ("num_train_timesteps", "beta_schedule", "beta_start", "beta_end")
    return {name: scheduler.config[name] for name in names}


def distance(folder: Path, data: TrainingSet, file: Path, *, border: int = 0) -> list[float]:
    """Return ``[mean, low, high]`` of the Fréchet distance to the non-members, with Student's 95 % interval over groups of samples.

    Args:
        folder: folder of a pipeline.
        file: stores the distances of the groups.
        border: black pixels around generated images that are smaller than the data.
    """

    def measure() -> list[float]:
        images = generate(folder, data, GROUPS * GROUP)
        images = np.pad(images, ((0, 0), (border, border), (border, border), (0, 0))[: images.ndim])
        return [frechet_distance(part, data.nonmembers) for part in np.split(images, GROUPS)]

    distances = np.array(once(file, measure))
    half = student.ppf(0.975, len(distances) - 1) * distances.std(ddof=1) / np.sqrt(len(distances))
    return [round(float(value), 4) for value in (distances.mean(), distances.mean() - half, distances.mean() + half)]


def best_possible(data: TrainingSet) -> float:
    """Return the mean distance, over groups, of as many real images as a group has to the other non-members."""
    return float(np.mean([floor(data.nonmembers, GROUP, seed=seed) for seed in range(GROUPS)]))
