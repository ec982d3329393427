"""Stable Diffusion 3 and 3.5 (Esser et al. 2024, arXiv 2403.03206): flow matching on latents.

The network's velocity becomes ε in `mia_hub.models.schedule.NoiseSchedule.to_epsilon`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from mia_hub.errors import ModelError
from mia_hub.models.families.latent import vae_factor
from mia_hub.models.families.text_to_image import TextToImage


class StableDiffusion3(TextToImage):
    """Stable Diffusion 3 and 3.5: an MMDiT with two CLIP encoders and, unless left out, T5."""

    family: ClassVar[str] = "flow"
    pipelines: ClassVar[tuple[str, ...]] = ("StableDiffusion3Pipeline", "StableDiffusion3Img2ImgPipeline")
    components: ClassVar[dict[str, tuple[str, ...]]] = {
        "vae": ("AutoencoderKL",),
        "transformer": ("SD3Transformer2DModel",),
        "scheduler": (),
        "tokenizer": ("CLIPTokenizer",),
        "text_encoder": ("CLIPTextModelWithProjection",),
        "tokenizer_2": ("CLIPTokenizer",),
        "text_encoder_2": ("CLIPTextModelWithProjection",),
        "tokenizer_3": ("T5Tokenizer",),
        "text_encoder_3": ("T5EncoderModel",),
    }
    optional: ClassVar[frozenset[str]] = frozenset({"tokenizer_3", "text_encoder_3"})
    denoiser: ClassVar[str] = "transformer"
    pipeline_class: ClassVar[str] = "StableDiffusion3Pipeline"
    encoded: ClassVar[tuple[str | None, ...]] = ("prompt_embeds", None, "pooled", None)

    @classmethod
    def check(cls, configs: dict[str, Any], scheduler: Any, id: str, *, size: int | None = None, **options: Any) -> None:
        super().check(configs, scheduler, id, size=size, **options)
        config = configs[cls.denoiser]
        largest = config.pos_embed_max_size * config.patch_size * vae_factor(configs[cls.autoencoder])
        if size is not None and size > largest:
            raise ModelError(f"{id} takes images whose side is at most {largest} pixels; got size={size}.")

    def output(self, x: torch.Tensor, t: torch.Tensor, cond: Any) -> Any:
        text, pooled = self.cast(cond, "prompt_embeds", "pooled")
        return self.network(hidden_states=x, timestep=t, encoder_hidden_states=text, pooled_projections=pooled).sample
