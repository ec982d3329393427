"""Latent diffusion without text: an autoencoder's latents, and a denoiser of them, unconditional or conditioned on classes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, get_args

import torch

from mia_hub.errors import ModelError
from mia_hub.models.denoiser import PixelSpace
from mia_hub.models.families.pixel import UNetModel, classes_of, multiple_of
from mia_hub.models.network import NetworkModel
from mia_hub.models.noise import SampleNoise
from mia_hub.models.protocol import ModelInfo, result_dtype
from mia_hub.models.schedules import prediction_type_of, schedule_of

Latents = Literal["mode", "sample"]
# Pixels that go through the autoencoder at once: its first layers hold hundreds of values per pixel, and more is not faster.
PIXELS_AT_ONCE = 2**20


class LatentSpace(PixelSpace):
    """The part that all models of latents share: images in [0, 1] become an autoencoder's latents, shifted and scaled, and back.

    Attributes:
        vae: the autoencoder.
        latents: "mode" (of the posterior; deterministic) or "sample" (one draw of it, which belongs to the image: its noise is a
            function of the pixels). An autoencoder without a posterior has only its one encoding.
        widen: see `mia_hub.models.network.NetworkModel`.
    """

    vae: torch.nn.Module
    latents: Latents
    widen: Callable[..., None]

    def to_model_space(self, pixels: torch.Tensor) -> torch.Tensor:
        """``[N, 3, H, W]`` in [0, 1] to latents ``[N, C, h, w]``: (z - shift)·scale."""
        at_once = max(1, PIXELS_AT_ONCE // (pixels.shape[-1] * pixels.shape[-2]))
        return torch.cat([self._encoded(part) for part in pixels.split(at_once)])

    def to_pixels(self, x0: torch.Tensor) -> torch.Tensor:
        scale, shift = self._scale_and_shift
        at_once = max(1, PIXELS_AT_ONCE // (self.info.picture_shape[1] * self.info.picture_shape[2]))
        decoded = torch.cat([self._finite(self._decoded, part / scale + shift) for part in x0.split(at_once)])
        return (decoded.to(x0.dtype) / 2 + 0.5).clamp(0, 1)

    def _encoded(self, pixels: torch.Tensor) -> torch.Tensor:
        scale, shift = self._scale_and_shift
        return (self._finite(self._posterior, pixels) - shift) * scale

    def _finite(self, work: Callable[[torch.Tensor], torch.Tensor], given: torch.Tensor) -> torch.Tensor:
        """What the autoencoder makes of something, in float32 if it overflows in half precision, as some do (that of SDXL)."""
        made = work(given)
        if given.isfinite().all() and not made.isfinite().all() and self.vae.dtype in (torch.float16, torch.bfloat16):
            self.widen("autoencoder", torch.float32)
            made = work(given)
        return made

    def _decoded(self, z: torch.Tensor) -> torch.Tensor:
        return self.vae.decode(z.to(self.vae.dtype), return_dict=False)[0].to(result_dtype(self.dtype))

    def _posterior(self, pixels: torch.Tensor) -> torch.Tensor:
        encoded = self.vae.encode((pixels * 2 - 1).to(self.vae.dtype))
        if not hasattr(encoded, "latent_dist"):
            return (encoded.latents if hasattr(encoded, "latents") else encoded.latent).to(result_dtype(self.dtype))
        posterior = encoded.latent_dist
        if self.latents == "mode":
            return posterior.mode().to(result_dtype(self.dtype))
        draws = SampleNoise(_names(pixels), tuple(posterior.mean.shape[1:]), device=pixels.device, dtype=result_dtype(self.dtype))
        noise = draws(0)
        return posterior.mean.to(noise.dtype) + posterior.std.to(noise.dtype) * noise

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


def vae_factor(config) -> int:
    """By how much an autoencoder makes images smaller."""
    return 2 ** (len(config.get("encoder_block_out_channels") or config.block_out_channels) - 1)


def _names(pixels: torch.Tensor) -> list[str]:
    """What images ``[N, C, H, W]`` are known by where noise is drawn that belongs to them."""
    # Rounded to what 8 bits resolve, so that the draw doesn't depend on the precision that the pixels travel in.
    levels = (pixels * 255).round().to(torch.uint8).cpu().numpy()
    return [f"latents of {hashlib.sha256(row.tobytes()).hexdigest()}" for row in levels]


class LatentModel(LatentSpace, NetworkModel):
    """A denoiser of an autoencoder's latents. Subclasses say how it is called and what its images and conditions are.

    Args:
        scheduler: a diffusers scheduler; its noise schedule and prediction type are read, nothing else.
        parts: denoiser and autoencoder, by the names in `components`; moved to ``device``, in eval mode.
        id, revision: as recorded in results.
        device, dtype: where and in which precision the parts compute.
        size: the images' side; the network's own by default.
        latents: see `LatentSpace`.

    Class attributes:
        family: as `ModelInfo` calls it.
        autoencoder: which of the parts is the autoencoder.

    Raises:
        ModelError: if the network, its size or its schedule can't be audited.
    """

    family: ClassVar[str] = "latent"
    autoencoder: ClassVar[str] = "vae"

    @classmethod
    def check(
        cls, configs: dict[str, Any], scheduler, id: str, *, size: int | None = None, latents: Latents = "mode", **options: Any
    ) -> None:
        schedule_of(scheduler, id)
        denoiser, vae = configs[cls.denoiser], configs[cls.autoencoder]
        made = vae.latent_channels * cls.latents_per_token(denoiser)
        if denoiser.in_channels != made:
            raise ModelError(
                f"The denoiser of {id} takes {denoiser.in_channels} channels, and its autoencoder makes {made}: it needs more than the "
                "image (as for inpainting or editing), which this version can't audit. It can be wrapped with mia_hub.wrap_denoiser."
            )
        if latents not in get_args(Latents):
            raise ModelError(f"latents must be 'mode' (deterministic) or 'sample' (one draw per image); got {latents!r}.")
        factor, native = vae_factor(vae), cls.native_latents(denoiser)
        if size is None and not isinstance(native, int):
            raise ModelError(f"{id} doesn't state the side of its images (sample_size {native!r} of its denoiser); give it as size=….")
        multiple_of(native * factor if size is None else size, factor * cls.patch(denoiser), id)

    def __init__(
        self,
        *,
        scheduler,
        id: str,
        revision: str | None = None,
        device="cpu",
        dtype: torch.dtype = torch.float32,
        size: int | None = None,
        latents: Latents = "mode",
        **parts: torch.nn.Module,
    ):
        network, vae = parts[self.denoiser], parts[self.autoencoder]
        self.check({self.denoiser: network.config, self.autoencoder: vae.config}, scheduler, id, size=size, latents=latents)
        super().__init__(network, schedule_of(scheduler, id), device=device, dtype=dtype)
        self.vae, self.latents = vae.eval().requires_grad_(False), latents
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

    @property
    def movable(self) -> dict[str, Sequence[torch.nn.Module]]:
        return super().movable | {"autoencoder": [self.vae]}

    @staticmethod
    def latents_per_token(config) -> int:
        """How many latents the denoiser gets stacked as the channels of one."""
        return 1

    @staticmethod
    def patch(config) -> int:
        """The number of latents that the image's side must be a multiple of."""
        return config.get("patch_size") or 1

    @staticmethod
    def native_latents(config) -> int:
        """The side, in latents, of the images that the denoiser was trained on."""
        return config.sample_size


