"""The board's endpoints for programs, over HTTP and as MCP tools. Each docstring is the tool's description."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.events import api

from leaderboard.errors import SubmissionError
from leaderboard.page.access import board_queue
from leaderboard.page.submitting import refusal_outputs, submission_outputs, submit_as, whole_seed
from leaderboard.requests.intake import Draft
from mia_hub.errors import MiaHubError

MOST_LISTED = 200


def add_endpoints() -> None:
    """Add the endpoints to the page that is being built; `submit_scores` is the form's own."""
    api(submit_model, api_name="submit_model")
    api(submission_status, api_name="submission_status")
    api(list_submissions, api_name="list_submissions")


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
    request: gr.Request = None,  # type: ignore[assignment]  # Gradio fills it in by this exact annotation
) -> dict[str, Any]:
    """Submits a diffusion model to the leaderboard, to be audited for training-data membership by attacks on known members and others.

    The same twice is one request. Returns the request with its id, by which submission_status follows it.

    Args:
        model: "demo", or the Hub id of a public image model, such as "google/ddpm-cifar10-32"; with a LoRA on top, "base + owner/lora".
        split: "demo", or the Hub id of a public data set with members and non-members.
        attacks: one or several with spaces between them, such as "sima pia:timesteps=200".
        revision: branch, tag or commit of the model; empty for the newest.
        split_revision: branch, tag or commit of the data set; empty for the newest.
        captions: "split" or "empty": what a model that draws from text is conditioned on.
        seed: of noise, of the calibration part and of intervals.
        note: shown beside the request.
        offer_result: whether the result is offered to the model's repository as a pull request, if you own it.
    """
    draft = Draft(
        model=model,
        split=split,
        attacks=attacks,
        revision=revision,
        split_revision=split_revision,
        captions=captions,
        seed=whole_seed(seed),
        note=note,
        push=offer_result,
    )
    try:
        return submit_as(draft, profile, token, request).to_dict()
    except MiaHubError as error:
        raise _message(error) from error


def submit_scores(
    scores: str | None,
    attack_name: str,
    model: str,
    split: str,
    revision: str,
    split_revision: str,
    captions: str,
    seed: float | None,
    note: str,
    push: bool,
    profile: gr.OAuthProfile | None,
    token: gr.OAuthToken | None,
    request: gr.Request,
) -> tuple[dict[str, Any], str]:
    """Submits the scores of an attack of one's own: the leaderboard computes every figure from them, and shows them as self-reported.

    Returns the request as JSON, or {"error": the reason}, and the same as HTML.

    Args:
        scores: a ScoreTable in Parquet form, of all images of the split, higher = more likely a member.
        attack_name: name of the attack on the board.
        model: "demo" or the Hub id of a public model.
        split: "demo" or the Hub id of a public data set.
        revision: branch, tag or commit of the model; empty for the newest.
        split_revision: branch, tag or commit of the data set; empty for the newest.
        captions: "split" or "empty".
        seed: of the calibration part and of intervals.
        note: shown beside the request.
        push: whether the result is offered to the model's repository as a pull request, if you own it.
    """
    if scores is None:
        return refusal_outputs(SubmissionError("Choose the Parquet file with the scores first."))
    draft = Draft(
        model=model,
        split=split,
        revision=revision,
        split_revision=split_revision,
        captions=captions,
        seed=whole_seed(seed),
        note=note,
        push=push,
        scores=scores,
        attack_name=attack_name,
    )
    return submission_outputs(draft, profile, token, request)


def submission_status(id: str) -> dict[str, Any]:
    """Returns where a request to the leaderboard stands: PENDING with its place in the queue, RUNNING, FINISHED, or FAILED with the reason.

    Args:
        id: of the request, as submit_model returns it.
    """
    try:
        return board_queue().submission(id).to_dict()
    except MiaHubError as error:
        raise _message(error) from error


def list_submissions(state: str = "") -> list[dict[str, Any]]:
    """Returns the requests to the leaderboard, the newest first, at most 200.

    Args:
        state: PENDING, RUNNING, FINISHED or FAILED; empty for all.
    """
    try:
        submissions = board_queue().listing()
    except MiaHubError as error:
        raise _message(error) from error
    return [each.to_dict() for each in submissions if state in ("", each.status.state)][:MOST_LISTED]


def _message(error: MiaHubError) -> gr.Error:
    return gr.Error(str(error), print_exception=False)
