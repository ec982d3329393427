"""The tab "Check an image": a picture goes in, a calibrated answer comes out."""

from __future__ import annotations

import base64
import json
import re
import threading
from html import escape
from itertools import islice

import gradio as gr
import numpy as np
from PIL import Image

from mia_hub.calibration import ImageCheck
from mia_hub.check import Checker, demo_reference, get_checker, readable
from mia_hub.errors import MiaHubError, ModelError
from mia_hub.images import Picture
from mia_hub.models.loading import load_model
from mia_hub.plots import profile_svg
from mia_hub.render import answer_html, caveats_html, checks_table, figures_html
from mia_hub.splits import load_split

GALLERY_SIZE = 6
GALLERY_SEED = 7
GALLERY_PIXELS = 112
MOST_PICTURES = 200
MOST_NONMEMBERS = 2000
PRIVACY = (
    "Pictures are scored on this server and never stored by it, logged, or sent anywhere else. "
    "An upload lies in a temporary file for at most ten minutes or so."
)
EMPTY = "<div class='mia-empty'><p>Upload or paste a picture, or click one of the examples.</p></div>"
NO_FILE = "Upload or paste a picture first, or click one of the examples."
# On a phone the answer stands below what asks for it.
SHOW_ANSWER = """() => {
    const answer = document.getElementById("answer");
    if (answer.getBoundingClientRect().top > 0.75 * window.innerHeight) answer.scrollIntoView();
}"""


def build_check_tab() -> None:
    examples = _examples()
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=320):
            image = gr.Image(
                label="Your picture",
                type="filepath",
                image_mode=None,
                format="png",
                sources=["upload", "clipboard"],
                height=220,
                buttons=[],
                elem_id="picture",
            )
            # The upload's own bytes: our decoder opens them, with its limits and its messages, not Gradio's.
            image.preprocess = lambda payload: None if payload is None else payload.path
            with gr.Column(elem_classes="mia-example-box"):
                gr.HTML("<p class='mia-label'>Or try one of which the answer is known</p>")
                galleries = [_gallery(*example) for example in examples]
            with gr.Accordion("Several pictures at once", open=False):
                several = gr.File(label=f"Up to {MOST_PICTURES} pictures", file_count="multiple", elem_id="several", height=140)
            with gr.Accordion("Another model", open=False):
                model = gr.Textbox(
                    "demo",
                    label="Model",
                    max_lines=1,
                    info="“demo”, or the Hub id of an unconditional pixel model, such as google/ddpm-cifar10-32.",
                    elem_id="model",
                )
                gr.Markdown(
                    "For a verdict, add pictures that are certainly not in its training set, of the same kind as yours: 99 or more. "
                    "Without them the page shows the score curve of another model, and no verdict.",
                    elem_classes="mia-small",
                )
                nonmembers = gr.File(label="Known non-members", file_count="multiple", height=140, elem_id="nonmembers")
            button = gr.Button("Check", variant="primary", elem_id="check")
            gr.Markdown(PRIVACY, elem_classes="mia-small")
        with gr.Column(scale=6, min_width=320, elem_id="answer", elem_classes="mia-answer-panel"):
            # The labels name the outputs of the API.
            answer = gr.HTML(EMPTY, label="Answer", elem_id="verdict")
            table = gr.Dataframe(visible=False, interactive=False, wrap=True, label="Select a row to see its curve", elem_id="table")
            plot = gr.HTML(visible=False, label="Score per timestep", elem_id="profile")
            figures = gr.HTML(visible=False, label="Figures", elem_id="figures")
            caveats = gr.HTML(visible=False, label="What this does not mean", elem_id="caveats")
            download = gr.HTML(visible=False, label="Download", elem_id="download")
    # The browser keeps the answers, not the server.
    found = gr.JSON(visible="hidden", label="All of it", elem_id="found")
    outputs = [answer, table, plot, figures, caveats, download, found]
    inputs = [image, several, model, nonmembers]

    button.click(_check, inputs, outputs, api_name="check", show_progress_on=answer)
    # Of the two ways in, the one used last counts: the other is emptied. Not `image.input`: it fires when the picture is removed, too.
    image.upload(_check_one, [image, model, nonmembers], [*outputs, several], api_name=False, show_progress_on=answer)
    image.clear(_empty, None, outputs, api_name=False, show_progress="hidden")
    several.upload(_check_several, [several, model, nonmembers], [*outputs, image], api_name=False, show_progress_on=answer)
    table.select(_show_row, found, [plot, figures, caveats], api_name=False, show_progress="hidden")
    for gallery, (_, _, pictures) in zip(galleries, examples):
        gallery.select(
            _example_check(pictures),
            None,
            [*outputs, image, several, model],
            api_name=False,
            show_progress_on=answer,
            show_progress="minimal",
        )
    for asks in (button.click, image.upload, several.upload, *(gallery.select for gallery in galleries)):
        asks(None, None, None, js=SHOW_ANSWER, api_name=False)


