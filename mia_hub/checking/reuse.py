"""Checkers that are reused: a loaded model is as quick for the next image as a name."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

from mia_hub.attacks import Attack
from mia_hub.checking.checker import Checker
from mia_hub.checking.options import CheckerOptions
from mia_hub.images.sources import as_images
from mia_hub.models.protocol import DiffusionModel
from mia_hub.references.reference import kept_reference
from mia_hub.references.source import is_source
from mia_hub.system.signatures import option_parameters

# Models named by text hold their weights in memory; checkers of one model hold little beside it.
MOST_NAMED, MOST_OF_A_MODEL = 2, 4
# They don't change what a checker answers.
WITHOUT_EFFECT = ("progress", "keep", "on_batch")
DEFAULTS = {parameter.name: parameter.default for parameter in option_parameters(CheckerOptions)}
_OF_A_MODEL = "_mia_hub_checkers"

Checkers = OrderedDict[Hashable, Checker]
_named: Checkers = OrderedDict()
_lock = threading.RLock()


def reused_checker(model: str | DiffusionModel, attack: Attack | None, options: dict[str, Any], owner: str | None = None) -> Checker:
    """Return a checker that was made before with equal arguments, or a new one.

    Those of a model object are kept with it and released with it. The same non-members count as equal in whatever form they come.

    Args:
        model, attack, options: as for `Checker`.
        owner: for whom it is reused, and for nobody else; None for everybody.
    """
    options = DEFAULTS | options
    kept, most = (_named, MOST_NAMED) if isinstance(model, str) else (_checkers_of(model), MOST_OF_A_MODEL)
    key = None if (known := _key(model, attack, options)) is None else (owner, known)
    if kept is None or key is None:
        return Checker(model, attack, **options)
    with _lock:
        checker = kept.get(key)
    if checker is None or _has_a_reference_now(checker):
        # The model of a name is loaded once. Nobody else waits meanwhile.
        checker = Checker(model if checker is None else checker.model, attack, **options)
    with _lock:
        kept[key] = checker
        kept.move_to_end(key)
        while len(kept) > most:
            kept.popitem(last=False)
    return checker


def _has_a_reference_now(checker: Checker) -> bool:
    """Whether a reference of the checker's model was built or fetched since the checker was made without one."""
    return checker.reference is None and kept_reference(checker.model) is not None


def _checkers_of(model: DiffusionModel) -> Checkers | None:
    """Return the checkers that are kept with a model; None where it can hold none."""
    try:
        attributes = vars(model)
    except TypeError:
        return None
    checkers: Checkers = attributes.setdefault(_OF_A_MODEL, OrderedDict())
    return checkers


def _key(model: str | DiffusionModel, attack: Attack | None, options: dict[str, Any]) -> Hashable | None:
    """Return what tells checkers of one model apart; None where nothing does."""
    named = {name: value for name, value in options.items() if name not in (*WITHOUT_EFFECT, "nonmembers", "nonmember_captions")}
    nonmembers, captions = options["nonmembers"], options["nonmember_captions"]
    if nonmembers is not None and not is_source(nonmembers):
        digest = hashlib.sha256()
        for image in as_images(nonmembers):
            digest.update(bytes.fromhex(image.id))
        nonmembers = digest.hexdigest()
    key = (model if isinstance(model, str) else "", attack, tuple(named.items()), nonmembers, repr(captions))
    try:
        hash(key)
    except TypeError:
        return None
    return key
