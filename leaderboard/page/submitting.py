"""From a form or a call to a request in the queue, and to the message about it."""

from __future__ import annotations

from typing import Any

import gradio as gr

from leaderboard.errors import SubmissionError
from leaderboard.page.access import bearer_token, board_queue, identify_submitter
from leaderboard.requests.intake import Accepted, Draft, submit
from leaderboard.requests.submission_text import setting_text, state_text, table_rows
from mia_hub.errors import MiaHubError
from mia_hub.rendering.html import fragment
from mia_hub.rendering.text import one_line

PARTS = "leaderboard/page/templates/parts.html"
LONGEST_MESSAGE = 2000


def submit_as(draft: Draft, profile: Any, token: Any, request: gr.Request | None) -> Accepted:
    """Submit a request in the name of whoever sends it. A token is used to look up their name on the Hub, and for nothing else.

    Args:
        draft: the request.
        profile: a gr.OAuthProfile of whoever signed in, or None.
        token: a gr.OAuthToken that came with a call, or None.
        request: the HTTP request, whose header may have a token.

    Raises:
        MiaHubError: with the reason, if it is refused.
    """
    for name in ("model", "split"):
        if not str(getattr(draft, name) or "").strip():
            raise SubmissionError(f"The {name} is missing: give 'demo', or a Hub id of the form 'owner/name'.")
    queue = board_queue(write=True)
    secret = token.token if token is not None else bearer_token(request.headers if request is not None else None)
    return submit(queue, draft, submitter=identify_submitter(queue, profile.username if profile is not None else None, secret))


def submission_outputs(draft: Draft, profile: Any, token: Any, request: gr.Request | None) -> tuple[dict[str, Any], str]:
    """Submit a request; return it as JSON, and a message as HTML. If it is refused, both have the reason."""
    try:
        accepted = submit_as(draft, profile, token, request)
    except MiaHubError as error:
        return refusal_outputs(error)
    outcome = "is in the queue" if accepted.new else f"was made before: {state_text(accepted.status)}"
    message = fragment("accepted", accepted.id, outcome, setting_text(accepted.request), accepted.request.attacks, template=PARTS)
    return accepted.to_dict(), message


def refusal_outputs(error: MiaHubError) -> tuple[dict[str, Any], str]:
    """Return the reason of a refusal as JSON and as HTML."""
    return {"error": str(error)}, problem_html(str(error))


def problem_html(message: str) -> str:
    """Return an error message."""
    return fragment("problems", [one_line(message, LONGEST_MESSAGE)], template=PARTS)


def listing_outputs() -> tuple[Any, str]:
    """Return the rows of everything that was submitted, and a message about them."""
    try:
        submissions = board_queue().listing()
    except MiaHubError as error:
        return gr.skip(), problem_html(str(error))
    return table_rows(submissions), "" if submissions else fragment("sublabel", "Nothing was submitted yet.", template=PARTS)


def whole_seed(seed: float | None) -> Any:
    """Return a number field's value as a seed: an integer where it is one, 0 where the field is empty."""
    return int(seed) if isinstance(seed, float) and seed.is_integer() else seed or 0
