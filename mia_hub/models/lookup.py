"""Models looked up before their weights are loaded: a stranger's on the Hub, or one of our own folders."""

from __future__ import annotations

from dataclasses import dataclass

from mia_hub.errors import ModelError
from mia_hub.models.assembly import plan_model, refuse_many_overlays
from mia_hub.models.families.registry import ADAPTERS
from mia_hub.models.layout import INDEX, check_shards, read_layout
from mia_hub.models.overlays.names import base_and_overlays, locate_overlay, recorded_name
from mia_hub.models.repository import LARGEST_UNTRUSTED, Access, open_repository


@dataclass(frozen=True)
class PublicModel:
    """A model on the Hub that anyone can load, and that can be audited as far as its files tell.

    Attributes:
        base, overlays: names with ids as the Hub spells them, the latter without a revision.
        revision: commit of the base.
        overlay_revisions: commit of each overlay.
    """

    base: str
    revision: str
    overlays: tuple[str, ...] = ()
    overlay_revisions: tuple[str, ...] = ()


def look_up_model(name: str, revision: str | None = None, *, largest: int = LARGEST_UNTRUSTED) -> PublicModel:
    """Look a model up without a login, and refuse it as far as its list of files and model_index.json can tell.

    Args:
        name: a Hub id, or "base + overlay"; each overlay may name its revision after an @.
        revision: branch, tag or commit of the base.
        largest: most bytes of weights.

    Raises:
        ModelError: if it isn't there for everyone, is no model that can be audited, has only pickled weights, or is too large.
    """
    base, *overlays = base_and_overlays(name)
    access = Access(trusted=False, largest=largest)
    refuse_many_overlays(overlays, access)
    names, commits = [], []
    for overlay in overlays:
        repository, path = locate_overlay(overlay, access=access)
        if path in repository.sizes and not path.endswith(".safetensors"):
            raise ModelError(f"{overlay} is no safetensors file; pickled weights can run code when they are opened, and are not read.")
        repository.check_size([path])
        names.append(recorded_name(overlay, repository).partition("@")[0].rstrip("/"))
        commits.append(repository.revision or "")
    repository = open_repository(base, revision, access)
    _, components = read_layout(repository, ADAPTERS)
    for component in components.values():
        check_shards(component, repository)
    if not overlays:
        # An overlay may replace parts of the base, which are then not fetched.
        repository.check_size([INDEX, *(pattern for component in components.values() for pattern in component.patterns)])
    return PublicModel(repository.name, repository.revision or "", tuple(names), tuple(commits))


def local_revision(name: str) -> str:
    """The revision that `mia_hub.load_model` records for a model in a folder: the hash of its weights, which are read for it.

    Args:
        name: a folder, or "folder + folder".

    Raises:
        ModelError: if it is no model that can be audited, or has only pickled weights.
    """
    base, *overlays = base_and_overlays(name)
    return plan_model(base, overlays).revision
