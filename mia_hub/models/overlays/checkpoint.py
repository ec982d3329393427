"""Weights in one file, as the models' authors and most fine-tuning tools write them."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from mia_hub.errors import ModelError
from mia_hub.models.components import broken_files, quiet
from mia_hub.models.overlays.overlay import Base, Overlay, shapes_in, size_of
from mia_hub.models.training_marks import TrainingMarks, read_marks

if TYPE_CHECKING:
    import torch

# Published configurations whose weights have the same shapes, by what they predict; diffusers takes the first for all of them. Other models
# that it recognises by their shapes alone differ in their samplers, or not at all. (Files of SDXL that predict v state that.)
ALIKE = {
    "stabilityai/stable-diffusion-2-1": {
        "v_prediction": "stabilityai/stable-diffusion-2-1",
        "epsilon": "stabilityai/stable-diffusion-2-1-base",
    }
}


class Checkpoint(Overlay):
    """Weights in one safetensors file, as the models' authors and most fine-tuning tools write them: of all parts, or of some."""

    # Prefixes of the weights of each part in such files. T5 has one prefix, whichever of the text encoders it is.
    PREFIXES: ClassVar[dict[str, tuple[str, ...]]] = {
        "vae": ("first_stage_model.", "vae.", "encoder.", "decoder.", "quant_conv.", "post_quant_conv."),
        "text_encoder": ("cond_stage_model.", "conditioner.embedders.0.", "text_encoders.clip_l."),
        "text_encoder_2": ("conditioner.embedders.1.", "text_encoders.clip_g."),
        "t5": ("text_encoders.t5xxl.",),
    }
    WHOLE, DENOISER_ALONE = "model.diffusion_model.", ("double_blocks.", "single_blocks.", "joint_blocks.")

    def check(self, base: Base) -> None:
        if not hasattr(base.pipeline, "from_single_file"):
            raise ModelError(
                f"{self.name} is a single-file checkpoint, and diffusers reads none for {base.name}, a model of the kind "
                f"{base.adapter.__name__}. Give the model in diffusers' layout."
            )
        if not self._denoiser:
            return
        own = sum(math.prod(self._shapes[key]) for key in self._denoiser)
        other = size_of(base.empty_denoiser().state_dict().values())
        if own != other:
            raise self.misfit(base, f"its denoiser has {own:,} weights, and that of {base.name} has {other:,}")

    def marks(self, base: Base) -> TrainingMarks | None:
        return self._marks if self._denoiser else None

    def replaces(self, base: Base) -> set[str]:
        replaced = {base.adapter.denoiser} if self._denoiser else set()
        for name, component in base.components.items():
            prefixes = self.PREFIXES.get("t5" if "T5EncoderModel" in component.class_name else name)
            if prefixes and any(key.startswith(prefixes) for key in self._shapes):
                replaced.add(name)
        return replaced

    def load(self, base: Base, parts: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
        import inspect

        own = self.replaces(base)
        others = {name: parts.get(name) for name in ("safety_checker", "feature_extractor", "image_encoder", *base.components)}
        accepted = inspect.signature(base.pipeline.__init__).parameters
        with self.fitting(base):
            pipeline = base.pipeline.from_single_file(
                str(self.file),
                config=str(base.repository.root),
                torch_dtype=dtype,
                local_files_only=True,
                **{name: part for name, part in others.items() if name in accepted and name not in own},
            )
        loaded = {name: getattr(pipeline, name) for name in own}
        for name, part in loaded.items():
            if missing := [key for key, value in part.named_parameters() if value.is_meta]:
                raise self.misfit(base, f"it lacks weights of the {name}, such as {missing[0]}")
        return loaded

    @property
    def made_from(self) -> str:
        """The Hub id of the model that it was made from, which diffusers recognises by the weights.

        Raises:
            ModelError: if it is a part alone, or if its shapes are those of several models, and it doesn't state which.
        """
        import torch
        from diffusers.loaders.single_file_utils import fetch_diffusers_config

        if not self._denoiser:
            raise ModelError(f"{self.name} holds no denoiser; name its base as well, as 'base + {self.name}'.")
        with broken_files(self.name), quiet():
            weights = {key: torch.empty(shape, device="meta") for key, shape in self._shapes.items()}
            base: str = fetch_diffusers_config(weights)["pretrained_model_name_or_path"]
        if base not in ALIKE:
            return base
        stated = [alike for prediction, alike in ALIKE[base].items() if self._marks.prediction_types == (prediction,)]
        if not stated:
            choices = ", or ".join(f"{alike} (predicts {prediction})" for prediction, alike in ALIKE[base].items())
            raise ModelError(
                f"{self.name} may be made from {choices}: their weights have the same shapes, and it doesn't state what it predicts. Name "
                f"its base as well, as '{base} + {self.name}'."
            )
        return stated[0]

    @cached_property
    def _shapes(self) -> dict[str, list[int]]:
        return shapes_in(self.file, self.name)

    @cached_property
    def _marks(self) -> TrainingMarks:
        return read_marks(self.file, self.name)

    @cached_property
    def _denoiser(self) -> list[str]:
        """The names of the denoiser's weights."""
        if whole := [key for key in self._shapes if key.startswith(self.WHOLE)]:
            return whole
        alone = any(key.startswith(self.DENOISER_ALONE) for key in self._shapes)
        others = tuple(prefix for prefixes in self.PREFIXES.values() for prefix in prefixes)
        return [key for key in self._shapes if alone and not key.startswith(others)]

    def misfit(self, base: Base, why: str) -> ModelError:
        return ModelError(
            f"{self.name} can't be loaded with {base.name} as its base: it was made from another model, or is incomplete ({why}). Name the "
            f"base that it was made from, as 'base + {self.name}'."
        )
