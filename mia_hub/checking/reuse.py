"""Checkers that are reused: a loaded model is as quick for the next image as a name."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable
from pathlib import Path
from typing import Any

from mia_hub.attacks import Attack
from mia_hub.checking.checker import Checker
from mia_hub.checking.options import CheckerOptions
from mia_hub.images.sources import as_images
from mia_hub.models.bases import loaded_base
from mia_hub.models.protocol import DiffusionModel
from mia_hub.models.reference_models import reference_models
from mia_hub.references.kept import KeptReferences
from mia_hub.references.source import is_source
from mia_hub.references.storing import RECORD
from mia_hub.references.verdict_attack import DefaultAttack
from mia_hub.system.signatures import option_parameters

# Models named by text hold their weights in memory; checkers of one model hold little beside it.
MOST_NAMED, MOST_OF_A_MODEL = 2, 4
# They don't change what a checker answers.
WITHOUT_EFFECT = ("progress", "on_batch")
# They decide which model a name means.
OF_LOADING = ("device", "dtype", "revision")
DEFAULTS = {parameter.name: parameter.default for parameter in option_parameters(CheckerOptions)}
_OF_A_MODEL = "_mia_hub_checkers"


class Checkers(OrderedDict[Hashable, Checker]):
    """Checkers by what they were made with. A copy of a model begins without any."""

    def __reduce__(self) -> Any:
        return Checkers, ()

    def __deepcopy__(self, _: Any) -> Checkers:
        return Checkers()


_named = Checkers()
_lock = threading.RLock()


def reused_checker(
    model: str | DiffusionModel, attack: Attack | DefaultAttack | None, options: dict[str, Any], owner: str | None = None
) -> Checker:
    """Return a checker that was made before with equal arguments, or a new one.

    Those of a model object are kept with it and released with it, and serve only as long as its weights stay as they are. The same
    non-members count as equal in whatever form they come. A reference that was built, fetched or removed since counts at once.

    Args:
        model, attack, options: as for `Checker`.
        owner: for whom it is reused, and for nobody else; None for everybody.
    """
    options = DEFAULTS | options
    checkers, most = (_named, MOST_NAMED) if isinstance(model, str) else (_checkers_of(model), MOST_OF_A_MODEL)
    key = None if checkers is None else _key(model, attack, options, owner)
    if checkers is None or key is None:
        return Checker(model, attack, **options)
    with _lock:
        checker = checkers.get(key)
        loaded = None if checker or not isinstance(model, str) else _loaded(key)
    if checker is None:
        # Nobody else waits meanwhile.
        checker = Checker(loaded or model, attack, **options)
    with _lock:
        checkers[key] = checker
        checkers.move_to_end(key)
        while len(checkers) > most:
            checkers.popitem(last=False)
    return checker


def _loaded(key: tuple[Any, ...]) -> DiffusionModel | None:
    """Return the model of a checker that was made of the same name, loaded in the same way."""
    return next((checker.model for other, checker in _named.items() if other[0] == key[0]), None)  # type: ignore[index]  # a tuple


def _checkers_of(model: DiffusionModel) -> Checkers | None:
    """Return the checkers that are kept with a model; None where it can hold none, or its weights can't be watched."""
    try:
        attributes = vars(model)
    except TypeError:
        return None
    if getattr(model, "network", None) is None:
        return None
    checkers: Checkers = attributes.setdefault(_OF_A_MODEL, Checkers())
    return checkers


def _key(
    model: str | DiffusionModel, attack: Attack | DefaultAttack | None, options: dict[str, Any], owner: str | None
) -> tuple[Any, ...] | None:
    """Return what tells checkers apart, first what tells their models apart; None where nothing does."""
    loading = tuple(options[name] for name in OF_LOADING)
    own = (model, *map(str, loading)) if isinstance(model, str) else (_weights(model), _state_with_model(model))
    identity = (own, _companion_state(options["base"]), _companion_states(options["reference_models"]))
    left_out = (*WITHOUT_EFFECT, *OF_LOADING, "base", "reference_models", "nonmembers", "nonmember_captions", "reference")
    named = tuple((name, value) for name, value in options.items() if name not in left_out)
    nonmembers, captions, reference = options["nonmembers"], options["nonmember_captions"], options["reference"]
    if nonmembers is not None:
        nonmembers = _file_state(nonmembers) if is_source(nonmembers) else _content(nonmembers)
    elif reference is None or isinstance(reference, (str, os.PathLike)):
        # By default, or by its id, it is one of this machine.
        reference = _file_state(Path(reference or "", RECORD)), KeptReferences.of_this_machine().state()
    if captions is not None and not isinstance(captions, (str, int)):
        captions = hashlib.sha256(repr([str(caption) for caption in captions]).encode()).hexdigest()
    key = (identity, owner, attack, named, nonmembers, captions, reference)
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _weights(model: DiffusionModel) -> Hashable:
    """Return what changes whenever a model's weights do."""
    network = model.network
    assert network is not None  # such a model holds no checkers
    tensors = [*network.parameters(), *network.buffers()]
    return tuple((tensor.data_ptr(), tensor._version, tensor.dtype) for tensor in tensors)


def _state_with_model(model: DiffusionModel) -> Hashable:
    """Return what tells apart the models that a model was loaded with, to be compared with them."""
    return _companion_state(loaded_base(model)), _companion_states(reference_models(model))


def _companion_states(given: Any) -> Hashable:
    """Return what tells lists of reference models apart."""
    return tuple(map(_companion_state, given)) if isinstance(given, (list, tuple)) else _companion_state(given)


def _companion_state(base: Any) -> Hashable:
    """Return what tells bases apart; one whose weights can't be watched is told apart from all others, also from itself."""
    if base is None or isinstance(base, (str, os.PathLike)):
        return None if base is None else str(base)
    return _weights(base) if getattr(base, "network", None) is not None else (id(base), time.monotonic_ns())


def _content(images: Any) -> str:
    digest = hashlib.sha256()
    for image in as_images(images):
        digest.update(bytes.fromhex(image.id))
    return digest.hexdigest()


def _file_state(path: Any) -> Hashable:
    """Return a path with what changes when the file does; the path alone where there is none, as for a data set on the Hub."""
    try:
        status = os.stat(path)
    except OSError:
        return str(path)
    return str(path), status.st_mtime_ns, status.st_size
