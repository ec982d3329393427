"""What programs can ask of the page, over HTTP and as MCP tools. Each docstring is the tool's description."""

from __future__ import annotations

from typing import Any

import gradio as gr

from leaderboard.page.access import board_queue
from leaderboard.page.submit_tab import shared_fields, submit_as
from mia_hub.errors import MiaHubError

MOST_LISTED = 200


def add_endpoints() -> None:
    """Adds the leaderboard's endpoints to the page that is being built."""
    gr.api(submit_model, api_name="submit_model")
    gr.api(submission_status, api_name="submission_status")
    gr.api(list_submissions, api_name="list_submissions")


def submit_model(
    model: str,
    split: str,
    attacks: str = "sima",
    revision: str = "",
    split_revision: str = "",
    captions: str = "split",
    seed: int = 0,
    note: str = "",
    offer_result: bool = False,
    profile: gr.OAuthProfile | None = None,
    token: gr.OAuthToken | None = None,
    request: gr.Request = None,
) -> dict[str, Any]:
    """Asks the leaderboard to audit a diffusion model for training-data membership: attacks on a model, over known members and non-members.

    The same twice is one request. Returns the request with its id, by which submission_status follows it.

    Args:
        model: "demo", or the Hub id of a public image model, such as "google/ddpm-cifar10-32"; with a LoRA on top, "base + owner/lora".
        split: "demo", or the Hub id of a public data set with members and non-members.
        attacks: one or several with spaces between them, such as "sima pia:timesteps=200".
        revision: branch, tag or commit of the model; empty for the newest.
        split_revision: branch, tag or commit of the data set; empty for the newest.
        captions: "split" or "empty": what a model that draws from text is told.
        seed: of noise, of the calibration part and of intervals.
        note: shown beside the request.
        offer_result: whether the result is offered to the model's repository as a pull request, if you own it.
    """
    asked = shared_fields(model, split, revision, split_revision, captions, seed, note, offer_result)
    try:
        return submit_as(asked | {"attacks": attacks}, profile, token, request).to_dict()
    except MiaHubError as error:
        raise _said(error) from error


def submission_status(id: str) -> dict[str, Any]:
    """Where a request to the leaderboard stands: PENDING with its place in the queue, RUNNING, FINISHED, or FAILED with the reason.

    Args:
        id: of the request, as submit_model returns it.
    """
    try:
        return board_queue().submission(id).to_dict()
    except MiaHubError as error:
        raise _said(error) from error


def list_submissions(state: str = "") -> list[dict[str, Any]]:
    """What was submitted to the leaderboard, the newest first, at most 200.

    Args:
        state: PENDING, RUNNING, FINISHED or FAILED; empty for all.
    """
    try:
        found = board_queue().listing()
    except MiaHubError as error:
        raise _said(error) from error
    return [each.to_dict() for each in found if state in ("", each.status.state)][:MOST_LISTED]


def _said(error: MiaHubError) -> gr.Error:
    return gr.Error(str(error), print_exception=False)
