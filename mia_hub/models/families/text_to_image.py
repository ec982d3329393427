"""Text-to-image diffusion on latents: Stable Diffusion 1 and 2, SDXL, PixArt. Captions are encoded by diffusers' own pipelines."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch

from mia_hub.errors import ModelError
from mia_hub.models.components import quiet
from mia_hub.models.conditions import texts
from mia_hub.models.families.latent import LatentModel

CLIP = {"tokenizer": ("CLIPTokenizer",), "text_encoder": ("CLIPTextModel",)}
T5 = {"tokenizer": ("T5Tokenizer",), "text_encoder": ("T5EncoderModel",)}


class TextToImage(LatentModel):
    """A denoiser of latents conditioned on text. No classifier-free guidance: one query is one conditional prediction.

    Args:
        parts: those of `LatentModel`, with tokenizers and text encoders.
        offload: None, or "model" or "sequential": diffusers' own offloading, by which text encoders leave the accelerator's memory before
            the denoiser runs ("model"), or every layer does after it ran ("sequential"; slow, for the largest models).

    Other arguments and errors are those of `LatentModel`.

    Class attributes:
        pipeline_class: the diffusers pipeline whose `encode_prompt` is used.
        encoded: names of what `encode_prompt` returns, in order; None for what is not used.
    """

    family: ClassVar[str] = "text-to-image"
    pipeline_class: ClassVar[str]
    encoded: ClassVar[tuple[str | None, ...]] = ("prompt_embeds", None)

    @classmethod
    def check(cls, configs: dict[str, Any], scheduler, id: str, *, device="cpu", offload: str | None = None, **options: Any) -> None:
        super().check(configs, scheduler, id, **options)
        if offload not in (None, "model", "sequential"):
            raise ModelError(f"offload must be None, 'model' or 'sequential'; got {offload!r}.")
        if offload and torch.device(device).type == "cpu":
            raise ModelError("Offloading moves parts between an accelerator and the CPU, and this model is on the CPU; leave offload out.")

    def __init__(self, *, scheduler, device="cpu", offload: str | None = None, **options):
        import diffusers

        parts = {name: options[name] for name in self.components if name in options}
        stated = {name: options.pop(name) for name in self.stated if name in options}
        super().__init__(scheduler=scheduler, device="cpu" if offload else device, **options)
        self.info = replace(self.info, conditioning="text")
        cls = getattr(diffusers, self.pipeline_class)
        unused = {name: None for name in inspect.signature(cls.__init__).parameters if name in ("safety_checker", "feature_extractor")}
        unused |= {name: None for name in self.optional if name not in parts}
        with quiet():
            self.pipeline = cls(scheduler=scheduler, **parts, **unused, **stated)
        for name, part in parts.items():
            if name.startswith("text_encoder"):
                part.eval().requires_grad_(False)
        if offload:
            self.device = torch.device(device)
            getattr(self.pipeline, f"enable_{offload}_cpu_offload")(device=device)

    def condition(self, captions: Sequence[str] | None) -> dict[str, torch.Tensor]:
        """Text encodings ``{name: [N, …]}``, as the pipeline makes them."""
        captions = texts(captions, self.info.id)
        found = self._encodings(captions)
        if not all(value.isfinite().all() for value in found.values()) and self._text_encoders_in_half():
            # T5 is known to overflow in float16.
            self.widen("text encoder", torch.float32)
            found = self._encodings(captions)
        return found

    def _encodings(self, captions: list[str]) -> dict[str, torch.Tensor]:
        accepted = inspect.signature(self.pipeline.encode_prompt).parameters
        options = {"prompt": captions, "prompt_2": None, "prompt_3": None, "device": self.device, "num_images_per_prompt": 1}
        options |= {"do_classifier_free_guidance": False, "clean_caption": False}
        if "complex_human_instruction" in accepted:
            options["complex_human_instruction"] = default_of(self.pipeline.__call__, "complex_human_instruction")
        with quiet(), torch.no_grad():
            found = self.pipeline.encode_prompt(**{key: value for key, value in options.items() if key in accepted})
        return {name: value for name, value in zip(self.encoded, found) if name is not None}

    @property
    def movable(self) -> dict[str, Sequence[torch.nn.Module]]:
        return super().movable | {"text encoder": self._text_encoders()}

    def _text_encoders(self) -> list[torch.nn.Module]:
        return [part for name, part in self.pipeline.components.items() if name.startswith("text_encoder") and part is not None]

    def _text_encoders_in_half(self) -> bool:
        return any(encoder.dtype in (torch.float16, torch.bfloat16) for encoder in self._text_encoders())

    def truncated(self, captions: Sequence[str]) -> int:
        longest = max(self._limits(), key=lambda pair: pair[1], default=None)
        if longest is None:
            return 0
        tokenizer, limit = longest
        with quiet():
            return sum(len(tokens) > limit for tokens in tokenizer(list(captions)).input_ids)

    def _limits(self) -> list[tuple[Any, int]]:
        """Tokenizers and how many tokens of a caption their encoders take; with several, what one cuts off another may still see."""
        found = []
        for name, part in self.pipeline.components.items():
            if name.startswith("tokenizer") and part is not None:
                clip = type(part).__name__.startswith("CLIP")
                limit = part.model_max_length if clip else default_of(self.pipeline.encode_prompt, "max_sequence_length")
                found.append((part, limit))
        return found

    def _cast(self, cond: dict[str, torch.Tensor], *names: str) -> list[torch.Tensor]:
        """Encodings in the denoiser's precision."""
        return [cond[name].to(self._network_dtype) for name in names]


