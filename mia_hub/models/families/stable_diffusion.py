"""Stable Diffusion 1 and 2 (Rombach et al. 2022, arXiv 2112.10752) and SDXL (Podell et al. 2023, arXiv 2307.01952)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from mia_hub.errors import ModelError
from mia_hub.models.families.text_to_image import CLIP, TextToImage


class StableDiffusion(TextToImage):
    """Stable Diffusion 1 and 2, and their fine-tunes: ε or v, one CLIP text encoder."""

    pipelines: ClassVar[tuple[str, ...]] = ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline")
    components: ClassVar[dict[str, tuple[str, ...]]] = {
        "vae": ("AutoencoderKL",),
        "unet": ("UNet2DConditionModel",),
        "scheduler": (),
    } | CLIP
    pipeline_class: ClassVar[str] = "StableDiffusionPipeline"

    @classmethod
    def check(cls, configs: dict[str, Any], scheduler: Any, id: str, **options: Any) -> None:
        super().check(configs, scheduler, id, **options)
        if configs["unet"].get("time_cond_proj_dim"):
            raise ModelError(
                f"{id} is a distilled model that is conditioned on its guidance (a latent consistency model), which this version can't "
                "audit. Audit the model that it was distilled from, or wrap it with mia_hub.wrap_denoiser."
            )

    def output(self, x: torch.Tensor, t: torch.Tensor, cond: Any) -> Any:
        (text,) = self.cast(cond, "prompt_embeds")
        return self.network(x, t, encoder_hidden_states=text).sample


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
        return self.network(x, t, encoder_hidden_states=text, added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes}).sample
