"""The base of all overlays: what one fits, replaces and changes."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mia_hub.errors import ModelError, first_line
from mia_hub.models.components import broken_files, quiet
from mia_hub.models.families.base import NetworkModel
from mia_hub.models.layout import Component
from mia_hub.models.repository import Folder
from mia_hub.models.training_marks import TrainingMarks

if TYPE_CHECKING:
    import torch

# peft's own file of settings, as its fine-tuning examples save it beside the weights.
PEFT_CONFIG = "adapter_config.json"


@dataclass
class Base:
    """The model under the overlays, before its weights are loaded.

    Attributes:
        repository: its files.
        adapter: its family.
        components: the parts that it needs.
        configs: the configurations of those that are diffusers models.
        scheduler: its scheduler.
    """

    repository: Folder
    adapter: type[NetworkModel]
    components: dict[str, Component]
    configs: dict[str, Any]
    scheduler: Any

    @property
    def name(self) -> str:
        return self.repository.name

    @property
    def pipeline(self) -> Any:
        """The diffusers pipeline that can load LoRAs and single files of this family; None if there is none."""
        import diffusers

        return getattr(diffusers, getattr(self.adapter, "pipeline_class", ""), None)

    def empty_denoiser(self) -> Any:
        """The denoiser without memory for its weights, which shows whether an overlay fits before any weights are fetched."""
        import diffusers
        import torch

        denoiser = self.adapter.denoiser
        with quiet(), torch.device("meta"):
            return getattr(diffusers, self.components[denoiser].class_name).from_config(self.configs[denoiser])


@dataclass
class Overlay(ABC):
    """Something that goes on top of a base.

    Attributes:
        name: as the user gave it, with its repository's id as the Hub spells it.
        repository: where it lies.
        path: its file in there, or its folder ("" for the root).
        revision: commit, or hash of the weights.
    """

    name: str
    repository: Folder
    path: str
    revision: str

    @abstractmethod
    def check(self, base: Base) -> None:
        """Refuse a base that the overlay doesn't fit, as far as that shows before the base's weights are fetched.

        Raises:
            ModelError: with the reason.
        """

    def configs(self, base: Base) -> dict[str, Any]:
        """The configurations of the diffusers models that it brings, where they aren't the base's."""
        return {}

    def marks(self, base: Base) -> TrainingMarks | None:
        """The statements of its file about how the denoiser was trained, where they show before the base's weights are fetched.

        Raises:
            ModelError: if one is unknown, or two contradict each other.
        """
        return None

    def replaces(self, base: Base) -> set[str]:
        """Parts of the base that need not be loaded."""
        return set()

    def components(self, base: Base) -> dict[str, Component]:
        """The parts that it brings in diffusers' layout."""
        return {}

    def load(self, base: Base, parts: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
        """The parts that it brings; ``parts`` are those of the base."""
        return {}

    def apply(self, base: Base, parts: dict[str, Any]) -> None:
        """Change parts in place, once all are loaded."""
        return

    @property
    def file(self) -> Path:
        return self.repository.root / self.path

    @contextmanager
    def fitting(self, base: Base) -> Iterator[None]:
        """Context in which an error of another library about the overlay and its base becomes one clear message."""
        try:
            with quiet(), warnings.catch_warnings(action="ignore"):
                yield
        except Exception as error:  # of many kinds: peft's, diffusers', torch's
            why = first_line(error).partition(" If you want")[0][:300]
            raise self.misfit(base, "it lacks some weights" if "meta tensor" in why else why) from error

    @abstractmethod
    def misfit(self, base: Base, why: str) -> ModelError:
        """The error that the overlay is for another base."""


def beside(path: str) -> str:
    """Path of peft's configuration in the folder of a file."""
    return f"{path.rpartition('/')[0]}/{PEFT_CONFIG}".lstrip("/")


def shapes_in(path: Path, name: str) -> dict[str, list[int]]:
    """Names and shapes of the weights in a safetensors file; only its header is read."""
    from safetensors import safe_open

    with broken_files(name), safe_open(path, "pt") as file:
        return {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118


def size_of(tensors: Iterable[Any]) -> int:
    """Number of values in some tensors."""
    return sum(tensor.numel() for tensor in tensors)
