"""The tab "Check an image": a image goes in, a calibrated answer comes out."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from html import escape

import gradio as gr

from mia_hub.checking.checker import Checker, get_checker, readable
from mia_hub.checking.image_answers import ENOUGH_NULL, NOT_COMPARABLE, ImageCheck, smallest_p
from mia_hub.checking.image_pages import answer_html, caveats_html, checks_table, figures_html, q_explained, row_number
from mia_hub.checking.plots import profile_svg
from mia_hub.checking.set_answers import SetCheck
from mia_hub.checking.set_pages import set_figures_html, set_html
from mia_hub.errors import MiaHubError, ModelError
from mia_hub.images.image import InputImage
from mia_hub.metrics.p_values import FEWEST_NULL
from mia_hub.metrics.set_tests import FEWEST_IN_SET
from mia_hub.models.loading import load_model
from mia_hub.models.rows import default_rows
from mia_hub.models.shared import SharedModel
from mia_hub.splits.loading import load_split
from mia_hub.ui.examples import PER_KIND, Examples, draw_examples, enlarged, truth_html
from mia_hub.ui.hardware import is_zero_gpu, on_gpu

MOST_IMAGES = 200
# Questions that are answered at the same time; they share forward passes. Others see their place in the queue.
AT_ONCE = 16
ASKING = {"concurrency_limit": AT_ONCE, "concurrency_id": "ask"}
MOST_NONMEMBERS = 2000
ONE_BY_ONE, AS_A_SET = QUESTIONS = ("One by one", "As a set")
PRIVACY = (
    "Images are scored on this server and never stored by it, logged, or sent anywhere else. "
    "An upload lies in a temporary file for at most ten minutes or so."
)
# Gradio fills it in for each call.
SHOWN_PROGRESS = gr.Progress()
EMPTY = "<div class='mia-empty'><p>Upload or paste a image, or click one of the examples.</p></div>"
CHANGED = "<div class='mia-empty'><p>What is asked has changed. Press Check for the answer.</p></div>"
GIVEN_UP = "<div class='mia-empty'><p>Stopped. Press Check to ask again.</p></div>"
NO_FILE = "Upload or paste a image first, or click one of the examples."
# Questions under way in this browser are counted, so that they can be stopped. On a phone the answer stands below what asks for it.
BEGIN = """(...inputs) => {
    window.miaAsked = (window.miaAsked ?? 0) + 1;
    window.miaStopped = false;
    document.documentElement.classList.add("mia-asked");
    const answer = document.getElementById("answer");
    if (answer.getBoundingClientRect().top > 0.75 * window.innerHeight) answer.scrollIntoView();
    return inputs;
}"""
END = """() => {
    window.miaAsked = Math.max(0, (window.miaAsked ?? 0) - 1);
    if (!window.miaAsked) document.documentElement.classList.remove("mia-asked");
}"""
EMPTIED = "() => null"


def _without_answer(html: str) -> str:
    """JavaScript of the `outputs` of an answer where there is none, but a text, which an expression gives."""
    return f"[{html}, ...Array(5).fill({{__type__: 'update', visible: false}}), null]"


# An answer goes when what it answers changes, in the browser and at once, so that it can't be taken for the new one.
FORGET_ANSWER = "(image, several) => " + _without_answer(f"image || several?.length ? {json.dumps(CHANGED)} : {json.dumps(EMPTY)}")
# Of another model or caption than is asked now, of a image that is gone, or stopped: whatever happened before the answer came or after.
# (A model's name also changes with the answer to an example, which then is of that model.)
FORGET_OTHER_ANSWER = f"""(image, several, model, caption, found) => {{
    const asked = found?.model.id === (model.trim() || "demo") && (found?.caption ?? "") === caption.trim() && (image || several?.length);
    return !found || (asked && !window.miaStopped) ? Array(7).fill({{__type__: "update"}}) : ({FORGET_ANSWER})(image, several);
}}"""
# An answer under way would come to a question that is asked no more.
FORGET_ALL = f"""(image, several) => {{
    window.miaStopped = true;
    return ({FORGET_ANSWER})(image, several);
}}"""
STOP = f"""() => {{
    window.miaStopped = true;
    document.documentElement.classList.remove("mia-asked");
    return {_without_answer(json.dumps(GIVEN_UP))};
}}"""
NAMED_MODEL = "model => model.trim() || 'demo'"


def build_check_tab() -> None:
    examples = draw_examples()
    asking = gr.HTML(_asking("demo", None), elem_id="asking")
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=320):
            image = gr.Image(
                label="Your image",
                type="filepath",
                image_mode=None,
                format="png",
                sources=["upload", "clipboard"],
                height=220,
                buttons=[],
                elem_id="image",
            )
            # The upload's own bytes: our decoder opens them, with its limits and its messages, not Gradio's.
            image.preprocess = lambda payload: None if payload is None else payload.path
            with gr.Column(elem_classes="mia-example-box"):
                gr.HTML("<p class='mia-label'>Or try one of which the truth is known</p>")
                galleries = [_gallery(example) for example in examples]
            with gr.Accordion("Several images at once", open=False):
                several = gr.File(label=f"Up to {MOST_IMAGES} images", file_count="multiple", elem_id="several", height=140)
                question = gr.Radio(
                    QUESTIONS,
                    value=ONE_BY_ONE,
                    label="Answer",
                    info="As a set: were these images, taken together, in the training data? Many weak signs make one strong answer. "
                    f"{FEWEST_IN_SET} images or more.",
                    elem_id="question",
                )
            with gr.Accordion("Another model", open=False):
                model = gr.Textbox(
                    "demo",
                    label="Model",
                    max_lines=1,
                    info="“demo”, or the Hub id of an image model with weights up to 2 GiB, such as google/ddpm-cifar10-32; with a LoRA "
                    "on top: base + lora. Enter asks it.",
                    elem_id="model",
                )
                caption = gr.Textbox(
                    "",
                    label="Caption",
                    max_lines=1,
                    info="For a model that draws from text (or from classes): what it is told of the images, such as a LoRA's trigger "
                    "word. Leave it empty if you don't know.",
                    elem_id="caption",
                )
                gr.Markdown(
                    "For a verdict on another model, add images that are certainly not in its training set, of the same kind as yours: "
                    f"{ENOUGH_NULL} or more, since with fewer no image can get evidence.",
                    elem_classes="mia-small",
                )
                nonmembers = gr.File(label="Known non-members", file_count="multiple", height=140, elem_id="nonmembers")
                enough = gr.HTML(visible=False, elem_id="enough")
            button = gr.Button("Check", variant="primary", elem_id="check")
            gr.Markdown(PRIVACY, elem_classes="mia-small")
        with gr.Column(scale=6, min_width=320, elem_id="answer", elem_classes="mia-answer-panel"):
            stop = gr.Button("Stop", size="sm", elem_id="stop")
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
    inputs = [image, several, model, nonmembers, question, caption]

    quietly = {"api_name": False, "queue": False, "show_progress": "hidden"}
    examples_chosen = [gallery.select for gallery in galleries]
    # What an event starts is done in turn. Of the two ways in, the one used last counts; a new question gives up an earlier one.
    image.upload(None, None, several, js=EMPTIED, api_name=False)
    several.upload(None, None, image, js=EMPTIED, api_name=False)
    for begins in (button.click, model.submit, caption.submit, image.upload, several.upload, *examples_chosen):
        begins(drop, None, None, **quietly)
    # The last question counts, even while an earlier one is being given up.
    shown = {"js": BEGIN, "show_progress_on": answer, "trigger_mode": "always_last", **ASKING}
    asks = [button.click(check, inputs, outputs, api_name="check", **shown)]
    # Not `image.input`: it fires when the image is removed, too.
    for used in (model.submit, caption.submit, image.upload, several.upload):
        asks.append(used(_check_if_any, inputs, [*outputs, image], api_name=False, **shown))
    for chosen, example in zip(examples_chosen, examples):
        example_outputs = [*outputs, image, several, model, nonmembers, caption]
        asks.append(chosen(_example_check(example.images), None, example_outputs, api_name=False, show_progress="minimal", **shown))
    for asked in asks:
        asked.then(None, None, None, js=END, api_name=False)
        asked.failure(None, None, None, js=END, api_name=False)
    stop.click(None, None, outputs, js=STOP, api_name=False)
    stop.click(drop, None, None, **quietly)
    table.select(_show_row, found, [plot, figures, caveats], api_name=False, show_progress="hidden")
    image.clear(_empty, None, outputs, api_name=False, show_progress="hidden")
    gr.on(
        [model.change, caption.change, found.change],
        None,
        [image, several, model, caption, found],
        outputs,
        js=FORGET_OTHER_ANSWER,
        api_name=False,
    )
    for changes in (nonmembers.upload, nonmembers.clear, nonmembers.delete, several.clear, several.delete, question.input):
        # Not `drop`: it might reach the server after the next question has.
        changes(None, [image, several], outputs, js=FORGET_ALL, api_name=False)
    for leaves in (model.blur, model.submit):
        leaves(None, model, model, js=NAMED_MODEL, api_name=False)
    quietly["trigger_mode"] = "always_last"
    gr.on([model.change, nonmembers.change], _asking, [model, nonmembers], asking, **quietly)
    nonmembers.change(_enough, nonmembers, enough, **quietly)


def _gallery(examples: Examples) -> gr.Gallery:
    gr.HTML(f"<p class='mia-sublabel'>{escape(examples.label)}</p>")
    return gr.Gallery(
        [(enlarged(image), f"{examples.label}: {image.name}") for image in examples.images],
        label=examples.label,
        show_label=False,
        columns=PER_KIND,
        height="auto",
        allow_preview=False,
        object_fit="contain",
        format="png",
        interactive=False,
        buttons=[],
        elem_classes="mia-examples",
        elem_id=f"examples-{examples.kind}",
    )


def _asking(model: str, nonmembers: list[str] | None) -> str:
    """Which model the answers are of."""
    model = _named(model)
    if model == "demo":
        what = f", a small model trained on {len(load_split('demo').members):,} greyscale images of clothing"
        what += ", with your non-members" if nonmembers else ""
    else:
        what = " from the Hub" + (
            ", with your non-members" if nonmembers else "; without known non-members it gives a curve and no verdict"
        )
    return f"<p class='mia-asking'>Now asking: <strong>{escape(model)}</strong>{what}.</p>"


def _enough(nonmembers: list[str] | None):
    """What too few non-members mean, as soon as they are given."""
    count = len(nonmembers or ())
    if 0 < count < FEWEST_NULL:
        said = f"{count} are too few: give at least {FEWEST_NULL}, and {ENOUGH_NULL} or more for any image to get evidence."
    else:
        said = smallest_p(count) if count else None
    return gr.HTML(f"<p class='mia-problem'>{escape(said)}</p>" if said else "", visible=bool(said))


def _named(model: str | None) -> str:
    return (model or "").strip() or "demo"


def warm_up() -> None:
    """Loads the demo model while the page is being opened, so that the first answer doesn't wait for it."""
    if is_zero_gpu():
        # There a model moves to the GPU with the page's launch, and only if this thread has put it onto "cuda" by then.
        _demo_checker()
        return
    threading.Thread(target=_demo_checker, daemon=True).start()


