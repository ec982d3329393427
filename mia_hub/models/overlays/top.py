"""What can be put on top of a base, seen from outside: what it fits, what it replaces, what it changes."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mia_hub.errors import ModelError, first_line
from mia_hub.models.components import broken_files, quiet
from mia_hub.models.layout import Component
from mia_hub.models.network import NetworkModel
from mia_hub.models.repository import Folder, HubRepository

# peft's own file of settings, as its fine-tuning examples save it beside the weights.
PEFT_CONFIG = "adapter_config.json"


@dataclass
class Base:
    """What something is put on.

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
    def pipeline(self) -> type | None:
        """The class of diffusers that knows LoRAs and single files of this family; None where there is none."""
        import diffusers

        return getattr(diffusers, getattr(self.adapter, "pipeline_class", ""), None)

    def empty_denoiser(self):
        """The denoiser without memory for its weights: it tells what fits before any weights are fetched."""
        import diffusers
        import torch

        denoiser = self.adapter.denoiser
        with quiet(), torch.device("meta"):
            return getattr(diffusers, self.components[denoiser].class_name).from_config(self.configs[denoiser])


@dataclass
class Top(ABC):
    """Something to be put on top of a base.

    Attributes:
        name: as it was given.
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
        """Refuses a base that it doesn't fit, as far as that can be told before the base's weights are fetched.

        Raises:
            ModelError: with the reason.
        """

    def configs(self, base: Base) -> dict[str, Any]:
        """The configurations of the diffusers models that it brings, where they aren't the base's."""
        return {}

    def replaces(self, base: Base) -> set[str]:
        """Parts of the base that need not be loaded."""
        return set()

    def load(self, base: Base, loaded: dict[str, Any], dtype) -> dict[str, Any]:
        """The parts that it brings; ``loaded`` are those of the base."""
        return {}

    def apply(self, base: Base, parts: dict[str, Any]) -> None:
        """Changes parts in place, once all are loaded."""
        return

    @property
    def file(self) -> Path:
        return self.repository.root / self.path

    @contextmanager
    def fitting(self, base: Base) -> Iterator[None]:
        """Within it, whatever another library says against putting it there becomes one clear message."""
        try:
            with quiet(), warnings.catch_warnings(action="ignore"):
                yield
        except Exception as error:  # of many kinds: peft's, diffusers', torch's
            why = first_line(error).partition(" If you want")[0][:300]
            raise self.misfit(base, "it lacks some weights" if "meta tensor" in why else why) from error

    @abstractmethod
    def misfit(self, base: Base, why: str) -> ModelError:
        """The error that it is for another base."""


def beside(path: str) -> str:
    """Path of peft's configuration in the folder of a file."""
    return f"{path.rpartition('/')[0]}/{PEFT_CONFIG}".lstrip("/")


def remember(repository: Folder, path: str) -> None:
    if isinstance(repository, HubRepository):
        repository.remember(path)


def shapes_in(path: Path, name: str) -> dict[str, list[int]]:
    """Names and shapes of the weights in a safetensors file; only its header is read."""
    from safetensors import safe_open

    with broken_files(name), safe_open(path, "pt") as file:
        return {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118


def size_of(tensors: Iterable[Any]) -> int:
    return sum(tensor.numel() for tensor in tensors)
