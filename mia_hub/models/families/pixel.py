"""Pixel-space diffusion models: diffusers' UNet2DModel with any scheduler that is a beta schedule or a flow."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch

from mia_hub.errors import ModelError
from mia_hub.models.families.base import NetworkModel
from mia_hub.models.families.scheduler_reading import prediction_type_of, schedule_of
from mia_hub.models.protocol import ModelInfo


class UNetModel(NetworkModel):
    """A UNet2DModel of pixels or latents, unconditional or conditioned on classes."""

    def output(self, x: torch.Tensor, t: torch.Tensor, cond: Any) -> Any:
        return self.network(x, t, class_labels=cond).sample


class PixelModel(UNetModel):
    """A UNet2DModel on pixels, as in DDPMPipeline and DDIMPipeline, unconditional or conditioned on classes.

    Args:
        unet: the network; moved to ``device`` and ``dtype``, in eval mode.
        scheduler: a diffusers scheduler; its noise schedule and prediction type are read, nothing else.
        id, revision: as recorded in results.
        size: side of the images in pixels; the network's own by default.

    Raises:
        ModelError: if the network, its size or its schedule can't be audited.
    """

    # Any pipeline of a UNet2DModel and a scheduler will do.
    pipelines: ClassVar[tuple[str, ...]] = ("DDPMPipeline", "DDIMPipeline", "PNDMPipeline", "ScoreSdeVpPipeline")
    components: ClassVar[dict[str, tuple[str, ...]]] = {"unet": ("UNet2DModel",), "scheduler": ()}

    @classmethod
    def check(cls, configs: dict[str, Any], scheduler: Any, id: str, *, size: int | None = None, **options: Any) -> None:
        config = configs["unet"]
        classes_of(config, id)
        schedule_of(scheduler, id)
        if config.out_channels not in (config.in_channels, 2 * config.in_channels) or config.in_channels not in (1, 3):
            raise ModelError(
                f"{id} takes {config.in_channels} channels and puts out {config.out_channels}; a pixel model has 1 or 3, and as many (or, "
                "with learned variance, twice as many) outputs. A model of anything else can't be audited by this version."
            )
        if not config.sample_size:
            raise ModelError(
                f"{id} doesn't state its image size (sample_size in its UNet's config.json), so images can't be fitted to it. "
                "Add it to a copy of the model, and give that folder."
            )
        if size is not None:
            check_size(size, 2 ** (len(config.block_out_channels) - 1), id)

    def __init__(
        self,
        unet: Any,
        scheduler: Any,
        *,
        id: str,
        revision: str | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        size: int | None = None,
    ):
        self.check({"unet": unet.config}, scheduler, id, size=size)
        config = unet.config
        # torch's own method: the one of diffusers warns of modules to be kept in float32 even where there are none.
        network = torch.nn.Module.to(unet, device=device, dtype=dtype)
        super().__init__(network, schedule_of(scheduler, id), device=device, dtype=dtype)
        native = config.sample_size
        height, width = (native, native) if isinstance(native, int) else native
        if size is not None:
            height = width = size
        classes = classes_of(config, id)
        self.info = ModelInfo(
            id=id,
            revision=revision,
            family="pixel",
            sample_shape=(config.in_channels, height, width),
            num_train_timesteps=len(self.schedule),
            prediction_type=prediction_type_of(scheduler),
            conditioning="class" if classes else "none",
            num_classes=classes,
        )


def classes_of(config: Any, id: str) -> int | None:
    """Number of classes that a UNet2DModel is conditioned on; None if it is unconditional.

    Raises:
        ModelError: if its condition is no class index.
    """
    if config.get("class_embed_type"):
        raise ModelError(
            f"{id} is conditioned on something other than class indices (class_embed_type {config.class_embed_type!r}), which this version "
            "can't audit. With its condition fixed, it can be wrapped with mia_hub.wrap_denoiser."
        )
    return config.get("num_class_embeds") or None


def check_size(size: Any, unit: int, id: str) -> None:
    """Refuse a side of images that the model can't take.

    Args:
        size: in pixels.
        unit: the model takes positive multiples of it.
        id: of the model, for messages.

    Raises:
        ModelError: if the side is no positive multiple of ``unit``.
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < unit or size % unit:
        number = isinstance(size, (int, float)) and not isinstance(size, bool) and math.isfinite(size)
        near = max(unit, round(size / unit) * unit) if number else unit
        raise ModelError(f"{id} takes images whose side is a multiple of {unit} pixels; got size={size!r}. Try size={near}.")