# One model is loaded at a time: while diffusers and transformers are imported, or load weights, they change torch for all threads.
_loading = threading.Lock()
_demo: list[Checker] = []


def _demo_checker() -> Checker:
    # Once it is there, nobody waits for somebody else's download to ask it.
    if not _demo:
        with _loading:
            if not _demo:
                model = load_model("demo")
                checker = get_checker(SharedModel(model, default_rows(model)), progress=False)
                _ = checker.comparability, checker.reference.power
                _demo.append(checker)
    return _demo[0]


def check(
    image: str | None,
    several: list[str] | None,
    model: str,
    nonmembers: list[str] | None,
    question: str = ONE_BY_ONE,
    caption: str = "",
    progress=SHOWN_PROGRESS,
    request: gr.Request | None = None,
):
    """Was this image in the model's training set? Returns what the page shows; the last value has all of it as JSON.

    Args:
        image: the image.
        several: several images, checked together at a false-discovery rate of 5 %.
        model: "demo", or the Hub id of a diffusion model of images, with or without a LoRA on top ("base + lora").
        nonmembers: images certainly not in the model's training set; needed for a verdict on any model but the demo.
        question: "One by one", or "As a set": whether several images, taken together, were in the training data.
        caption: what a model that draws from text (or from classes) is told of the images; empty for nothing.
    """
    sources = ([] if image is None else [image]) + (several or [])
    if not sources:
        return _problem(NO_FILE)
    with _Visit(progress, request and request.session_hash) as visit:
        shown = _answer(sources, model, nonmembers, visit, question if several else ONE_BY_ONE, caption)
    return tuple(gr.skip() for _ in shown) if visit.dropped else shown


