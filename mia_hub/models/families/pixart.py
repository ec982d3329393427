"""PixArt-α (Chen et al. 2023, arXiv 2310.00426) and PixArt-Σ (Chen et al. 2024, arXiv 2403.04692)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from mia_hub.models.families.text_to_image import T5, TextToImage


class PixArt(TextToImage):
    """PixArt-α: a transformer with a T5 text encoder and learned variance; at 1024 pixels also conditioned on size and shape."""

    pipelines: ClassVar[tuple[str, ...]] = ("PixArtAlphaPipeline",)
    components: ClassVar[dict[str, tuple[str, ...]]] = {
        "vae": ("AutoencoderKL",),
        "transformer": ("PixArtTransformer2DModel", "Transformer2DModel"),
        "scheduler": (),
    } | T5
    denoiser: ClassVar[str] = "transformer"
    pipeline_class: ClassVar[str] = "PixArtAlphaPipeline"
    encoded: ClassVar[tuple[str | None, ...]] = ("prompt_embeds", "mask", None, None)

    def output(self, x: torch.Tensor, t: torch.Tensor, cond: Any) -> Any:
        (text,) = self.cast(cond, "prompt_embeds")
        height, width = self.info.picture_shape[1:]
        added: dict[str, torch.Tensor | None] = {"resolution": None, "aspect_ratio": None}
        if getattr(self.network, "use_additional_conditions", False):
            added["resolution"] = torch.tensor([[height, width]], device=x.device, dtype=x.dtype).expand(len(x), -1)
            added["aspect_ratio"] = torch.tensor([[height / width]], device=x.device, dtype=x.dtype).expand(len(x), -1)
        return self.network(x, encoder_hidden_states=text, encoder_attention_mask=cond["mask"], timestep=t, added_cond_kwargs=added).sample


class PixArtSigma(PixArt):
    """PixArt-Σ: as PixArt-α, with longer captions."""

    pipelines: ClassVar[tuple[str, ...]] = ("PixArtSigmaPipeline",)
    pipeline_class: ClassVar[str] = "PixArtSigmaPipeline"
