"""From the files of a part to the part: diffusers' and transformers' own classes, safetensors only, no weight missing."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from logging import ERROR
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mia_hub.errors import ModelError, first_line
from mia_hub.models.layout import AUDITED, Component
from mia_hub.models.repository import ASK_OWNER, Folder

if TYPE_CHECKING:
    import torch


def read_configs(repository: Folder, components: dict[str, Component]) -> tuple[dict[str, Any], Any]:
    """The configurations of the diffusers models among the parts, with defaults filled in, and the scheduler; needs no weights.

    Raises:
        ModelError: if one is broken, or of a class that the installed diffusers lacks.
    """
    configs, scheduler = {}, None
    for component in components.values():
        if component.weights:
            refuse_kernels(repository.read_json(component.config), component, repository.name)
        if component.is_scheduler:
            scheduler = load_scheduler(repository, component)
        elif component.library == "diffusers":
            with broken_files(repository.name):
                configs[component.name] = _with_defaults(component.class_name, json.dumps(repository.read_json(component.config)))
    return configs, scheduler


@lru_cache(maxsize=32)
def _with_defaults(class_name: str, config: str) -> Any:
    """The configuration, given as JSON, of a network of diffusers with defaults filled in. Models and their parts are often read again."""
    import diffusers
    import torch

    with quiet(), torch.device("meta"):
        # A network without memory: its constructor fills in defaults and refuses a wrong configuration.
        return getattr(diffusers, class_name).from_config(json.loads(config)).config


def load_scheduler(repository: Folder, component: Component) -> Any:
    """The scheduler of a model.

    Raises:
        ModelError: if it is broken, or unknown.
    """
    import diffusers

    # Deprecated schedulers are one level down.
    cls = _class_in(diffusers, component.class_name) or _class_in(diffusers.schedulers, component.class_name)
    if cls is None or not issubclass(cls, diffusers.SchedulerMixin):
        raise ModelError(
            f"{repository.name} uses the scheduler {component.class_name}, which the installed diffusers {diffusers.__version__} lacks; "
            "a newer one may have it ('pip install --upgrade diffusers')."
        )
    config = repository.read_json(component.config)
    with broken_files(repository.name), quiet():
        return cls.from_config(config)


def load_component(folder: Path, component: Component, name: str, dtype: torch.dtype) -> Any:
    """A part of a model, loaded from its files.

    Args:
        folder: of the model.
        component: the part.
        name: of the model, for messages.
        dtype: precision of its weights.

    Raises:
        ModelError: if it can't be loaded, or weights are missing.
    """
    cls = _class_in(import_module(component.library), component.class_name)
    if cls is None:
        raise ModelError(f"{name} has a {component.class_name}, which the installed {component.library} lacks; {AUDITED}")
    path = folder / component.folder
    with broken_files(name), quiet():
        if not component.weights:
            return cls.from_pretrained(path, local_files_only=True)
        options = {"use_safetensors": True, "variant": component.variant, "output_loading_info": True, "local_files_only": True}
        part, loading = cls.from_pretrained(path, **options, **{"torch_dtype" if component.library == "diffusers" else "dtype": dtype})
    if loading["missing_keys"]:
        raise ModelError(
            f"{name} is incomplete: {len(loading['missing_keys'])} weights are missing (such as {min(loading['missing_keys'])}), "
            f"and would have been random. {ASK_OWNER}"
        )
    return part


def _class_in(module: Any, name: str) -> Any:
    """The class of a name in a module; None if there is none."""
    value = getattr(module, name, None)
    return value if isinstance(value, type) else None


def refuse_kernels(config: dict[str, Any], component: Component, name: str) -> None:
    """Refuse a configuration that would bring in code: attention kernels are fetched from the Hub by name, quantisers imported.

    Raises:
        ModelError: if it does.
    """
    attention = config.get("attn_implementation", config.get("_attn_implementation"))
    if attention not in (None, "eager", "sdpa") or config.get("quantization_config"):
        needs = f"attention of the kind {attention!r}" if not config.get("quantization_config") else "quantised weights"
        raise ModelError(f"{name} needs {needs} in its {component.name}, which mia_hub doesn't load. Load it yourself and wrap it.")


@contextmanager
def broken_files(name: str) -> Iterator[None]:
    """Context in which an error of another library about a broken repository becomes one clear message."""
    try:
        yield
    except Exception as error:  # diffusers and transformers raise many kinds
        # diffusers continues with advice for programmers.
        why = " ".join(first_line(error).partition(" If you want")[0].split()).rstrip(".")
        raise ModelError(f"{name} could not be loaded ({why}). {ASK_OWNER}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Context in which diffusers and transformers log errors alone, draw no progress bars, and warn of no change to come."""
    # A library that has not been imported yet logs nothing. To set a level clears what all loggers remember, so only a change is set.
    logs = [sys.modules[name] for name in ("diffusers.utils.logging", "transformers.utils.logging") if name in sys.modules]
    before = [(log, log.get_verbosity()) for log in logs if log.get_verbosity() != ERROR]
    with_bars = [log for log in logs if log.is_progress_bar_enabled()]
    for log, _ in before:
        log.set_verbosity_error()
    for log in with_bars:
        log.disable_progress_bar()
    try:
        with warnings.catch_warnings(action="ignore", category=FutureWarning):
            yield
    finally:
        for log, verbosity in before:
            log.set_verbosity(verbosity)
        for log in with_bars:
            log.enable_progress_bar()