def _check_if_any(
    image: str | None,
    several: list[str] | None,
    model: str,
    nonmembers: list[str] | None,
    question: str,
    caption: str,
    progress=SHOWN_PROGRESS,
    request: gr.Request | None = None,
):
    """`check`, and the image; there is no answer where none is there."""
    shown = check(image, several, model, nonmembers, question, caption, progress, request) if image or several else _empty()
    # The browser would show what can't be read as a broken image.
    broken = shown[0] != gr.skip() and image is not None and not readable([image])[0]
    return *shown, None if broken else gr.skip()


def _example_check(images: Sequence[InputImage]):
    def check(event: gr.SelectData, request: gr.Request):
        image = images[event.index]
        with _Visit(None, request.session_hash) as visit:
            shown = *_answer([image], "demo", None, visit), image.to_pil(), None, "demo", None, ""
        return tuple(gr.skip() for _ in shown) if visit.dropped else shown

    return check


def _answer(sources: list, model: str, nonmembers: list[str] | None, progress, question: str = ONE_BY_ONE, caption: str = ""):
    """All outputs, from images and a model; what goes wrong becomes a message on the page."""
    if len(sources) > MOST_IMAGES:
        return _problem(
            f"{len(sources)} images are too many at once; the page takes up to {MOST_IMAGES}. The command line takes any number."
        )
    good, problems = readable(sources)
    if not good:
        return _problem(*problems)
    if nonmembers and len(nonmembers) > MOST_NONMEMBERS:
        return _problem(f"{len(nonmembers)} non-member images are too many for this page; up to {MOST_NONMEMBERS} are taken.", *problems)
    known, unreadable = readable(nonmembers or [])
    problems += [f"Left out of the non-members: {problem}" for problem in unreadable]
    if nonmembers and not known:
        return _problem(*problems)
    caption = caption.strip() or None
    found = _ask(good, _named(model), known, caption, question, progress)
    if isinstance(found, str):
        return _problem(found, *problems)
    if isinstance(found, SetCheck):
        return _set_shown(found.without(len(sources) - len(good)), caption, problems)
    return _shown(found | {"caption": caption or ""}, problems)