def _gallery(kind: str, label: str, pictures: list[Picture]) -> gr.Gallery:
    gr.HTML(f"<p class='mia-sublabel'>{escape(label)}</p>")
    return gr.Gallery(
        [(_enlarged(picture), f"{label}: {picture.name}") for picture in pictures],
        label=label,
        show_label=False,
        columns=GALLERY_SIZE,
        height="auto",
        allow_preview=False,
        object_fit="contain",
        format="png",
        interactive=False,
        buttons=[],
        elem_classes="mia-examples",
        elem_id=f"examples-{kind}",
    )


def warm_up() -> None:
    """Loads the demo model while the page is being opened, so that the first answer doesn't wait for it."""
    threading.Thread(target=_demo_checker, daemon=True).start()


_warming = threading.Lock()


def _demo_checker() -> Checker:
    # One thread at a time: diffusers breaks when two import it at once, and the model is wanted only once.
    with _warming:
        checker = get_checker("demo")
        _ = checker.comparability
    return checker


def _check(image: str | None, several: list[str] | None, model: str, nonmembers: list[str] | None, progress=gr.Progress()):  # noqa: B008
    """Was this picture in the model's training set? Returns what the page shows; the last value has all of it as JSON.

    Args:
        image: the picture.
        several: several pictures, checked together at a false-discovery rate of 5 %.
        model: "demo", or the Hub id of an unconditional pixel diffusion model.
        nonmembers: pictures certainly not in the model's training set; needed for a verdict on any model but the demo.
    """
    sources = ([] if image is None else [image]) + (several or [])
    return _answer(sources, model, nonmembers, progress) if sources else _problem(NO_FILE)


def _check_one(image: str | None, model: str, nonmembers: list[str] | None, progress=gr.Progress()):  # noqa: B008
    return *_check(image, None, model, nonmembers, progress), None


def _check_several(several: list[str] | None, model: str, nonmembers: list[str] | None, progress=gr.Progress()):  # noqa: B008
    return *_check(None, several, model, nonmembers, progress), None


def _example_check(pictures: list[Picture]):
    def check(event: gr.SelectData):
        picture = pictures[event.index]
        return *_answer([picture], "demo", None, None), picture.to_pil(), None, "demo"

    return check


def _answer(sources: list, model: str, nonmembers: list[str] | None, progress):
    """All outputs, from pictures and a model; what goes wrong becomes a message on the page."""
    try:
        if len(sources) > MOST_PICTURES:
            raise MiaHubError(
                f"{len(sources)} pictures are too many at once; the page takes up to {MOST_PICTURES}. The command line takes any number."
            )
        good, problems = readable(sources)
        if not good:
            return _problem(*problems)
        checker = _checker((model or "").strip() or "demo", nonmembers, progress)
        checks = checker.check(good, progress=False, on_batch=_follow(progress, "Scoring"))
    except MiaHubError as error:
        return _problem(str(error))
    found = checker.to_dict(checks)
    notes = "".join(f"<p class='mia-problem'>{escape(problem)}</p>" for problem in problems)
    if len(checks) == 1:
        shown = gr.HTML(answer_html(checks[0]) + notes), gr.Dataframe(visible=False)
    else:
        headers, rows = checks_table(checks)
        evidence = sum(check.verdict == "evidence" for check in checks)
        headline = f"<p class='mia-several'>{len(checks)} pictures checked together: evidence of membership for {evidence or 'none'}.</p>"
        shown = gr.HTML(headline + notes), gr.Dataframe(rows, headers=headers, visible=True)
    return *shown, *_details(checks[0], of_several=len(checks) > 1), gr.HTML(_download_link(found), visible=True), found


