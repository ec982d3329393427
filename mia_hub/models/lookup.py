"""What a name of a model stands for, before its weights are loaded: a stranger's on the Hub, or one of our own folders."""

from __future__ import annotations

from dataclasses import dataclass

from mia_hub.errors import ModelError
from mia_hub.models.assembly import ADAPTERS, MOST_UNTRUSTED, planned
from mia_hub.models.layout import INDEX, check_shards, read_layout
from mia_hub.models.overlays.on_top import locate_top, split_name
from mia_hub.models.repository import LARGEST_UNTRUSTED, open_repository


@dataclass(frozen=True)
class FoundModel:
    """A model that is there and seems fit to be audited.

    Attributes:
        base, tops: as named, the latter without a revision.
        revision: commit of the base.
        top_revisions: commit of each top.
    """

    base: str
    revision: str
    tops: tuple[str, ...] = ()
    top_revisions: tuple[str, ...] = ()


def look_up_model(name: str, revision: str | None = None, *, largest: int = LARGEST_UNTRUSTED) -> FoundModel:
    """Looks a model up as anyone sees it, with no login, and refuses what can be refused by its list of files and model_index.json.

    Args:
        name: a Hub id, or "base + top"; each top may name its revision after an @.
        revision: branch, tag or commit of the base.
        largest: most bytes of weights.

    Raises:
        ModelError: if it isn't there for everyone, is no model that can be audited, has only pickled weights, or is too large.
    """
    base, *tops = split_name(name)
    if len(tops) > MOST_UNTRUSTED:
        raise ModelError(f"At most {MOST_UNTRUSTED} things can be put on a model here; name fewer after plus signs.")
    whence = {"trusted": False, "largest": largest}
    found = []
    for top in tops:
        repository, path = locate_top(top, **whence)
        if path in repository.sizes and not path.endswith(".safetensors"):
            raise ModelError(f"{top} is no safetensors file; pickled weights can run code when they are opened, and are not read.")
        repository.check_size([path])
        found.append((top.partition("@")[0].rstrip("/"), repository.revision))
    repository = open_repository(base, revision, **whence)
    _, components = read_layout(repository, ADAPTERS)
    for component in components.values():
        check_shards(component, repository)
    if not tops:
        # What lies on top may replace parts, which are then not fetched.
        repository.check_size([INDEX, *(pattern for component in components.values() for pattern in component.patterns)])
    return FoundModel(base, repository.revision, tuple(top for top, _ in found), tuple(commit for _, commit in found))


def local_revision(name: str) -> str:
    """What `mia_hub.load_model` records as the revision of a model in a folder: the hash of its weights, which are read for it.

    Args:
        name: a folder, or "folder + folder".

    Raises:
        ModelError: if it is no model that can be audited, or has only pickled weights.
    """
    base, *tops = split_name(name)
    return planned(base, tops).revision
