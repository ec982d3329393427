"""The tab "Check an image": a picture goes in, a calibrated answer comes out."""

from __future__ import annotations

import base64
import json
import re
import threading
from html import escape

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

GALLERY_SIZE = 8
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


class UploadedImage(gr.Image):
    """Hands over the upload's path as it is: our own decoder opens it, with its limits and its messages."""

    def preprocess(self, payload):
        return None if payload is None else payload.path


def build_check_tab() -> None:
    examples = _examples()
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=320):
            image = UploadedImage(
                label="Your picture", type="filepath", image_mode=None, sources=["upload", "clipboard"], height=240, elem_id="picture",
                buttons=[],
            )  # fmt: skip
            galleries = [
                gr.Gallery(
                    [(_enlarged(picture), caption) for picture in pictures], label=label, columns=GALLERY_SIZE // 2, rows=2, height="auto",
                    allow_preview=False, object_fit="contain", interactive=False, buttons=[], elem_classes="mia-examples", elem_id=f"examples-{kind}",
                )
                for kind, label, caption, pictures in examples
            ]  # fmt: skip
            with gr.Accordion("Several pictures at once", open=False):
                several = gr.File(label=f"Up to {MOST_PICTURES} pictures", file_count="multiple", elem_id="several", height=140)
            with gr.Accordion("Another model", open=False):
                model = gr.Textbox(
                    "demo", label="Model", max_lines=1, elem_id="model",
                    info="“demo”, or the Hub id of an unconditional pixel model, such as google/ddpm-cifar10-32.",
                )  # fmt: skip
                nonmembers = gr.File(
                    label="Pictures certainly not in its training set, of the same kind as yours (99 or more)", file_count="multiple",
                    elem_id="nonmembers", height=140,
                )  # fmt: skip
                gr.Markdown("Without such pictures the page shows the score curve of another model, and no verdict.")
            button = gr.Button("Check", variant="primary", elem_id="check")
            gr.Markdown(PRIVACY, elem_classes="mia-privacy")
        with gr.Column(scale=6, min_width=320, elem_id="answer"):
            answer = gr.HTML(EMPTY, elem_id="verdict")
            table = gr.Dataframe(visible=False, interactive=False, wrap=True, label="Select a row to see its curve", elem_id="table")
            plot = gr.HTML(visible=False, elem_id="profile")
            figures = gr.HTML(visible=False, elem_id="figures")
            caveats = gr.HTML(visible=False, elem_id="caveats")
            download = gr.HTML(visible=False, elem_id="download")
    checks = gr.State(None, time_to_live=3600)
    outputs = [answer, table, plot, figures, caveats, download, checks]
    inputs = [image, several, model, nonmembers]

    button.click(_check, inputs, outputs, api_name="check", show_progress_on=answer)
    image.input(_check, inputs, outputs, api_name=False, show_progress_on=answer)
    several.upload(_check_several, inputs, outputs, api_name=False, show_progress_on=answer)
    table.select(_show_row, checks, [plot, figures, caveats], api_name=False, show_progress="hidden")
    for gallery, (_, _, _, pictures) in zip(galleries, examples):
        gallery.select(
            _example_check(pictures), None, [*outputs, image, model], api_name=False, show_progress_on=answer, show_progress="minimal"
        )


def warm_up() -> None:
    """Loads the demo model while the page is being opened, so that the first answer doesn't wait for it."""
    threading.Thread(target=lambda: get_checker("demo").comparability, daemon=True).start()


def _check(image: str | None, several: list[str] | None, model: str, nonmembers: list[str] | None, progress=gr.Progress()):  # noqa: B008
    """Was this picture in the model's training set? Returns the answer, the score per timestep, and what the answer doesn't mean.

    Args:
        image: the picture.
        several: several pictures, checked together at a false-discovery rate of 5 %; used when no single picture is given.
        model: "demo", or the Hub id of an unconditional pixel diffusion model.
        nonmembers: pictures certainly not in the model's training set; needed for a verdict on any model but the demo.
    """
    if image is None and not several:
        return _problem(NO_FILE)
    return _answer([image] if image is not None else several, model, nonmembers, progress)


