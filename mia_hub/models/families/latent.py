"""The base of all models of latents: an autoencoder maps images to latents, and the denoiser works on those."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal, get_args

import torch

from mia_hub.errors import ModelError
from mia_hub.models.denoiser import PixelSpace
from mia_hub.models.families.base import NetworkModel
from mia_hub.models.families.pixel import check_size
from mia_hub.models.families.scheduler_reading import prediction_type_of, schedule_of
from mia_hub.models.noise import SampleNoise
from mia_hub.models.precision import AUTOENCODER, PartPrecisions, result_dtype
from mia_hub.models.protocol import ModelInfo

Latents = Literal["mode", "sample"]
# Pixels that go through the autoencoder at once: its first layers hold hundreds of values per pixel, and more is not faster.
PIXELS_AT_ONCE = 2**20


class LatentSpace(PixelSpace):
    """Images in [0, 1] become an autoencoder's latents, shifted and scaled, and back.

    Attributes:
        vae: the autoencoder.
        latents: "mode" (of the posterior; deterministic) or "sample" (one draw from it, which belongs to the image: its noise is a
            function of the pixels). An autoencoder without a posterior has only its one encoding.
        precisions: see `mia_hub.models.families.base.NetworkModel`.
    """

    vae: Any
    latents: Latents
    precisions: PartPrecisions

    def to_model_space(self, pixels: torch.Tensor) -> torch.Tensor:
        """``[N, 3, H, W]`` in [0, 1] to latents ``[N, C, h, w]``: (z - shift)·scale."""
        scale, shift = self._scale_and_shift
        latents: torch.Tensor = (self._through_autoencoder(self._encoded, pixels) - shift) * scale
        return latents

    def to_pixels(self, x0: torch.Tensor) -> torch.Tensor:
        """The inverse of `to_model_space`, clipped to [0, 1]."""
        scale, shift = self._scale_and_shift
        decoded = self._through_autoencoder(self._decoded, x0 / scale + shift)
        return (decoded.to(x0.dtype) / 2 + 0.5).clamp(0, 1)

    def _through_autoencoder(self, work: Callable[[torch.Tensor], torch.Tensor], values: torch.Tensor) -> torch.Tensor:
        """The results for values ``[N, …]``, a few images at a time; in float32 if half precision overflows, as with SDXL's autoencoder."""
        _, height, width = self.info.picture_shape
        portions = torch.split(values, max(1, PIXELS_AT_ONCE // (height * width)))
        return torch.cat([self.precisions.finite(AUTOENCODER, partial(work, portion), portion) for portion in portions])

    def _decoded(self, z: torch.Tensor) -> torch.Tensor:
        image: torch.Tensor = self.vae.decode(z.to(self.vae.dtype), return_dict=False)[0]
        return image.to(result_dtype(self.dtype))

    def _encoded(self, pixels: torch.Tensor) -> torch.Tensor:
        encoded = self.vae.encode((pixels * 2 - 1).to(self.vae.dtype))
        dtype = result_dtype(self.dtype)
        if not hasattr(encoded, "latent_dist"):
            z: torch.Tensor = encoded.latents if hasattr(encoded, "latents") else encoded.latent
            return z.to(dtype)
        mode: torch.Tensor = encoded.latent_dist.mode().to(dtype)
        if self.latents == "mode":
            return mode
        std: torch.Tensor = encoded.latent_dist.std.to(dtype)
        return mode + std * SampleNoise(_noise_ids(pixels), tuple(mode.shape[1:]), device=pixels.device, dtype=dtype)(0)

    @property
    def _scale_and_shift(self) -> tuple[Any, Any]:
        """Numbers, or ``[1, C, 1, 1]`` where each channel has its own."""
        config = self.vae.config
        mean, std = config.get("latents_mean"), config.get("latents_std")
        scale = config.get("scaling_factor") or 1.0
        if mean is None or std is None:
            return scale, config.get("shift_factor") or 0.0
        mean, std = (torch.tensor(v, device=self.device, dtype=result_dtype(self.dtype)).reshape(1, -1, 1, 1) for v in (mean, std))
        return scale / std, mean


def vae_factor(config: Any) -> int:
    """The factor by which an autoencoder makes the side of an image smaller."""
    blocks = len(config.get("encoder_block_out_channels") or config.block_out_channels)
    return 1 << (blocks - 1)


def _noise_ids(pixels: torch.Tensor) -> list[str]:
    """The ids of images ``[N, C, H, W]``, under which the noise that belongs to them is drawn."""
    # Rounded to what 8 bits resolve, so that the draw doesn't depend on the precision that the pixels travel in.
    levels = (pixels * 255).round().to(torch.uint8).cpu().numpy()
    return [f"latents of {hashlib.sha256(row.tobytes()).hexdigest()}" for row in levels]


class LatentModel(LatentSpace, NetworkModel):
    """A denoiser of an autoencoder's latents. A subclass calls its network and says what its images and conditions are.

    Args:
        scheduler: a diffusers scheduler; its noise schedule and prediction type are read, nothing else.
        parts: denoiser and autoencoder, by the names in `components`; moved to ``device``, in eval mode.
        id, revision: as recorded in results.
        device, dtype: where and in which precision the parts compute.
        size: side of the images in pixels; the network's own by default.
        latents: see `LatentSpace`.

    Class attributes:
        family: as `ModelInfo` calls it.
        autoencoder: the part that is the autoencoder.

    Raises:
        ModelError: if the network, its size or its schedule can't be audited.
    """

    family: ClassVar[str] = "latent"
    autoencoder: ClassVar[str] = "vae"

    @classmethod
    def check(
        cls, configs: dict[str, Any], scheduler: Any, id: str, *, size: int | None = None, latents: Latents = "mode", **options: Any
    ) -> None:
        schedule_of(scheduler, id)
        denoiser, vae = configs[cls.denoiser], configs[cls.autoencoder]
        channels = vae.latent_channels * cls.latents_per_token(denoiser)
        if denoiser.in_channels != channels:
            raise ModelError(
                f"The denoiser of {id} takes {denoiser.in_channels} channels, and its autoencoder makes {channels}: it needs more than the "
                "image (as for inpainting or editing), which this version can't audit. It can be wrapped with mia_hub.wrap_denoiser."
            )
        if latents not in get_args(Latents):
            raise ModelError(f"latents must be 'mode' (deterministic) or 'sample' (one draw per image); got {latents!r}.")
        factor, native = vae_factor(vae), cls.native_latents(denoiser)
        if size is None and not isinstance(native, int):
            raise ModelError(f"{id} doesn't state the side of its images (sample_size {native!r} of its denoiser); give it as size=….")
        check_size(native * factor if size is None else size, factor * cls.patch(denoiser), id)

    def __init__(
        self,
        *,
        scheduler: Any,
        id: str,
        revision: str | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        size: int | None = None,
        latents: Latents = "mode",
        **parts: Any,
    ):
        network, vae = parts[self.denoiser], parts[self.autoencoder]
        self.check({self.denoiser: network.config, self.autoencoder: vae.config}, scheduler, id, size=size, latents=latents)
        super().__init__(network, schedule_of(scheduler, id), device=device, dtype=dtype)
        self.vae, self.latents = vae.eval().requires_grad_(False), latents
        self.precisions.add(AUTOENCODER, [self.vae])
        for part in parts.values():
            if isinstance(part, torch.nn.Module):
                # Its precision is that of its files: some parts keep a few layers in float32.
                part.to(device=device)
        factor = vae_factor(vae.config)
        side = self.native_latents(network.config) * factor if size is None else size
        self.info = ModelInfo(
            id=id,
            revision=revision,
            family=self.family,
            sample_shape=(vae.config.latent_channels, side // factor, side // factor),
            picture_shape=(vae.config.in_channels, side, side),
            num_train_timesteps=len(self.schedule),
            prediction_type=prediction_type_of(scheduler),
            settings={"latents": latents},
        )

    @staticmethod
    def latents_per_token(config: Any) -> int:
        """Number of neighbouring latents that the denoiser takes stacked as channels."""
        return 1

    @staticmethod
    def patch(config: Any) -> int:
        """The number of latents that the image's side must be a multiple of."""
        return config.get("patch_size") or 1

    @staticmethod
    def native_latents(config: Any) -> Any:
        """The side, in latents, of the images that the denoiser was trained on; not an int if its configuration doesn't state it."""
        return config.sample_size
