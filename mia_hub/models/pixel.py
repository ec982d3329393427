"""Pixel-space diffusion models: diffusers' UNet2DModel with any scheduler that is a beta schedule."""

from __future__ import annotations

import torch

from mia_hub.errors import ModelError
from mia_hub.models.denoiser import PixelSpace
from mia_hub.models.protocol import ModelInfo, result_dtype
from mia_hub.schedule import PREDICTION_TYPES, NoiseSchedule


class PixelModel(PixelSpace):
    """An unconditional UNet2DModel, as in DDPMPipeline and DDIMPipeline.

    Absorbs the prediction type (ε, v or x0; see `NoiseSchedule.to_epsilon`) and learned variance (of 2C output channels
    the first C are the prediction; Nichol & Dhariwal 2021).

    Args:
        unet: the network; moved to ``device`` and ``dtype``, in eval mode.
        scheduler: a diffusers scheduler; its ``alphas_cumprod`` and ``prediction_type`` are read, nothing else.
        id, revision: as recorded in results.

    Raises:
        ModelError: if the network is class-conditional, or the scheduler is no beta schedule.
    """

    def __init__(self, unet, scheduler, *, id: str, revision: str | None = None, device="cpu", dtype: torch.dtype = torch.float32):
        check_pixel_model(unet.config, scheduler, id)
        config = unet.config
        size = config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        # torch's own method: the one of diffusers warns of modules to be kept in float32 even where there are none.
        self.network = torch.nn.Module.to(unet, device=device, dtype=dtype).eval().requires_grad_(False)
        self.schedule = NoiseSchedule.from_alphas_cumprod(scheduler.alphas_cumprod)
        self.device, self.dtype = torch.device(device), dtype
        self.info = ModelInfo(
            id=id,
            revision=revision,
            family="pixel",
            sample_shape=(config.in_channels, height, width),
            num_train_timesteps=len(self.schedule),
            prediction_type=_prediction_type(scheduler),
        )

    def predict_noise(self, x: torch.Tensor, t: torch.Tensor, cond=None) -> torch.Tensor:
        x = x.to(result_dtype(self.dtype))
        output = self.network(x.to(self.dtype), t).sample[:, : x.shape[1]].to(result_dtype(self.dtype))
        return self.schedule.to_epsilon(output, x, t, self.info.prediction_type)


def check_pixel_model(config, scheduler, id: str) -> None:
    """Refuses a UNet2DModel's ``config``, or a scheduler, that `PixelModel` can't take; needs no weights.

    Raises:
        ModelError: with the reason.
    """
    if config.get("class_embed_type") or config.get("num_class_embeds"):
        raise ModelError(
            f"{id} is class-conditional, which this version can't audit: it audits unconditional pixel models. "
            "With one class fixed, it can be wrapped with mia_hub.wrap_denoiser."
        )
    prediction_type = _prediction_type(scheduler)
    if getattr(scheduler, "alphas_cumprod", None) is None or prediction_type not in PREDICTION_TYPES:
        raise ModelError(
            f"The noise schedule of {id} can't be derived from its scheduler {type(scheduler).__name__} "
            f"(prediction type {prediction_type!r}). Supported are schedulers with alphas_cumprod, such as DDPMScheduler and "
            f"DDIMScheduler, predicting {', '.join(PREDICTION_TYPES)}. Any other model can be wrapped with mia_hub.wrap_denoiser."
        )
    try:
        NoiseSchedule.from_alphas_cumprod(scheduler.alphas_cumprod)
    except ModelError as error:
        raise ModelError(f"The noise schedule of {id} can't be used: {error}") from error
    if config.out_channels not in (config.in_channels, 2 * config.in_channels) or config.in_channels not in (1, 3):
        raise ModelError(
            f"{id} takes {config.in_channels} channels and puts out {config.out_channels}; a pixel model has 1 or 3, "
            "and as many (or, with learned variance, twice as many) outputs. A model of anything else can't be audited by this version."
        )
    if not config.sample_size:
        raise ModelError(
            f"{id} doesn't state its image size (sample_size in its UNet's config.json), so pictures can't be fitted to it. "
            "Add it to a copy of the model, and give that folder."
        )


def _prediction_type(scheduler) -> str:
    return scheduler.config.get("prediction_type") or "epsilon"
