"""The tab "Submit": submit a model or scores, and see where everything that was submitted stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from leaderboard.page.access import has_login
from leaderboard.page.api import submit_scores
from leaderboard.page.submitting import PARTS, listing_outputs, submission_outputs, whole_seed
from leaderboard.requests.intake import Draft
from leaderboard.requests.scores import LARGEST_SCORES
from leaderboard.requests.submission_text import HEADERS
from mia_hub.attacks import list_attacks
from mia_hub.rendering.html import fragment

A_MODEL, OWN_SCORES = KINDS = ("A model to audit", "Scores of my own attack")
REFRESH_SECONDS = 30
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
INTRODUCTION = (
    "Submit a public diffusion model to be audited by the leaderboard, or the scores of an attack of your own. Every figure is computed "
    "from the scores by this board, and scores of your own are marked as self-reported until they are reproduced. What you submit is "
    "public, with your name."
)


@dataclass(frozen=True)
class _Form:
    """The fields of a request, and its two buttons; ``shared`` are the fields of both kinds, by their names in a Draft."""

    kind: gr.Radio
    attacks: gr.Textbox
    scores: gr.File
    attack_name: gr.Textbox
    shared: dict[str, Component]
    of_model: gr.Column
    of_scores: gr.Column
    submit_model: gr.Button
    submit_scores: gr.Button


def build_submit_tab(tab: gr.Tab) -> None:
    """Build the tab; no store is opened before the tab is."""
    gr.HTML(fragment("lead_line", INTRODUCTION, template=PARTS))
    if has_login():
        gr.LoginButton(elem_id="login")
    form = _form()
    answer = gr.HTML(label="Answer", elem_id="submit-answer")
    submitted = gr.JSON(visible="hidden", label="The request")
    submissions = _submissions(tab)

    kinds = [form.of_model, form.of_scores, form.submit_model, form.submit_scores, answer]
    form.kind.change(_fields_of, form.kind, kinds, queue=False, **QUIET)

    def submit_form(values: dict[Component, Any], profile: gr.OAuthProfile | None, request: gr.Request) -> tuple[dict[str, Any], str]:
        fields = {name: values[field] for name, field in form.shared.items()}
        draft = Draft(**fields | {"attacks": values[form.attacks], "seed": whole_seed(fields["seed"])})
        return submission_outputs(draft, profile, None, request)

    # A set: the function is given a dictionary.
    submits_model = form.submit_model.click(
        submit_form, {form.attacks, *form.shared.values()}, [submitted, answer], api_visibility="private"
    )
    submits_scores = form.submit_scores.click(
        submit_scores, [form.scores, form.attack_name, *form.shared.values()], [submitted, answer], api_name="submit_scores"
    )
    for submits in (submits_model, submits_scores):
        submits.then(listing_outputs, None, submissions, queue=False, **QUIET)


def _form() -> _Form:
    kind = gr.Radio(KINDS, value=A_MODEL, label="Submission", elem_id="submit-kind")
    with gr.Row(equal_height=False):
        about = "“demo”, or the id of a public model on the Hub. With a LoRA on top: base + owner/lora."
        model = _line("Model", "google/ddpm-cifar10-32", about, "submit-model")
        revision = _revision("Revision of the model", "submit-revision")
    with gr.Row(equal_height=False):
        about = "“demo”, or the id of a public data set on the Hub that says which images are members."
        split = _line("Split", "owner/data-set", about, "submit-split")
        split_revision = _revision("Revision of the split", "submit-split-revision")
    with gr.Column() as of_model:
        attacks = gr.Textbox(
            label="Attacks",
            placeholder="sima pia:timesteps=200",
            info=f"One or several of these, with spaces between them; parameters after a colon. {', '.join(list_attacks())}.",
            elem_id="submit-attacks",
        )
    with gr.Column(visible=False) as of_scores:
        scores, attack_name = _scores()
    shared = {"model": model, "split": split, "revision": revision, "split_revision": split_revision} | _options()
    buttons = (
        gr.Button("Submit the model", variant="primary", elem_id="submit-go-model"),
        gr.Button("Submit the scores", variant="primary", visible=False, elem_id="submit-go-scores"),
    )
    return _Form(kind, attacks, scores, attack_name, shared, of_model, of_scores, *buttons)


def _line(label: str, placeholder: str, info: str, name: str) -> gr.Textbox:
    return gr.Textbox(label=label, placeholder=placeholder, max_lines=1, min_width=280, info=info, elem_id=name)


def _revision(label: str, name: str) -> gr.Textbox:
    return _line(label, "main", "Branch, tag or commit; empty for the newest.", name)


def _scores() -> tuple[gr.File, gr.Textbox]:
    scores = gr.File(label="Scores (Parquet)", height=140, elem_id="submit-scores")
    gr.Markdown(
        f"A table that `ScoreTable.to_parquet` wrote, with every image of the split, up to {LARGEST_SCORES // 2**20} MiB.",
        elem_classes="mia-small",
    )
    attack_name = gr.Textbox(
        label="Name of the attack",
        placeholder="my-attack (arXiv 2601.00000)",
        max_lines=1,
        info="As it is shown on the board.",
        elem_id="submit-attack-name",
    )
    return scores, attack_name


def _options() -> dict[str, Component]:
    with gr.Accordion("Captions, seed, note", open=False):
        info = "What a model that draws from text is conditioned on."
        return {
            "captions": gr.Radio(["split", "empty"], value="split", label="Captions", info=info, elem_id="submit-captions"),
            "seed": gr.Number(0, precision=0, minimum=0, label="Seed", info="Of noise, of the calibration part and of intervals."),
            "note": gr.Textbox(label="Note", max_lines=2, info="Shown beside the request.", elem_id="submit-note"),
            "push": gr.Checkbox(label="Offer the result to the model's repository as a pull request", elem_id="submit-push"),
        }


def _submissions(tab: gr.Tab) -> list[Component]:
    """Build the table of everything that was submitted; return it, and the place of its message."""
    gr.HTML("<h2 class='mia-label'>Everything that was submitted</h2>")
    with gr.Row():
        refresh = gr.Button("Refresh", scale=0, min_width=120, elem_id="submissions-refresh")
        often = gr.Checkbox(label=f"Refresh every {REFRESH_SECONDS} seconds", container=False, elem_id="submissions-often")
    problem = gr.HTML(elem_id="submissions-problem")
    table = gr.Dataframe(
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
    gr.on([tab.select, refresh.click, timer.tick], listing_outputs, None, [table, problem], **QUIET)
    often.change(lambda on: gr.Timer(active=on), often, timer, queue=False, **QUIET)
    return [table, problem]


def _fields_of(kind: str) -> tuple[gr.Column, gr.Column, gr.Button, gr.Button, str]:
    own = kind == OWN_SCORES
    return gr.Column(visible=not own), gr.Column(visible=own), gr.Button(visible=not own), gr.Button(visible=own), ""