class LatentUNetModel(LatentModel, UNetModel):
    """A UNet2DModel on an autoencoder's latents, as in LDMPipeline; unconditional or conditioned on classes.

    Latents of a VQModel are those before quantisation, as in training. Arguments and errors are those of `LatentModel`.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("LDMPipeline",)
    components: ClassVar[dict[str, tuple[str, ...]]] = {"vqvae": ("VQModel", "AutoencoderKL"), "unet": ("UNet2DModel",), "scheduler": ()}
    autoencoder: ClassVar[str] = "vqvae"

    @staticmethod
    def patch(config) -> int:
        return 2 ** (len(config.block_out_channels) - 1)

    @classmethod
    def check(cls, configs, scheduler, id, **options):
        super().check(configs, scheduler, id, **options)
        classes_of(configs["unet"], id)

    def __init__(self, *, unet, id: str, **options):
        super().__init__(unet=unet, id=id, **options)
        if classes := classes_of(unet.config, id):
            self.info = replace(self.info, conditioning="class", num_classes=classes)


class DiT(LatentModel):
    """A DiT (Peebles & Xie 2023, arXiv 2212.09748): a class-conditional transformer on latents, with learned variance and a null class.

    Arguments and errors are those of `LatentModel`.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("DiTPipeline",)
    components: ClassVar[dict[str, tuple[str, ...]]] = {
        "transformer": ("DiTTransformer2DModel", "Transformer2DModel"),
        "vae": ("AutoencoderKL",),
        "scheduler": (),
    }
    denoiser: ClassVar[str] = "transformer"

    def __init__(self, *, transformer, **options):
        super().__init__(transformer=transformer, **options)
        # Trained with some labels dropped, it has one embedding more, for no class.
        self.null_class = transformer.config.num_embeds_ada_norm
        self.info = replace(self.info, conditioning="class", num_classes=self.null_class)

    def output(self, x, t, cond):
        return self.network(x, timestep=t, class_labels=cond).sample
