"""Data sets that well-known models were trained on: by the published settings, and by the tables of known models."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

from mia_hub.auditing.known_models import known_model
from mia_hub.auditing.published_settings.image_source import ImageSource
from mia_hub.auditing.published_settings.setting import BENCHMARK, list_benchmarks, load_benchmark
from mia_hub.models.origin import Origin as LoadedFrom
from mia_hub.models.protocol import DiffusionModel
from mia_hub.splits.origins import Origin

# The folder of a repository in the Hub's cache is models--owner--name/snapshots/COMMIT.
CACHED = "models--"


def training_data(model: DiffusionModel) -> tuple[Origin, ...]:
    """Return the splits of data sets on the Hub that a model was trained on, as far as that is known; nothing is fetched.

    A model with something on top of it counts as the model beneath, and one in the Hub's cache as that of the Hub. Any other folder is
    unknown. A public model of a published setting was trained on the whole split that the setting draws members from.

    Raises:
        SplitError: if one's own table of known models can't be understood.
    """
    name = _hub_id(model)
    if name is None:
        return ()
    entry = known_model(name)
    names, members = ([name], None) if entry is None else ([name, *entry.models], entry.members)
    sources = [source for each in names for source in _published().get(each.lower(), ())]
    if members is not None and members.startswith(BENCHMARK):
        sources.append(load_benchmark(members.removeprefix(BENCHMARK)).members)
    data = [Origin(source.dataset, source.split, source.config) for source in sources]
    if members is not None and members.count("/") == 1 and not Path(members).exists():
        dataset, _, split = members.partition(":")
        data.append(Origin(dataset, split or None))
    return tuple(dict.fromkeys(data))


def is_of(origin: Origin | None, data: Sequence[Origin]) -> bool | None:
    """Return whether images come from some splits of data sets; None where nobody can say.

    A folder may hold a copy of a data set, and so may a data set of another name. Another split of one of these data sets holds other
    images. Revisions are ignored: a data set's later commits don't undo the training on its images.

    Args:
        origin: of the images; None where it is unknown.
        data: as `training_data` returns them.
    """
    if origin is None:
        return None
    of_this_name = [each for each in data if each.name.lower() == origin.name.lower() and _may_be(each.config, origin.config)]
    if any(each.split is not None and each.split == origin.split for each in of_this_name):
        return True
    return False if of_this_name and all(None not in (each.split, origin.split) for each in of_this_name) else None


def _may_be(one: str | None, other: str | None) -> bool:
    return one == other or None in (one, other)


def _hub_id(model: DiffusionModel) -> str | None:
    """Return the id on the Hub of a model, or of the one beneath its overlays; None for a model of other folders, or in memory."""
    loaded: LoadedFrom | None = getattr(model, "origin", None)
    if loaded is None:
        return None
    if loaded.repository.revision is not None:
        return loaded.repository.name
    parts = loaded.repository.root.absolute().parts
    cached = next((part for part, beneath in pairwise(parts) if part.startswith(CACHED) and beneath == "snapshots"), None)
    return None if cached is None else cached.removeprefix(CACHED).replace("--", "/", 1)


@cache
def _published() -> dict[str, list[ImageSource]]:
    """Return the sources of the members of public models, by the models' ids in lower case."""
    sources: dict[str, list[ImageSource]] = {}
    for setting in map(load_benchmark, list_benchmarks()):
        if setting.model.available == "hub" and setting.model.id is not None:
            sources.setdefault(setting.model.id.lower(), []).append(setting.members)
    return sources
