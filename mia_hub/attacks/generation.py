"""Images that a model generates, each from the noise of its own name, so that neither the batch nor the order changes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mia_hub.attacks.querying import QueriedModel
from mia_hub.errors import ModelError
from mia_hub.models.noise import SampleNoise
from mia_hub.models.precision import denoiser_precision, result_dtype
from mia_hub.models.sampling import ddim_timesteps, predicted_clean_images


def generate(
    model: QueriedModel, names: Sequence[str], captions: list[Any] | None, *, steps: int, seed: int, guidance: float = 1.0
) -> torch.Tensor:
    """Sample images by deterministic DDIM steps.

    Args:
        model: that is queried, once per step, or twice with guidance.
        names: one per image; an image depends on its own name, the seed and its caption.
        captions: what the model is conditioned on, one entry per image; None for an unconditional model.
        steps: number of steps, at most the model's number of timesteps.
        seed: of the noise.
        guidance: w of classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598): ε = ε(∅) + w·(ε(c) - ε(∅)); 1 is without.

    Returns:
        ``[N, C, H, W]`` in [0, 1].

    Raises:
        ModelError: if the model returns NaN or infinity.
    """
    timesteps = ddim_timesteps(model.schedule, steps)
    cond = model.condition(captions)
    noise = SampleNoise(list(names), model.info.sample_shape, seed, model.model.device, result_dtype(model.model.dtype))
    denoiser = model if captions is None or guidance == 1 else _Guided(model, guidance, model.condition([""] * len(names)))
    *_, sample = predicted_clean_images(denoiser, noise(timesteps[0]), timesteps, cond)
    if not sample.isfinite().all():
        raise ModelError(
            f"{model.info.id} generated NaN or infinity in {denoiser_precision(model.model)}, so no image can be compared with it; "
            "load it with dtype='float32'."
        )
    return model.model.to_pixels(sample)


class _Guided:
    """A model under classifier-free guidance, as sampling queries it."""

    def __init__(self, model: QueriedModel, guidance: float, empty: Any):
        self.model, self.guidance, self.empty, self.schedule = model, guidance, empty, model.schedule

    def predict_noise(self, x: torch.Tensor, t: torch.Tensor, cond: Any) -> torch.Tensor:
        unconditional = self.model.predict_noise(x, t, self.empty)
        return unconditional + self.guidance * (self.model.predict_noise(x, t, cond) - unconditional)
