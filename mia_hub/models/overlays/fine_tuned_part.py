"""One fine-tuned part in place of the base's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mia_hub.errors import ModelError
from mia_hub.models.components import load_component, read_configs
from mia_hub.models.layout import INDEX, Component, check_shards, find_component
from mia_hub.models.overlays.overlay import Base, Overlay
from mia_hub.models.repository import Folder
from mia_hub.models.training_marks import TrainingMarks, apply_marks, read_marks, scheduler_marks

if TYPE_CHECKING:
    import torch

SCHEDULER = "scheduler/scheduler_config.json"
# The fields of a part's configuration that concern the other parts. A fine-tuned part has the same values as the base's.
INTERFACE = (
    "in_channels", "latent_channels", "scaling_factor", "shift_factor", "cross_attention_dim", "joint_attention_dim", "caption_channels",
    "pooled_projection_dim", "projection_class_embeddings_input_dim", "addition_embed_type", "class_embed_type", "encoder_hid_dim",
    "hidden_size", "d_model", "projection_dim", "vocab_size",
)  # fmt: skip


class FineTunedPart(Overlay):
    """One part, fully fine-tuned, that takes the place of the base's, such as a DreamBooth UNet or a better autoencoder."""

    def check(self, base: Base) -> None:
        component = self._component(base)
        check_shards(component, self.repository)
        if component.library == "diffusers":
            own, other = self.configs(base)[component.name], base.configs[component.name]
        else:
            own, other = self.repository.read_json(component.config), base.repository.read_json(base.components[component.name].config)
        for field in INTERFACE:
            if field in own and field in other and own[field] != other[field]:
                raise self.misfit(base, f"its {field} is {own[field]}, and the base's is {other[field]}")

    def misfit(self, base: Base, why: str) -> ModelError:
        return ModelError(
            f"{self.name} is no {self._component(base).name} for {base.name}: {why}. Name the base that it was fine-tuned from."
        )

    def configs(self, base: Base) -> dict[str, Any]:
        component = self._component(base)
        return read_configs(self.repository, {component.name: component})[0]

    def marks(self, base: Base) -> TrainingMarks | None:
        """The configuration of the scheduler of the part's own model, if it is beside the part."""
        if self._component(base).name != base.adapter.denoiser:
            return None
        folder = self.path.rpartition("/")[0]
        if self.path:
            path = f"{folder}/{SCHEDULER}".lstrip("/")
            config = self.repository.read_json(path) if path in self.repository.sizes else None
        else:
            beside = Folder(self.repository.root.resolve().parent / "scheduler", self.name) if self._has_model_beside else None
            config = beside.read_json(SCHEDULER.rpartition("/")[2]) if beside else None
        return scheduler_marks(config, self.name) if config else None

    @property
    def _has_model_beside(self) -> bool:
        """Whether it is the folder of a part in a local model, and not all of a repository on the Hub."""
        if self.repository.revision is not None:
            return False
        parent = self.repository.root.resolve().parent
        return all((parent / file).is_file() for file in (INDEX, SCHEDULER))

    def replaces(self, base: Base) -> set[str]:
        return {self._component(base).name}

    def components(self, base: Base) -> dict[str, Component]:
        component = self._component(base)
        return {component.name: component}

    def load(self, base: Base, parts: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
        component = self._component(base)
        folder = self.repository.fetch(component.patterns)
        self.repository.remember(component.config)
        if component.name == base.adapter.denoiser:
            for file in self.repository.matching(component.weights):
                if file.endswith(".safetensors"):
                    parts["scheduler"] = apply_marks(parts["scheduler"], read_marks(folder / file, self.name), base.name)
        return {component.name: load_component(folder, component, self.name, dtype)}

    def _component(self, base: Base) -> Component:
        """The part of the base that it replaces, by its class; if several parts have that class, by the name of its folder."""
        config = self.repository.read_json(f"{self.path}/config.json".lstrip("/"))
        class_name = config.get("_class_name") or next(iter(config.get("architectures") or []), None)
        parts = {name: part for name, part in base.components.items() if part.weights}
        fitting = [part for part in parts.values() if class_name in (base.adapter.components[part.name] or (part.class_name,))]
        if not isinstance(class_name, str) or not fitting:
            classes = ", ".join(f"{part.class_name} ({name})" for name, part in sorted(parts.items()))
            own = f"a {class_name}" if class_name else "no part"
            raise ModelError(f"{self.name} holds {own} that {base.name} has; that has a {classes}.")
        folder = Path(self.path or self.name).resolve().name
        named = [part for part in fitting if part.name == folder] or fitting
        if len(named) > 1:
            names = " or ".join(part.name for part in named)
            raise ModelError(f"{self.name} could be the {names} of {base.name}. Put it in a folder of that name.")
        return find_component(named[0].name, named[0].library, class_name, self.repository, folder=self.path)
