"""Latent diffusion without text (Rombach et al. 2022, arXiv 2112.10752): a UNet2DModel on an autoencoder's latents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from mia_hub.models.families.latent import LatentModel
from mia_hub.models.families.pixel import UNetModel, classes_of


class LatentUNetModel(LatentModel, UNetModel):
    """A UNet2DModel on an autoencoder's latents, as in LDMPipeline; unconditional or conditioned on classes.

    Latents of a VQModel are those before quantisation, as in training. Arguments and errors are those of `LatentModel`.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("LDMPipeline",)
    components: ClassVar[dict[str, tuple[str, ...]]] = {
        "vqvae": ("VQModel", "AutoencoderKL", "AutoencoderDC"),
        "unet": ("UNet2DModel",),
        "scheduler": (),
    }
    autoencoder: ClassVar[str] = "vqvae"

    @staticmethod
    def patch(config: Any) -> int:
        return 1 << (len(config.block_out_channels) - 1)

    @classmethod
    def check(cls, configs: dict[str, Any], scheduler: Any, id: str, **options: Any) -> None:
        super().check(configs, scheduler, id, **options)
        classes_of(configs["unet"], id)

    def __init__(self, *, unet: Any, id: str, **options: Any):
        super().__init__(unet=unet, id=id, **options)
        if classes := classes_of(unet.config, id):
            self.info = replace(self.info, conditioning="class", num_classes=classes)
