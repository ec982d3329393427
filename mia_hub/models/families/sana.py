"""Sana (Xie et al. 2024, arXiv 2410.10629): flow matching on the latents of a deep-compression autoencoder.

The network's velocity becomes ε in `mia_hub.models.schedule.NoiseSchedule.to_epsilon`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from mia_hub.models.components import quiet
from mia_hub.models.families.text_to_image import TextToImage, default_of


class Sana(TextToImage):
    """Sana: a linear transformer, with Gemma as its text encoder and the instruction that it was trained with before each caption."""

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

    def truncated(self, captions: Sequence[str]) -> int:
        # The instruction takes some of the tokens, the caption has the rest.
        instruction = "\n".join(default_of(self.pipeline.__call__, "complex_human_instruction"))
        with quiet():
            tokens_of_instruction = len(self.pipeline.tokenizer.encode(instruction))
            limit = tokens_of_instruction + default_of(self.pipeline.encode_prompt, "max_sequence_length") - 2
            return sum(len(tokens) > limit for tokens in self.pipeline.tokenizer([instruction + each for each in captions]).input_ids)

    def output(self, x: torch.Tensor, t: torch.Tensor, cond: Any) -> Any:
        (text,) = self.cast(cond, "prompt_embeds")
        time = t * self.network.config.timestep_scale
        return self.network(x, encoder_hidden_states=text, encoder_attention_mask=cond["mask"], timestep=time).sample
