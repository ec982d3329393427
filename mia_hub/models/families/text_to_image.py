"""The base of all text-to-image models on latents. diffusers' own pipelines encode the captions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import torch

from mia_hub.errors import ModelError
from mia_hub.models.components import quiet
from mia_hub.models.conditions import texts
from mia_hub.models.families.latent import LatentModel
from mia_hub.models.precision import DENOISER, TEXT_ENCODER

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
        encoded: names of the values that `encode_prompt` returns, in order; None for those that are not used.
    """

    family: ClassVar[str] = "text-to-image"
    pipeline_class: ClassVar[str]
    encoded: ClassVar[tuple[str | None, ...]] = ("prompt_embeds", None)

    @classmethod
    def check(
        cls,
        configs: dict[str, Any],
        scheduler: Any,
        id: str,
        *,
        device: torch.device | str = "cpu",
        offload: str | None = None,
        **options: Any,
    ) -> None:
        super().check(configs, scheduler, id, **options)
        if offload not in (None, "model", "sequential"):
            raise ModelError(f"offload must be None, 'model' or 'sequential'; got {offload!r}.")
        if offload and torch.device(device).type == "cpu":
            raise ModelError("Offloading moves parts between an accelerator and the CPU, and this model is on the CPU; leave offload out.")

    def __init__(self, *, scheduler: Any, device: torch.device | str = "cpu", offload: str | None = None, **options: Any):
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
        text_encoders = [part for name, part in parts.items() if name.startswith("text_encoder")]
        for encoder in text_encoders:
            encoder.eval().requires_grad_(False)
        self.precisions.add(TEXT_ENCODER, text_encoders)
        if offload:
            self.device = torch.device(device)
            getattr(self.pipeline, f"enable_{offload}_cpu_offload")(device=device)

    def condition(self, captions: Sequence[Any] | None) -> dict[str, torch.Tensor]:
        """Text encodings ``{name: [N, …]}``, as the pipeline makes them; in float32 if half precision overflows, as T5 does in float16."""
        return self.precisions.finite(TEXT_ENCODER, partial(self._encodings, texts(captions, self.info.id)))

    def _encodings(self, captions: list[str]) -> dict[str, torch.Tensor]:
        accepted = inspect.signature(self.pipeline.encode_prompt).parameters
        options = {"prompt": captions, "prompt_2": None, "prompt_3": None, "device": self.device, "num_images_per_prompt": 1}
        options |= {"do_classifier_free_guidance": False, "clean_caption": False}
        if "complex_human_instruction" in accepted:
            options["complex_human_instruction"] = default_of(self.pipeline.__call__, "complex_human_instruction")
        with quiet(), torch.no_grad(), self.passes():
            encodings = self.pipeline.encode_prompt(**{key: value for key, value in options.items() if key in accepted})
        return {name: value for name, value in zip(self.encoded, encodings) if name is not None}

    def truncated(self, captions: Sequence[str]) -> int:
        longest = max(self._limits(), key=lambda pair: pair[1], default=None)
        if longest is None:
            return 0
        tokenizer, limit = longest
        with quiet():
            return sum(len(tokens) > limit for tokens in tokenizer(list(captions)).input_ids)

    def _limits(self) -> list[tuple[Any, int]]:
        """Tokenizers, each with the number of tokens that its encoder takes; of several, a longer one may see what another cuts off."""
        limits = []
        for name, part in self.pipeline.components.items():
            if name.startswith("tokenizer") and part is not None:
                clip = type(part).__name__.startswith("CLIP")
                limit = part.model_max_length if clip else default_of(self.pipeline.encode_prompt, "max_sequence_length")
                limits.append((part, limit))
        return limits

    def cast(self, cond: dict[str, torch.Tensor], *names: str) -> list[torch.Tensor]:
        """Encodings in the denoiser's precision."""
        return [cond[name].to(self.precisions.of(DENOISER)) for name in names]


def default_of(function: Callable[..., Any], name: str) -> Any:
    """The default of a parameter."""
    return inspect.signature(function).parameters[name].default
