"""Flux.1 of Black Forest Labs: flow matching on latents.

The network's velocity becomes ε in `mia_hub.models.schedule.NoiseSchedule.to_epsilon`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from mia_hub.models.families.text_to_image import CLIP, TextToImage

# The guidance that a guidance-distilled model is conditioned on: at 1 it makes its plain conditional prediction.
EMBEDDED_GUIDANCE = 1.0


class Flux(TextToImage):
    """Flux.1 dev and schnell, and their fine-tunes: latents packed two by two, CLIP and T5."""

    family: ClassVar[str] = "flow"
    pipelines: ClassVar[tuple[str, ...]] = ("FluxPipeline", "FluxImg2ImgPipeline")
    components: ClassVar[dict[str, tuple[str, ...]]] = (
        {"vae": ("AutoencoderKL",), "transformer": ("FluxTransformer2DModel",), "scheduler": ()}
        | CLIP
        | {"tokenizer_2": ("T5Tokenizer",), "text_encoder_2": ("T5EncoderModel",)}
    )
    denoiser: ClassVar[str] = "transformer"
    pipeline_class: ClassVar[str] = "FluxPipeline"
    encoded: ClassVar[tuple[str | None, ...]] = ("prompt_embeds", "pooled", None)

    def __init__(self, **options: Any):
        super().__init__(**options)
        if self.network.config.guidance_embeds:
            self.info.settings["guidance"] = EMBEDDED_GUIDANCE

    @staticmethod
    def latents_per_token(config: Any) -> int:
        return 4

    @staticmethod
    def patch(config: Any) -> int:
        return 2

    @staticmethod
    def native_latents(config: Any) -> int:
        return 128  # 1024 pixels; its configuration doesn't state it

    def output(self, x: torch.Tensor, t: torch.Tensor, cond: Any) -> Any:
        text, pooled = self.cast(cond, "prompt_embeds", "pooled")
        n, channels, height, width = x.shape
        packed = self.pipeline._pack_latents(x, n, channels, height, width)
        velocity = self.network(
            hidden_states=packed,
            timestep=t / len(self.schedule),
            guidance=torch.full((n,), EMBEDDED_GUIDANCE, device=x.device) if self.network.config.guidance_embeds else None,
            pooled_projections=pooled,
            encoder_hidden_states=text,
            txt_ids=torch.zeros(text.shape[1], 3, device=x.device, dtype=text.dtype),
            img_ids=self.pipeline._prepare_latent_image_ids(n, height // 2, width // 2, x.device, text.dtype),
        ).sample
        factor = self.pipeline.vae_scale_factor
        return self.pipeline._unpack_latents(velocity, height * factor, width * factor, factor)
