"""Text-to-image by flow matching on latents: Stable Diffusion 3, Flux, Sana. The network's velocity becomes ε in `NoiseSchedule`."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from mia_hub.errors import ModelError
from mia_hub.models.components import quiet
from mia_hub.models.families.latent import vae_factor
from mia_hub.models.families.text_to_image import CLIP, TextToImage, default_of

# What a guidance-distilled model is told: guidance 1 is its plain conditional prediction.
EMBEDDED_GUIDANCE = 1.0


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
    def check(cls, configs, scheduler, id, *, size=None, **options):
        super().check(configs, scheduler, id, size=size, **options)
        config = configs[cls.denoiser]
        largest = config.pos_embed_max_size * config.patch_size * vae_factor(configs[cls.autoencoder])
        if size is not None and size > largest:
            raise ModelError(f"{id} takes images whose side is at most {largest} pixels; got size={size}.")

    def output(self, x, t, cond):
        text, pooled = self._cast(cond, "prompt_embeds", "pooled")
        return self.network(hidden_states=x, timestep=t, encoder_hidden_states=text, pooled_projections=pooled).sample


class Flux(TextToImage):
    """Flux.1 dev and schnell, and what was fine-tuned from them: latents packed two by two, CLIP and T5."""

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
    def latents_per_token(config) -> int:
        return 4

    @staticmethod
    def patch(config) -> int:
        return 2

    @staticmethod
    def native_latents(config) -> int:
        return 128  # 1024 pixels; its configuration doesn't say

    def output(self, x, t, cond):
        text, pooled = self._cast(cond, "prompt_embeds", "pooled")
        n, channels, height, width = x.shape
        packed = self.pipeline._pack_latents(x, n, channels, height, width)
        told = torch.full((n,), EMBEDDED_GUIDANCE, device=x.device) if self.network.config.guidance_embeds else None
        velocity = self.network(
            hidden_states=packed,
            timestep=t / len(self.schedule),
            guidance=told,
            pooled_projections=pooled,
            encoder_hidden_states=text,
            txt_ids=torch.zeros(text.shape[1], 3, device=x.device, dtype=text.dtype),
            img_ids=self.pipeline._prepare_latent_image_ids(n, height // 2, width // 2, x.device, text.dtype),
        ).sample
        factor = self.pipeline.vae_scale_factor
        return self.pipeline._unpack_latents(velocity, height * factor, width * factor, factor)


class Sana(TextToImage):
    """Sana: a linear transformer on the latents of a deep-compression autoencoder, with Gemma and the instruction it was trained with."""

    family: ClassVar[str] = "flow"
    pipelines: ClassVar[tuple[str, ...]] = ("SanaPipeline",)
    components: ClassVar[dict[str, tuple[str, ...]]] = {
        "vae": ("AutoencoderDC",),
        "transformer": ("SanaTransformer2DModel",),
        "scheduler": (),
        "tokenizer": ("GemmaTokenizer",),
        "text_encoder": ("Gemma2Model", "Gemma2ForCausalLM"),
    }
    denoiser: ClassVar[str] = "transformer"
    pipeline_class: ClassVar[str] = "SanaPipeline"
    encoded: ClassVar[tuple[str | None, ...]] = ("prompt_embeds", "mask", None, None)

    def truncated(self, captions):
        # The tokens that are left to a caption are those that the instruction before it doesn't take.
        instruction = "\n".join(default_of(self.pipeline.__call__, "complex_human_instruction"))
        with quiet():
            taken = len(self.pipeline.tokenizer.encode(instruction))
            limit = taken + default_of(self.pipeline.encode_prompt, "max_sequence_length") - 2
            return sum(len(tokens) > limit for tokens in self.pipeline.tokenizer([instruction + each for each in captions]).input_ids)

    def output(self, x, t, cond):
        (text,) = self._cast(cond, "prompt_embeds")
        scaled = t * self.network.config.timestep_scale
        return self.network(x, encoder_hidden_states=text, encoder_attention_mask=cond["mask"], timestep=scaled).sample