def default_of(function, name: str) -> Any:
    """What a parameter is where it isn't given."""
    return inspect.signature(function).parameters[name].default


class StableDiffusion(TextToImage):
    """Stable Diffusion 1 and 2, and what was fine-tuned from them: ε or v, one CLIP text encoder."""

    pipelines: ClassVar[tuple[str, ...]] = ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline")
    components: ClassVar[dict[str, tuple[str, ...]]] = {
        "vae": ("AutoencoderKL",),
        "unet": ("UNet2DConditionModel",),
        "scheduler": (),
    } | CLIP
    pipeline_class: ClassVar[str] = "StableDiffusionPipeline"

    @classmethod
    def check(cls, configs: dict[str, Any], scheduler, id: str, **options: Any) -> None:
        super().check(configs, scheduler, id, **options)
        if configs["unet"].get("time_cond_proj_dim"):
            raise ModelError(
                f"{id} is a distilled model that is told its guidance (a latent consistency model), which this version can't audit. Audit "
                "the model that it was distilled from, or wrap it with mia_hub.wrap_denoiser."
            )

    def output(self, x, t, cond):
        (text,) = self._cast(cond, "prompt_embeds")
        return self.network(x, t, encoder_hidden_states=text).sample


class StableDiffusionXL(StableDiffusion):
    """SDXL: two CLIP text encoders, and the image's size as a condition: told as the size that it is scored at, uncropped."""

    pipelines: ClassVar[tuple[str, ...]] = ("StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline")
    components: ClassVar[dict[str, tuple[str, ...]]] = StableDiffusion.components | {
        "tokenizer_2": ("CLIPTokenizer",),
        "text_encoder_2": ("CLIPTextModelWithProjection",),
    }
    pipeline_class: ClassVar[str] = "StableDiffusionXLPipeline"
    encoded: ClassVar[tuple[str | None, ...]] = ("prompt_embeds", None, "pooled", None)
    stated: ClassVar[tuple[str, ...]] = ("force_zeros_for_empty_prompt",)

    def condition(self, captions):
        found = super().condition(captions)
        if self.pipeline.config.get("force_zeros_for_empty_prompt"):
            # What it was trained to take for no text at all.
            given = torch.tensor([bool(caption) for caption in captions], device=self.device)
            found = {name: value * given.reshape(-1, *[1] * (value.ndim - 1)) for name, value in found.items()}
        return found

    def output(self, x, t, cond):
        text, pooled = self._cast(cond, "prompt_embeds", "pooled")
        height, width = self.info.picture_shape[1:]
        sizes = torch.tensor([[height, width, 0, 0, height, width]], device=x.device, dtype=text.dtype).expand(len(x), -1)
        return self.network(x, t, encoder_hidden_states=text, added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes}).sample


class PixArt(TextToImage):
    """PixArt-α: a transformer with a T5 text encoder and learned variance; at 1024 pixels it is told size and shape."""

    pipelines: ClassVar[tuple[str, ...]] = ("PixArtAlphaPipeline",)
    components: ClassVar[dict[str, tuple[str, ...]]] = {
        "vae": ("AutoencoderKL",),
        "transformer": ("PixArtTransformer2DModel", "Transformer2DModel"),
        "scheduler": (),
    } | T5
    denoiser: ClassVar[str] = "transformer"
    pipeline_class: ClassVar[str] = "PixArtAlphaPipeline"
    encoded: ClassVar[tuple[str | None, ...]] = ("prompt_embeds", "mask", None, None)

    def output(self, x, t, cond):
        (text,) = self._cast(cond, "prompt_embeds")
        height, width = self.info.picture_shape[1:]
        told = {"resolution": None, "aspect_ratio": None}
        if getattr(self.network, "use_additional_conditions", False):
            told["resolution"] = torch.tensor([[height, width]], device=x.device, dtype=x.dtype).expand(len(x), -1)
            told["aspect_ratio"] = torch.tensor([[height / width]], device=x.device, dtype=x.dtype).expand(len(x), -1)
        return self.network(x, encoder_hidden_states=text, encoder_attention_mask=cond["mask"], timestep=t, added_cond_kwargs=told).sample


class PixArtSigma(PixArt):
    """PixArt-Σ: as PixArt-α, with longer captions."""

    pipelines: ClassVar[tuple[str, ...]] = ("PixArtSigmaPipeline",)
    pipeline_class: ClassVar[str] = "PixArtSigmaPipeline"