def _details(check: ImageCheck, *, of_several: bool = False):
    plot = f"<div class='mia-plot'>{profile_svg(check.profile, check.timestep, title=check.name, judged=check.p_value is not None)}</div>"
    if of_several:
        plot = f"<h3 class='mia-picture'>{escape(check.name)}</h3>{answer_html(check)}{plot}"
    return gr.HTML(plot, visible=True), gr.HTML(figures_html(check), visible=True), gr.HTML(caveats_html(check), visible=True)


def _show_row(found: dict, event: gr.SelectData):
    # A sorted table hands over the displayed row, so the picture is found by its number, the first cell.
    check = ImageCheck.from_entry(found["images"][int(event.row_value[0]) - 1], found["reference"])
    return _details(check, of_several=True)


def _empty():
    return _message(EMPTY)


def _problem(*messages: str):
    return _message("".join(f"<p class='mia-problem' role='alert'>{escape(message)}</p>" for message in messages))


def _message(html: str):
    """All outputs, where there is no answer."""
    hidden = [gr.HTML(visible=False)] * 4
    return gr.HTML(html), gr.Dataframe(visible=False), *hidden, None


def _checker(model: str, nonmembers: list[str] | None, progress) -> Checker:
    if model != "demo" and not re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        raise ModelError(f"{model!r} is not a model that can be checked here; give 'demo' or a Hub id of the form 'owner/name'.")
    if nonmembers and len(nonmembers) > MOST_NONMEMBERS:
        raise MiaHubError(f"{len(nonmembers)} non-member pictures are too many for this page; up to {MOST_NONMEMBERS} are taken.")
    if model == "demo" and not nonmembers:
        return _demo_checker()
    if progress is not None:
        progress(0, desc=f"Loading {model}")
    demo = _demo_checker()
    loaded = demo.model if model == "demo" else _hub_model(model)
    return Checker(loaded, nonmembers=nonmembers or None, progress=False, on_batch=_follow(progress, "Scoring the non-members"))


_hub_models: dict[str, object] = {}


def _hub_model(name: str):
    """The model loaded last is kept: people check several pictures with one model."""
    model = _hub_models.get(name)
    if model is None:
        model = load_model(name, trusted=False)
        _hub_models.clear()
        _hub_models[name] = model
    return model


def _follow(progress, what: str):
    return None if progress is None else lambda done, total: progress((done, total), desc=what, unit="pictures")


def _download_link(found: dict) -> str:
    # The file travels inside the link, so that nothing about the picture is written to the server's disk.
    data = base64.b64encode(json.dumps(found, indent=2).encode()).decode()
    return f"<a class='mia-download' download='membership-check.json' href='data:application/json;base64,{data}'>Download as JSON</a>"


def _examples() -> list[tuple[str, str, list[Picture]]]:
    """Known members and non-members of the demo, from the part that chose nothing, by a seeded draw."""
    split = load_split("demo")
    reported = set(demo_reference(split).table.ids)
    examples = []
    for kind, label, part in (("member", "In its training set", split.members), ("nonmember", "Not in its training set", split.nonmembers)):
        shuffled = (part[int(row)] for row in np.random.default_rng(GALLERY_SEED).permutation(len(part)))
        examples.append((kind, label, list(islice((picture for picture in shuffled if picture.id in reported), GALLERY_SIZE))))
    return examples


def _enlarged(picture: Picture) -> Image.Image:
    return picture.to_pil().resize((GALLERY_PIXELS, GALLERY_PIXELS), Image.Resampling.NEAREST)
