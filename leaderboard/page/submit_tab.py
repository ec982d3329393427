"""The tab "Submit": ask for an audit or hand in scores, and see where everything that was submitted stands."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from leaderboard.errors import SubmissionError
from leaderboard.page.access import bearer, board_queue, has_login, who
from leaderboard.requests.intake import Accepted, Draft, submit
from leaderboard.requests.scores import LARGEST_SCORES
from leaderboard.requests.submission_text import HEADERS, revision_text, state_text, table_rows
from mia_hub.attacks import list_attacks
from mia_hub.errors import MiaHubError
from mia_hub.rendering.text import one_line

A_MODEL, OWN_SCORES = KINDS = ("A model to audit", "Scores of my own attack")
REFRESH_SECONDS = 30
INTRODUCTION = (
    "Ask the leaderboard to audit a public diffusion model, or hand in the scores of an attack of your own. Every figure is computed from "
    "the scores by this board, and scores of your own are marked as self-reported until they were reproduced. What you submit is public, "
    "with your name."
)


def build_submit_tab(tab: gr.Tab) -> None:
    """Fills the tab; no store is opened before the tab is."""
    gr.HTML(f"<p class='mia-asking'>{INTRODUCTION}</p>")
    if has_login():
        gr.LoginButton(elem_id="login")
    kind = gr.Radio(KINDS, value=A_MODEL, label="What", elem_id="submit-kind")
    with gr.Row(equal_height=False):
        model = gr.Textbox(
            label="Model",
            placeholder="google/ddpm-cifar10-32",
            max_lines=1,
            min_width=280,
            info="“demo”, or the id of a public model on the Hub. With a LoRA on top: base + owner/lora.",
            elem_id="submit-model",
        )
        revision = _revision("Revision of the model", "submit-revision")
    with gr.Row(equal_height=False):
        split = gr.Textbox(
            label="Split",
            placeholder="owner/data-set",
            max_lines=1,
            min_width=280,
            info="“demo”, or the id of a public data set on the Hub that says which images are members.",
            elem_id="submit-split",
        )
        split_revision = _revision("Revision of the split", "submit-split-revision")
    with gr.Column() as of_model:
        attacks = gr.Textbox(
            label="Attacks",
            placeholder="sima pia:timesteps=200",
            info=f"One or several of these, with spaces between them; parameters after a colon. {', '.join(list_attacks())}.",
            elem_id="submit-attacks",
        )
    with gr.Column(visible=False) as of_scores:
        scores = gr.File(
            label="Scores (Parquet)",
            height=140,
            elem_id="submit-scores",
        )
        gr.Markdown(
            f"A table that `ScoreTable.to_parquet` wrote, with every image of the split, up to {LARGEST_SCORES // 2**20} MiB.",
            elem_classes="mia-small",
        )
        attack_name = gr.Textbox(
            label="Name of the attack",
            placeholder="my-attack (arXiv 2601.00000)",
            max_lines=1,
            info="As the board shall show it.",
            elem_id="submit-attack-name",
        )
    with gr.Accordion("Captions, seed, note", open=False):
        told = "What a model that draws from text is told."
        captions = gr.Radio(["split", "empty"], value="split", label="Captions", info=told, elem_id="submit-captions")
        seed = gr.Number(0, precision=0, minimum=0, label="Seed", info="Of noise, of the calibration part and of intervals.")
        note = gr.Textbox(label="Note", max_lines=2, info="Shown beside the request.", elem_id="submit-note")
        push = gr.Checkbox(label="Offer the result to the model's repository as a pull request", elem_id="submit-push")
    go_model = gr.Button("Submit the model", variant="primary", elem_id="submit-go-model")
    go_scores = gr.Button("Submit the scores", variant="primary", visible=False, elem_id="submit-go-scores")
    answer = gr.HTML(label="Answer", elem_id="submit-answer")
    made = gr.JSON(visible="hidden", label="The request")

    gr.HTML("<h2 class='mia-label'>Everything that was submitted</h2>")
    with gr.Row():
        refresh = gr.Button("Refresh", scale=0, min_width=120, elem_id="submissions-refresh")
        often = gr.Checkbox(label=f"Refresh every {REFRESH_SECONDS} seconds", container=False, elem_id="submissions-often")
    problem = gr.HTML(elem_id="submissions-problem")
    listed = gr.Dataframe(
        headers=HEADERS,
        datatype="str",
        interactive=False,
        wrap=True,
        show_search="search",
        max_height=600,
        column_widths=[350, 240, 200, 140, 100, 170],
        label="Submissions",
        show_label=False,
        elem_id="submissions",
        buttons=["fullscreen", "copy"],
    )
    timer = gr.Timer(REFRESH_SECONDS, active=False)

    shared = [model, split, revision, split_revision, captions, seed, note, push]
    show = {"api_name": False, "show_progress": "hidden", "queue": False}
    kind.change(_fields_of, kind, [of_model, of_scores, go_model, go_scores, answer], **show)
    shown = [listed, problem]
    asks_for_model = go_model.click(_model_clicked, [attacks, *shared], [made, answer], api_name=False)
    asks_for_scores = go_scores.click(submit_scores, [scores, attack_name, *shared], [made, answer], api_name="submit_scores")
    for done in (asks_for_model, asks_for_scores):
        done.then(_listing, None, shown, **show)
    gr.on([tab.select, refresh.click, timer.tick], _listing, None, shown, api_name=False, show_progress="hidden")
    often.change(lambda on: gr.Timer(active=on), often, timer, **show)


def _revision(label: str, name: str) -> gr.Textbox:
    info = "Branch, tag or commit; empty for the newest."
    return gr.Textbox(label=label, placeholder="main", max_lines=1, min_width=280, info=info, elem_id=name)


def _fields_of(kind: str):
    own = kind == OWN_SCORES
    return gr.Column(visible=not own), gr.Column(visible=own), gr.Button(visible=not own), gr.Button(visible=own), ""


def _model_clicked(
    attacks, model, split, revision, split_revision, captions, seed, note, push, profile: gr.OAuthProfile | None, request: gr.Request
):
    asked = shared_fields(model, split, revision, split_revision, captions, seed, note, push)
    return _submitted(asked | {"attacks": attacks}, profile, None, request)


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
):
    """Hands in the scores of an attack of one's own: the leaderboard computes every figure from them, and shows them as self-reported.

    Returns the request as JSON, or {"error": the reason}, and the same as HTML.

    Args:
        scores: a ScoreTable in Parquet form, of all images of the split, higher = more likely a member.
        attack_name: what the attack is called on the board.
        model: "demo" or the Hub id of a public model.
        split: "demo" or the Hub id of a public data set.
        revision: branch, tag or commit of the model; empty for the newest.
        split_revision: branch, tag or commit of the data set; empty for the newest.
        captions: "split" or "empty".
        seed: of the calibration part and of intervals.
        note: shown beside the request.
        push: whether the result is offered to the model's repository as a pull request, if you own it.
    """
    asked = shared_fields(model, split, revision, split_revision, captions, seed, note, push)
    if scores is None:
        return _refused(SubmissionError("Choose the Parquet file with the scores first."))
    return _submitted(asked | {"scores": scores, "attack_name": attack_name}, profile, token, request)


def shared_fields(model, split, revision, split_revision, captions, seed, note, push) -> dict[str, Any]:
    """What models and scores have in common, as fields of `leaderboard.requests.intake.Draft`."""
    asked = {"model": model, "split": split, "revision": revision, "split_revision": split_revision}
    whole = int(seed) if isinstance(seed, float) and seed.is_integer() else seed
    return asked | {"captions": captions, "seed": 0 if whole is None else whole, "note": note, "push": push}


def _submitted(asked: dict[str, Any], profile, token, request: gr.Request | None):
    """The request as JSON, and what became of it in words; what goes wrong becomes a message on the page."""
    try:
        done = submit_as(asked, profile, token, request)
    except MiaHubError as error:
        return _refused(error)
    return done.to_dict(), _accepted(done)


def submit_as(asked: dict[str, Any], profile: Any, token: Any, request: gr.Request | None) -> Accepted:
    """Submits for whoever is asking. A token is used to ask the Hub for their name, and for nothing else.

    Args:
        asked: fields of `leaderboard.requests.intake.Draft`.
        profile: a gr.OAuthProfile of whoever signed in, or None.
        token: a gr.OAuthToken that came with a call, or None.
        request: that carries it.

    Raises:
        MiaHubError: with the reason, if it is refused.
    """
    empty = [name for name in ("model", "split") if not str(asked[name] or "").strip()]
    if empty:
        raise SubmissionError(f"The {empty[0]} is missing: give 'demo', or a Hub id of the form 'owner/name'.")
    queue = board_queue(write=True)
    given = token.token if token is not None else bearer(request.headers if request is not None else None)
    return submit(queue, Draft(**asked), submitter=who(queue, profile.username if profile is not None else None, given))


def _refused(error: MiaHubError):
    return {"error": str(error)}, _problem(str(error))


def _problem(message: str) -> str:
    return f"<p class='mia-problem' role='alert'>{escape(one_line(message, 2000))}</p>"


def _accepted(done: Accepted) -> str:
    request = done.request
    said = "is in the queue" if done.new else f"was made before: {state_text(done.status)}"
    what = f"{revision_text(request.model, request.revision)} on {revision_text(request.split, request.split_revision)}"
    return (
        f"<div class='mia-answer' role='status'><p class='mia-verdict'>The request {escape(done.id)} {escape(said)}.</p>"
        f"<p class='mia-sentence'>{escape(what)}: {escape(', '.join(request.attacks))}. Follow it in the table below, or with "
        f"<code>mia-hub submissions {escape(done.id)}</code>.</p></div>"
    )


def _listing():
    try:
        found = board_queue().listing()
    except MiaHubError as error:
        return gr.skip(), _problem(str(error))
    return table_rows(found), "" if found else "<p class='mia-sublabel'>Nothing was submitted yet.</p>"