def _seconds(images: list, model: str, nonmembers: list, *_) -> int:
    """How long `_ask` takes at most, on a GPU; another model than the demo may have to be fetched first."""
    return 30 if model == "demo" else 120 + (len(images) + len(nonmembers)) // 10


@on_gpu(_seconds)
def _ask(images: list, model: str, nonmembers: list, caption: str | None, question: str, progress) -> dict | SetCheck | str:
    """What a model answers: as `Checker.to_dict` or `Checker.check_set` give it, or what went wrong, in words."""
    try:
        checker = _checker(model, nonmembers, caption, progress)
        asked = {"captions": caption, "progress": False, "on_batch": _follow(progress, "Scoring")}
        if question == AS_A_SET:
            return checker.check_set(images, **asked)
        return checker.to_dict(checker.check(images, **asked))
    except MiaHubError as error:
        return str(error)


def _set_shown(found: SetCheck, caption: str | None, problems: list[str]):
    """All outputs, from the answer for a set."""
    notes = "".join(f"<p class='mia-problem'>{escape(problem)}</p>" for problem in problems)
    everything = {"set": found.to_dict(), "model": {"id": found.model}, "caption": caption or ""}
    return (
        gr.HTML(f"{set_html(found)}{notes}"),
        gr.Dataframe(visible=False),
        gr.HTML(visible=False),
        gr.HTML(set_figures_html(found), visible=True),
        gr.HTML(caveats_html(found), visible=True),
        gr.HTML(_download_link(everything), visible=True),
        everything,
    )


def _shown(found: dict, problems: list[str]):
    """All outputs, from answers as `Checker.to_dict` gives them."""
    checks = [ImageCheck.from_entry(entry, found["reference"]) for entry in found["images"]]
    notes = "".join(f"<p class='mia-problem'>{escape(problem)}</p>" for problem in problems)
    if len(checks) == 1:
        first = checks[0]
        shown = gr.HTML(f"{answer_html(first)}{truth_html(first, found['reference'])}{notes}"), gr.Dataframe(visible=False)
    else:
        headers, rows = checks_table(checks)
        first = checks[row_number(rows[0])]
        shown = gr.HTML(_together(checks) + notes), gr.Dataframe(rows, headers=headers, visible=True)
    return *shown, *_details(first, found, of_several=len(checks) > 1), gr.HTML(_download_link(found), visible=True), found


def _together(checks: list[ImageCheck]) -> str:
    """What can be said of several images at once."""
    evidence = sum(check.verdict == "evidence" for check in checks)
    judged = sum(check.q_value is not None for check in checks)
    headline = f"{len(checks)} images checked together on the model {checks[0].model}: evidence of membership for {evidence or 'none'}."
    explained = f"<p class='mia-sublabel'>{escape(q_explained(judged))}</p>" if judged else ""
    return f"<p class='mia-several'>{escape(headline)}</p>{explained}"


