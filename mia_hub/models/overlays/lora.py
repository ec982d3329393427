"""Low-rank updates on top of a model: read whichever tool wrote them, and put on in full or refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mia_hub.errors import ModelError, first_line
from mia_hub.models.components import broken_files
from mia_hub.models.overlays.lora_names import DOWN, PEFT_PREFIX, part_and_module, plain_names
from mia_hub.models.overlays.lora_scale import LoRASettings, alpha_key, is_alpha
from mia_hub.models.overlays.overlay import PEFT_CONFIG, Base, Overlay, beside, size_of
from mia_hub.models.training_marks import TrainingMarks, read_marks

MERGE = "Merge it into the model with the tool that it was made with, and give the result."
A = ".lora_A.weight"


class LoRA(Overlay):
    """Low-rank updates (Hu et al. 2022, arXiv 2106.09685) of the denoiser and, perhaps, of text encoders.

    They are not fused into the weights: in half precision small ones would be lost to rounding.
    """

    # By part and name, as peft names them; set by `check`.
    _updates: dict[str, dict[str, Any]]

    def check(self, base: Base) -> None:
        if not hasattr(base.pipeline, "load_lora_weights"):
            raise ModelError(
                f"{self.name} is a LoRA, and diffusers puts none on {base.name}, a model of the kind {base.adapter.__name__}. Audit that "
                "model alone, or a copy that the LoRA was merged into."
            )
        from diffusers.utils.state_dict_utils import StateDictType, convert_state_dict_to_peft, convert_unet_state_dict_to_peft

        weights, denoiser = self._read(base), base.adapter.denoiser
        with self.fitting(base):
            options = {"unet_config": base.configs[denoiser]} if denoiser == "unet" else {}
            converted = base.pipeline.lora_state_dict(dict(weights), **options)
        converted = converted[0] if isinstance(converted, tuple) else converted
        self._updates = {}
        for key, value in converted.items():
            # Names without a part are the denoiser's.
            part, _, name = key.partition(".") if key.partition(".")[0] in base.components else (denoiser, "", key)
            self._updates.setdefault(part, {})[name] = value
        for part, own in self._updates.items():
            # To peft's names; each function leaves names that it doesn't know unchanged.
            own = own if part == denoiser else convert_state_dict_to_peft(own, StateDictType.DIFFUSERS_OLD)
            self._updates[part] = convert_unet_state_dict_to_peft(own)
        if not math.isclose(sum(map(_energy, self._updates.values())), _energy(weights), rel_tol=1e-9):
            raise ModelError(f"{self.name} would be put on {base.name} in part only: diffusers drops some of its updates. {MERGE}")
        if denoiser in self._updates:
            self._put(base.empty_denoiser(), denoiser, base)

    def marks(self, base: Base) -> TrainingMarks:
        return read_marks(self.file, self.name)

    def apply(self, base: Base, parts: dict[str, Any]) -> None:
        for name in self._updates:
            self._put(parts[name], name, base)

    def _put(self, module: Any, part: str, base: Base) -> None:
        """Put the updates of one part on it.

        Raises:
            ModelError: if it has no layer of the same shape for one of them.
        """
        from peft import LoraConfig, inject_adapter_in_model
        from peft.utils import set_peft_model_state_dict

        own, name, before = self._updates[part], f"lora{len(getattr(module, 'peft_config', {}))}", size_of(module.parameters())
        if not hasattr(module, "text_model"):
            # transformers 5 has dropped this level of names.
            own = {key.removeprefix("text_model."): value for key, value in own.items()}
        ranks = {f"^{key.removesuffix(A)}": len(value) for key, value in own.items() if key.endswith(A)}
        config = LoraConfig(
            target_modules=[layer.removeprefix("^") for layer in ranks],
            rank_pattern=ranks,
            alpha_pattern=ranks,
            use_dora=any(key.endswith("lora_magnitude_vector") for key in own),
            lora_bias=any(key.endswith("lora_B.bias") for key in own),
        )
        with self.fitting(base):
            inject_adapter_in_model(config, module, name, low_cpu_mem_usage=True, state_dict=own)
            set_peft_model_state_dict(module, own, name, low_cpu_mem_usage=True)
        added, total = size_of(module.parameters()) - before, size_of(own.values())
        if added != total:
            raise self.misfit(base, f"of its {total:,} numbers for the {part} {added:,} fit")
        for layer in module.modules():
            if adapters := list(getattr(layer, "lora_A", ())):
                layer.set_adapter(adapters)  # peft had left only the newest active

    def _read(self, base: Base) -> dict[str, Any]:
        """The weights, with the scale of each update multiplied in.

        The scale (alpha / rank) stands in the file, one per update or one for all, and diffusers reads some mixtures wrong. The file's own
        settings are kept from diffusers: peft would import modules that they name.

        Raises:
            ModelError: if it holds anything else than low-rank updates.
        """
        weights, settings = self._content(base)
        scaled: dict[str, Any] = {}
        for key in weights:
            if match := DOWN.search(key):
                scaled |= self._scaled_update(key, key[: match.start()], weights, settings)
        others = [key for key, value in weights.items() if key not in scaled and not is_alpha(key) and value.float().any()]
        if any(key.startswith("bundle_emb.") for key in others):
            raise ModelError(f"{self.name} brings new words for the text encoder (bundle_emb, by OneTrainer), which aren't loaded. {MERGE}")
        if others or not scaled:
            raise ModelError(
                f"{self.name} holds something other than low-rank updates (such as {min(others, default='nothing')}), which diffusers "
                f"doesn't put on {base.name}. {MERGE}"
            )
        strength = _energy(scaled)
        if not math.isfinite(strength) or strength == 0:
            raise ModelError(f"{self.name} {'is broken: it has NaN or infinity' if strength else 'changes nothing: its updates are zero'}.")
        return scaled

    def _content(self, base: Base) -> tuple[dict[str, Any], LoRASettings]:
        """The weights as they are stored, under names that diffusers reads, and the settings.

        Raises:
            ModelError: if it is broken, or its alpha is missing or belongs to nothing.
        """
        from safetensors import safe_open

        with broken_files(self.name), safe_open(self.file, "pt") as file:
            stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
        path = beside(self.path)
        by_peft = any(PEFT_PREFIX in key for key in stored)
        config = self.repository.read_json(path) if by_peft and path in self.repository.sizes else {}
        try:
            weights = plain_names(stored, base, self.file.resolve().parent.name, self.name)
        except ValueError as error:
            raise self.misfit(base, str(error)) from error
        stems = {key[: match.start()] for key in weights if (match := DOWN.search(key))}
        own = {alpha_key(stem, weights) for stem in stems}
        # One alpha for all updates, as a number of its own.
        common = {key: weights[key] for key in weights if is_alpha(key) and key not in own and "." not in key and weights[key].numel() == 1}
        lost = [key for key in weights if is_alpha(key) and key not in own and key not in common and weights[key].float().any()]
        if lost:
            raise self._uncertain(f"it stores an alpha as {lost[0]}, which belongs to none of its updates")
        own_part = next((part_and_module(stem, base)[0] for stem in stems), base.adapter.denoiser)
        with self._certain():
            settings = LoRASettings(metadata, config, {key: float(value) for key, value in common.items()}, base, own_part)
        if by_peft and not config and not settings.has_alpha and None in own:
            raise self._uncertain(f"it is an adapter of peft, whose scale stands in {PEFT_CONFIG}, which isn't beside it")
        return {key: value for key, value in weights.items() if key not in common}, settings

    def _uncertain(self, why: str) -> ModelError:
        return ModelError(
            f"{self.name} could not be loaded: {why}. Download all of its files again, or merge it into the model with the tool that it "
            "was made with, and give the result."
        )

    @contextmanager
    def _certain(self) -> Iterator[None]:
        """Context in which settings that can't be applied become one clear message."""
        try:
            yield
        except (TypeError, ValueError, RuntimeError) as error:
            raise self._uncertain(first_line(error)) from error

    def _scaled_update(self, key: str, stem: str, weights: dict[str, Any], settings: LoRASettings) -> dict[str, Any]:
        """The matrices of one update, with its scale multiplied in, and its biases and magnitudes if it has any."""
        import torch

        up, down = _up(key), weights[key]
        if up not in weights:
            raise ModelError(f"{self.name} is broken: it has {key}, and no {up}. Download it again, or ask its owner to repair it.")
        with self._certain():
            alpha = alpha_key(stem, weights)
            scale = settings.scale(stem, tuple(down.shape)) if alpha is None else float(weights[alpha]) / len(down)
        # Half of it to each side, so that neither becomes too small for half precision.
        wide = torch.promote_types(down.dtype, torch.float32) if down.dtype.itemsize > 1 else torch.float32
        root = abs(scale) ** 0.5
        update = {key: down.to(wide) * root, up: weights[up].to(wide) * math.copysign(root, scale)}
        for other, factor in ((f"{up.removesuffix('weight')}bias", scale), (f"{stem}.lora_magnitude_vector", 1)):
            if other in weights:
                update[other] = weights[other].to(wide) * factor
        return update

    def misfit(self, base: Base, why: str) -> ModelError:
        return ModelError(
            f"{self.name} can't be put on {base.name}: it is a LoRA for another base, or broken ({why}). Its page says which model it was "
            "trained on; name that one before the plus."
        )


def _up(down: str) -> str:
    """The name of the second matrix of an update, from that of the first."""
    return DOWN.sub(lambda match: match[0].replace("lora_A", "lora_B").replace("down", "up"), down, count=1)


def _energy(weights: dict[str, Any]) -> float:
    """Σ ‖B·A‖² over the updates among some weights, which splitting, joining and renaming updates leaves unchanged."""
    total = 0.0
    for key, value in weights.items():
        if DOWN.search(key):
            down, up = value.double().flatten(1), weights[_up(key)].double().flatten(1)
            total += float(((down @ down.T) * (up.T @ up)).sum())
    return total
