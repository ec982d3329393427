"""Stable Diffusion 1 and 2 (Rombach et al. 2022, arXiv 2112.10752) and SDXL (Podell et al. 2023, arXiv 2307.01952).

Latent consistency models of both (Luo et al. 2023, arXiv 2310.04378), too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from mia_hub.errors import ModelError
from mia_hub.models.families.text_to_image import CLIP, TextToImage

# The guidance that a latent consistency model is conditioned on: diffusers' default for sampling, amid those that it was distilled with.
CONSISTENCY_GUIDANCE = 8.5
# The number of timesteps that it was distilled at, evenly spaced, unless its scheduler states another.
CONSISTENCY_STEPS = 50


class StableDiffusion(TextToImage):
    """Stable Diffusion 1 and 2, and their fine-tunes: ε or v, one CLIP text encoder.

    Attributes:
        trained_timesteps: of a latent consistency model, whose denoiser takes its guidance as an input: the timesteps that it was distilled
            at; None for others.
    """

    pipelines: ClassVar[tuple[str, ...]] = (
        "StableDiffusionPipeline",
        "StableDiffusionImg2ImgPipeline",
        "LatentConsistencyModelPipeline",
        "LatentConsistencyModelImg2ImgPipeline",
    )
    components: ClassVar[dict[str, tuple[str, ...]]] = {
        "vae": ("AutoencoderKL",),
        "unet": ("UNet2DConditionModel",),
        "scheduler": (),
    } | CLIP
    pipeline_class: ClassVar[str] = "StableDiffusionPipeline"

    trained_timesteps: tuple[int, ...] | None = None

    @classmethod
    def check(cls, configs: dict[str, Any], scheduler: Any, id: str, **options: Any) -> None:
        super().check(configs, scheduler, id, **options)
        count, total = _consistency_steps(scheduler), int(scheduler.config.num_train_timesteps)
        if configs["unet"].get("time_cond_proj_dim") and not (isinstance(count, int) and 1 <= count <= total):
            raise ModelError(
                f"The scheduler of {id} has original_inference_steps = {count!r}, the number of timesteps that it was distilled at. It "
                f"must be an integer from 1 to {total}. Correct it in a copy of the model, and give that folder."
            )

    def __init__(self, *, scheduler: Any, **options: Any):
        super().__init__(scheduler=scheduler, **options)
        if self._guidance_size:
            self.info.settings["guidance"] = CONSISTENCY_GUIDANCE
            total, count = len(self.schedule), _consistency_steps(scheduler)
            self.trained_timesteps = tuple(range(total // count - 1, total, total // count))

    @property
    def _guidance_size(self) -> int | None:
        """The size of the embedding of its guidance; None for a model that takes none."""
        size: int | None = self.network.config.get("time_cond_proj_dim")
        return size

    def guidance(self, x: torch.Tensor) -> torch.Tensor | None:
        """Return the embedding ``[N, S]`` of the guidance w = 7.5 that a latent consistency model is conditioned on; None for others."""
        if not self._guidance_size:
            return None
        # In float32, as in its pipeline, before it is rounded.
        w = torch.full((len(x),), CONSISTENCY_GUIDANCE - 1, device=x.device)
        embedding: torch.Tensor = self.pipeline.get_guidance_scale_embedding(w, self._guidance_size)
        return embedding.to(x.dtype)

    def output(self, x: torch.Tensor, t: torch.Tensor, cond: Any) -> Any:
        (text,) = self.cast(cond, "prompt_embeds")
        return self.network(x, t, encoder_hidden_states=text, timestep_cond=self.guidance(x)).sample


def _consistency_steps(scheduler: Any) -> Any:
    """Return the number of timesteps that a latent consistency model was distilled at, as its scheduler states it."""
    return scheduler.config.get("original_inference_steps") or CONSISTENCY_STEPS


class StableDiffusionXL(StableDiffusion):
    """SDXL: two CLIP text encoders, also conditioned on the image's size, which is the size that it is scored at, uncropped."""

    pipelines: ClassVar[tuple[str, ...]] = ("StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline")
    components: ClassVar[dict[str, tuple[str, ...]]] = StableDiffusion.components | {
        "tokenizer_2": ("CLIPTokenizer",),
        "text_encoder_2": ("CLIPTextModelWithProjection",),
    }
    pipeline_class: ClassVar[str] = "StableDiffusionXLPipeline"
    encoded: ClassVar[tuple[str | None, ...]] = ("prompt_embeds", None, "pooled", None)
    stated: ClassVar[tuple[str, ...]] = ("force_zeros_for_empty_prompt",)

    def condition(self, captions: Sequence[Any] | None) -> dict[str, torch.Tensor]:
        encodings = super().condition(captions)
        if captions is not None and self.pipeline.config.get("force_zeros_for_empty_prompt"):
            # It was trained with zeros for an empty text.
            has_text = torch.tensor([bool(caption) for caption in captions], device=self.device)
            encodings = {name: value * has_text.reshape(-1, *[1] * (value.ndim - 1)) for name, value in encodings.items()}
        return encodings

    def output(self, x: torch.Tensor, t: torch.Tensor, cond: Any) -> Any:
        text, pooled = self.cast(cond, "prompt_embeds", "pooled")
        height, width = self.info.picture_shape[1:]
        sizes = torch.tensor([[height, width, 0, 0, height, width]], device=x.device, dtype=text.dtype).expand(len(x), -1)
        added = {"text_embeds": pooled, "time_ids": sizes}
        return self.network(x, t, encoder_hidden_states=text, timestep_cond=self.guidance(x), added_cond_kwargs=added).sample