def _check_several(image: str | None, several: list[str] | None, model: str, nonmembers: list[str] | None, progress=gr.Progress()):  # noqa: B008
    return _answer(several, model, nonmembers, progress)


def _example_check(pictures: list[Picture]):
    def check(event: gr.SelectData):
        picture = pictures[event.index]
        return *_answer([picture], "demo", None, None), _enlarged(picture), "demo"

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
        headline = f"<p class='mia-several'>{len(checks)} pictures checked together: evidence of membership for {evidence}.</p>"
        shown = gr.HTML(headline + notes), gr.Dataframe(rows, headers=headers, visible=True)
    return *shown, *_details(checks[0]), gr.HTML(_download_link(found), visible=True), checks


def _details(check: ImageCheck):
    heading = f"<h3>{escape(check.name)}</h3>"
    return (
        gr.HTML(f"<div class='mia-plot'>{profile_svg(check.profile, check.timestep)}</div>", visible=True),
        gr.HTML(heading + figures_html(check), visible=True),
        gr.HTML(caveats_html(check), visible=True),
    )


def _show_row(checks: list[ImageCheck] | None, event: gr.SelectData):
    # A sorted table hands over the displayed row, so the picture is found by its number, the first cell.
    number = int(event.row_value[0])
    return _details(checks[number - 1]) if checks and number <= len(checks) else (gr.skip(),) * 3


def _problem(*messages: str):
    text = "".join(f"<p class='mia-problem' role='alert'>{escape(message)}</p>" for message in messages)
    hidden = [gr.HTML(visible=False)] * 4
    return gr.HTML(text), gr.Dataframe(visible=False), *hidden, None


def _checker(model: str, nonmembers: list[str] | None, progress) -> Checker:
    if model != "demo" and not re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        raise ModelError(f"{model!r} is not a model that can be checked here; give 'demo' or a Hub id of the form 'owner/name'.")
    if nonmembers and len(nonmembers) > MOST_NONMEMBERS:
        raise MiaHubError(f"{len(nonmembers)} non-member pictures are too many for this page; up to {MOST_NONMEMBERS} are taken.")
    if model == "demo" and not nonmembers:
        return get_checker("demo")
    if progress is not None:
        progress(0, desc=f"Loading {model}")
    loaded = _hub_model(model) if model != "demo" else get_checker("demo").model
    return Checker(loaded, nonmembers=nonmembers or None, progress=False, on_batch=_follow(progress, "Scoring the non-members"))


_hub_models: dict[str, object] = {}


def _hub_model(name: str):
    """The model loaded last is kept: people check several pictures with one model."""
    if name not in _hub_models:
        model = load_model(name, allow_folders=False)
        _hub_models.clear()
        _hub_models[name] = model
    return _hub_models[name]


def _follow(progress, what: str):
    return None if progress is None else lambda done, total: progress((done, total), desc=what, unit="pictures")


def _download_link(found: dict) -> str:
    # The file travels inside the link, so that nothing about the picture is written to the server's disk.
    data = base64.b64encode(json.dumps(found, indent=2).encode()).decode()
    return f"<a class='mia-download' download='membership-check.json' href='data:application/json;base64,{data}'>Download as JSON</a>"


def _examples() -> list[tuple[str, str, str, list[Picture]]]:
    """Known members and non-members of the demo, from the part that chose nothing, by a seeded draw."""
    split = load_split("demo")
    reference = demo_reference(split)
    known = {sample: label for sample, label in zip(reference.table.ids, reference.table.is_member)}
    chosen = []
    for kind, label, caption, part, wanted in (
        ("member", "In the demo's training set", "", split.members, 1),
        ("nonmember", "Not in its training set", "", split.nonmembers, 0),
    ):
        pictures = []
        for row in np.random.default_rng(GALLERY_SEED).permutation(len(part)):
            if known.get(part[row].id) == wanted:
                pictures.append(part[row])
            if len(pictures) == GALLERY_SIZE:
                break
        chosen.append((kind, label, caption, pictures))
    return chosen


def _enlarged(picture: Picture) -> Image.Image:
    return picture.to_pil().resize((GALLERY_PIXELS, GALLERY_PIXELS), Image.Resampling.NEAREST)
