"""DiT (Peebles & Xie 2023, arXiv 2212.09748): a class-conditional transformer on latents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch

from mia_hub.models.families.latent import LatentModel


class DiT(LatentModel):
    """A DiT, with learned variance and a null class. Arguments and errors are those of `LatentModel`."""

    pipelines: ClassVar[tuple[str, ...]] = ("DiTPipeline",)
    components: ClassVar[dict[str, tuple[str, ...]]] = {
        "transformer": ("DiTTransformer2DModel", "Transformer2DModel"),
        "vae": ("AutoencoderKL",),
        "scheduler": (),
    }
    denoiser: ClassVar[str] = "transformer"

    def __init__(self, *, transformer: Any, **options: Any):
        super().__init__(transformer=transformer, **options)
        # Trained with some labels dropped, it has one embedding more, for no class.
        classes: int = transformer.config.num_embeds_ada_norm
        self.null_class = classes
        self.info = replace(self.info, conditioning="class", num_classes=classes)

    def output(self, x: torch.Tensor, t: torch.Tensor, cond: Any) -> Any:
        return self.network(x, timestep=t, class_labels=cond).sample
