"""The models that checks are run on: the demo, loaded once, and the last model of the Hub."""

from __future__ import annotations

import gc
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mia_hub.checking.checker import Checker
from mia_hub.checking.checks import get_checker
from mia_hub.checking.reuse import reused_checker
from mia_hub.errors import ModelError, SplitError
from mia_hub.models.loading import load_model
from mia_hub.models.rows import default_rows
from mia_hub.models.shared import SharedModel
from mia_hub.references.publishing import fetch_reference
from mia_hub.references.reference import Reference
from mia_hub.ui.hardware import is_public, largest_weights

DEMO = "demo"
HUB_MODEL = re.compile(r"[\w.-]+/[\w.-]+( \+ [\w.-]+/[\w./@-]+)?")
HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
Progress = Callable[..., None]

# One model is loaded at a time: while diffusers and transformers are imported, or load weights, they change torch for all threads.
_loading = threading.Lock()
_demo: list[Checker] = []
_hub_models: dict[str, SharedModel] = {}


def demo_checker() -> Checker:
    """Return the demo's checker, loaded once."""
    # Once it is there, nobody waits for another visitor's download.
    if not _demo:
        with _loading:
            if not _demo:
                model = load_model(DEMO)
                checker = get_checker(SharedModel(model, default_rows(model)), progress=False)
                _ = checker.comparability, checker.reference.power if checker.reference else None
                _demo.append(checker)
    return _demo[0]


def keep_what_is_loaded() -> None:
    """Take what exists now out of garbage collections: they would look through all of it, and so Python would seldom make a full one."""
    with _loading:
        # A visitor's model must go when another one comes.
        if not _hub_models:
            gc.collect()
            gc.freeze()
            # Python makes a full collection once a quarter has been added to what the last one left.
            gc.collect()


def checker_for(
    model: str,
    nonmembers: list[Path],
    caption: str | None,
    progress: Progress | None,
    *,
    reference: str | None = None,
    session: str | None = None,
    copies: bool = False,
) -> Checker:
    """Return a checker of a model. On a public page, nothing of what a visitor brings is kept or serves another visitor.

    Args:
        model: "demo", or a Hub id, with or without a LoRA on top.
        nonmembers: images certainly not in its training set; none means the demo's own, a reference on this machine, or no verdict.
        caption: of the non-members, where the model is conditioned on one.
        progress: called with what is loaded or scored.
        reference: name of a reference on the Hub, in place of the non-members.
        session: the visitor's.
        copies: whether the images may be altered copies of training images.

    Raises:
        MiaHubError: if the model or the non-members can't be used.
    """
    if model != DEMO and not HUB_MODEL.fullmatch(model):
        raise ModelError(f"{model!r} is not a model that can be checked here; give 'demo' or a Hub id of the form 'owner/name'.")
    demo = demo_checker()
    if model == DEMO and not nonmembers and not reference and not copies:
        return demo
    loaded = demo.model if model == DEMO else _hub_model(model, progress)
    null: dict[str, Any] = {"nonmembers": nonmembers or None, "nonmember_captions": caption if nonmembers else None}
    if reference:
        null["reference"] = _named_reference(reference)
    options = null | {
        "copies": copies,
        "keep": not is_public(),
        "progress": False,
        "on_batch": batch_progress(progress, "Scoring the non-members"),
    }
    return reused_checker(loaded, None, options, owner=session if is_public() else None)


def _named_reference(name: str) -> Reference:
    if not HUB_NAME.fullmatch(name):
        raise SplitError(f"{name!r} is not a reference on the Hub; give its name there, of the form 'owner/name'.")
    # Never a path on this machine.
    fetched = fetch_reference(name, keep=not is_public(), for_a_stranger=is_public())
    return Reference.of_files(fetched.record, fetched.arrays, shared=True)


def _hub_model(name: str, progress: Progress | None) -> SharedModel:
    """Return a model of the Hub. The last one stays loaded: people check several images with one model."""

    def report() -> None:
        if progress is not None:
            progress(0, desc=f"Loading {name}")

    report()
    with _loading:
        # A visitor who has left while others' models were loaded doesn't load another.
        report()
        if name not in _hub_models:
            # Two large ones may not fit.
            _hub_models.clear()
            gc.collect()  # checkers refer to one another
            # Never a folder of this machine: a visitor could learn which ones there are.
            model = load_model(name, trusted=False, largest=largest_weights())
            _hub_models[name] = SharedModel(model, default_rows(model))
        return _hub_models[name]


def batch_progress(progress: Progress | None, description: str) -> Callable[[int, int], None] | None:
    """Return a callback that reports scored images of all."""
    return None if progress is None else lambda done, total: progress((done, total), desc=description, unit="images")
