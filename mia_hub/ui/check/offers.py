"""The offer of a reference, where a well-known model has none here yet: what it takes, and the button that does it."""

from __future__ import annotations

from typing import Any

import gradio as gr

from mia_hub.checking.checker import Checker
from mia_hub.errors import SplitError
from mia_hub.references.offers import offer_for
from mia_hub.ui.check.checkers import Progress, batch_progress
from mia_hub.ui.check.outputs import piece
from mia_hub.ui.hardware import is_public

# What strangers may not start: the owner's machine would score images for minutes.
BY_THE_OWNER = "On this public page only its owner can build it, with 'mia-hub reference build'."


def offer_values(checker: Checker, caption: str | None = None) -> dict[str, Any] | None:
    """Return what can be done for a model without known non-members, JSON-ready; None where there are some, or nothing can be done."""
    offer = None if checker.reference is not None else offer_for(checker.model, caption=caption)
    if offer is None:
        return None
    allowed = offer.possible and (bool(offer.known.published) or not is_public())
    text = offer.text() if allowed or not offer.possible else f"{offer.text()} {BY_THE_OWNER}"
    return {"text": text, "possible": allowed, "button": "Fetch the reference" if offer.known.published else "Build the reference"}


def accept_offer(checker: Checker, progress: Progress | None, caption: str | None = None) -> None:
    """Fetch or build the reference of a checker's model. It then answers for everybody here: its images are those of the table.

    Raises:
        MiaHubError: if that fails, or strangers may not do it here.
    """
    offer = offer_for(checker.model, caption=caption)
    if offer is None or not offer.possible:
        raise SplitError(f"No images are known that are certainly not in the training set of {checker.model.info.id}; give some.")
    if is_public() and not offer.known.published:
        raise SplitError(BY_THE_OWNER)
    if progress is not None:
        progress(0, desc="Reading the known images")
    offer.accept(progress=False, on_batch=batch_progress(progress, "Scoring the known images"))


def show_offer(results: dict[str, Any] | None) -> tuple[gr.HTML, gr.Button]:
    """Return the text and the button of the offer in an answer's results; both hidden without one."""
    offer = (results or {}).get("offer")
    if not offer:
        return gr.HTML(visible=False), gr.Button(visible=False)
    return gr.HTML(piece("offer", offer["text"]), visible=True), gr.Button(offer["button"], visible=offer["possible"])