def _details(check: ImageCheck, found: dict, *, of_several: bool = False):
    profile, judged = check.profile, check.p_value is not None
    if check.verdict == NOT_COMPARABLE:
        # Bands of images of another kind would invite the comparison that can't be made.
        profile = replace(profile, members=None, nonmembers=None)
    plot = f"<div class='mia-plot'>{profile_svg(profile, check.timestep, title=check.name, judged=judged)}</div>{_curve_note(check)}"
    if of_several:
        plot = f"<h3 class='mia-image'>{escape(check.name)}</h3>{answer_html(check)}{truth_html(check, found['reference'])}{plot}"
    return gr.HTML(plot, visible=True), gr.HTML(figures_html(check), visible=True), gr.HTML(caveats_html(check), visible=True)


def _curve_note(check: ImageCheck) -> str:
    """What the curve is not, where the verdict is made of another score than the curve's."""
    curve = dict(zip(check.profile.timesteps, check.profile.scores))
    if check.p_value is None or check.score == curve.get(check.timestep):
        return ""
    said = f"The curve is plain SimA's score. The verdict is made by {check.attack}, which also asks how hard the image is."
    return f"<p class='mia-sublabel'>{escape(said)}</p>"


def _show_row(found: dict, event: gr.SelectData):
    # A sorted table hands over the displayed row, so the image is found by its number.
    return _details(ImageCheck.from_entry(found["images"][row_number(event.row_value)], found["reference"]), found, of_several=True)


def _empty():
    return _message(EMPTY)


def _problem(*messages: str):
    return _message("".join(f"<p class='mia-problem' role='alert'>{escape(message)}</p>" for message in messages))


def _message(html: str):
    """All outputs, where there is no answer."""
    hidden = [gr.HTML(visible=False)] * 4
    return gr.HTML(html), gr.Dataframe(visible=False), *hidden, None


def _checker(model: str, nonmembers: list[str] | None, caption: str | None, progress) -> Checker:
    if model != "demo" and not re.fullmatch(r"[\w.-]+/[\w.-]+( \+ [\w.-]+/[\w./@-]+)?", model):
        raise ModelError(f"{model!r} is not a model that can be checked here; give 'demo' or a Hub id of the form 'owner/name'.")
    if model == "demo" and not nonmembers:
        return _demo_checker()
    demo = _demo_checker()
    loaded = demo.model if model == "demo" else _hub_model(model, progress)
    null = {"nonmembers": nonmembers or None, "nonmember_captions": caption if nonmembers else None}
    return Checker(loaded, **null, progress=False, on_batch=_follow(progress, "Scoring the non-members"))


_hub_models: dict[str, SharedModel] = {}


def _hub_model(name: str, progress) -> SharedModel:
    """The model loaded last is kept: people check several images with one model."""
    say = (lambda: None) if progress is None else partial(progress, 0, desc=f"Loading {name}")
    say()
    with _loading:
        # Whoever has left while others' models were loaded doesn't load another.
        say()
        if name not in _hub_models:
            # Two large ones may not fit.
            _hub_models.clear()
            model = load_model(name, trusted=False)
            _hub_models[name] = SharedModel(model, default_rows(model))
        return _hub_models[name]


def _follow(progress, what: str):
    return None if progress is None else lambda done, total: progress((done, total), desc=what, unit="images")


class _Visit:
    """A question under way: shows its progress to a visitor, and ends the work for one who leaves."""

    def __init__(self, progress: gr.Progress | None, session: str | None):
        self._progress, self.session = progress, session
        self.left = self.dropped = False

    def __enter__(self) -> _Visit:
        _under_way.add(self)
        return self

    def __exit__(self, *_) -> None:
        _under_way.remove(self)

    def __call__(self, *args, **kwargs) -> None:
        if self.left:
            # A page that a sleeping laptop or a proxy has disconnected is open still.
            raise MiaHubError("The connection to this page broke off, and the question was given up. Press Check to ask it again.")
        if self._progress is not None:
            self._progress(*args, **kwargs)


_under_way: set[_Visit] = set()


def leave(request: gr.Request) -> None:
    """What is still being scored for a visitor who has closed the page is given up after the batch at hand."""
    for visit in _visits_of(request):
        visit.left = True


def drop(request: gr.Request) -> None:
    """As `leave`, for a visitor who has changed the question; nothing is shown then."""
    for visit in _visits_of(request):
        visit.left = visit.dropped = True


def _visits_of(request: gr.Request) -> list[_Visit]:
    return [visit for visit in tuple(_under_way) if visit.session == request.session_hash]


def _download_link(found: dict) -> str:
    # The file travels inside the link, so that nothing about the image is written to the server's disk.
    data = base64.b64encode(json.dumps(found, indent=2).encode()).decode()
    return f"<a class='mia-download' download='membership-check.json' href='data:application/json;base64,{data}'>Download as JSON</a>"
