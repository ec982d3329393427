"""The components of the tab: what a visitor fills in, and where the answer stands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from gradio.components import Component

from mia_hub.checking.verdict_texts import few_nonmembers_warning
from mia_hub.metrics.candidates import FEWEST_FOR_CANDIDATES
from mia_hub.metrics.p_values import ENOUGH_NULL, FEWEST_NULL
from mia_hub.metrics.set_tests import FEWEST_IN_SET
from mia_hub.splits.loading import load_split
from mia_hub.system.sizes import size_text
from mia_hub.ui.check.answering import MOST_IMAGES, ONE_BY_ONE, QUESTIONS, model_name
from mia_hub.ui.check.checkers import DEMO
from mia_hub.ui.check.examples import PER_KIND, Examples, draw_examples, enlarged
from mia_hub.ui.check.outputs import EMPTY, piece
from mia_hub.ui.hardware import LARGEST_AT_HOME, largest_weights

SCRIPT = (Path(__file__).parent / "checks.js").read_text(encoding="utf-8")
CHANGED = piece("notice", "Your question has changed. Press Check for the answer.")
STOPPED = piece("notice", "Stopped. Press Check to run it again.")
PRIVACY = (
    "Images are scored on this server and never stored by it, logged, or sent anywhere else. "
    "An upload stays in a temporary file for about ten minutes."
)


@dataclass(frozen=True)
class Fields:
    """Build the fields and buttons of the tab."""

    image: gr.Image
    examples: list[tuple[gr.Gallery, Examples]]
    several: gr.File
    question: gr.Radio
    copies: gr.Checkbox
    model: gr.Textbox
    caption: gr.Textbox
    nonmembers: gr.File
    reference: gr.Textbox
    model_line: gr.HTML
    null_size: gr.HTML
    button: gr.Button

    @property
    def inputs(self) -> list[Component]:
        """In the order of the parameters of `mia_hub.ui.check.answering.check`."""
        return [self.image, self.several, self.model, self.nonmembers, self.question, self.caption, self.reference, self.copies]


@dataclass(frozen=True)
class Answer:
    """Where the answer stands.

    Attributes:
        stop: the button that cancels a check.
        table: of several images, also among the outputs.
        outputs: in the order of `mia_hub.ui.check.outputs.Outputs`. Their labels name the outputs of the API.
        offer, build: of a reference, where the model has none here.
        latest: number of the visitor's latest check; a change of the question counts as one, which gets no answer.
        answered: number of the check whose answer stands there.
    """

    stop: gr.Button
    table: gr.Dataframe
    outputs: list[Component]
    offer: gr.HTML
    build: gr.Button
    latest: gr.Number
    answered: gr.Number

    @property
    def verdict(self) -> Component:
        return self.outputs[0]

    @property
    def results(self) -> gr.JSON:
        results = self.outputs[-1]
        assert isinstance(results, gr.JSON)
        return results


def lay_out() -> tuple[Fields, Answer]:
    """Build the components, in two columns."""
    texts = {"empty": EMPTY, "changed": CHANGED, "stopped": STOPPED}
    model_line = gr.HTML(model_line_html(DEMO, None), js_on_load=SCRIPT, texts=texts, elem_id="model-line")
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=320):
            image = _image()
            with gr.Column(elem_classes="mia-example-box"):
                gr.HTML("<p class='mia-label'>Or try one whose answer is known</p>")
                examples = [(_gallery(each), each) for each in draw_examples()]
            with gr.Accordion("Several images at once", open=False):
                several = gr.File(label=f"Up to {MOST_IMAGES} images", file_count="multiple", elem_id="several", height=140)
                question = _question()
            with gr.Accordion("Another model", open=False):
                model, caption = _model(), _caption()
                nonmembers, null_size = _nonmembers()
                reference = _reference()
            copies = _copies()
            button = gr.Button("Check", variant="primary", elem_id="check")
            gr.Markdown(PRIVACY, elem_classes="mia-small")
        with gr.Column(scale=6, min_width=320, elem_id="answer", elem_classes="mia-answer-panel"):
            answer = _answer()
    return Fields(image, examples, several, question, copies, model, caption, nonmembers, reference, model_line, null_size, button), answer


def _answer() -> Answer:
    stop = gr.Button("Stop", size="sm", elem_id="stop")
    verdict = gr.HTML(EMPTY, label="Answer", elem_id="verdict")
    offer = gr.HTML(visible=False, elem_id="offer")
    build = gr.Button(visible=False, elem_id="build", size="sm")
    table = gr.Dataframe(visible=False, interactive=False, wrap=True, label="Select a row to see its curve", elem_id="table")
    outputs: list[Component] = [
        verdict,
        table,
        gr.HTML(visible=False, label="Score per timestep", elem_id="profile"),
        gr.HTML(visible=False, label="Figures", elem_id="figures"),
        gr.HTML(visible=False, label="What this does not mean", elem_id="caveats"),
        gr.HTML(visible=False, label="Download", elem_id="download"),
        # The browser keeps the answers, not the server.
        gr.JSON(visible="hidden", label="All of it", elem_id="results"),
    ]
    latest, answered = (gr.Number(0, precision=0, visible="hidden", elem_id=name) for name in ("latest", "answered"))
    return Answer(stop, table, outputs, offer, build, latest, answered)


def _image() -> gr.Image:
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
    image.preprocess = lambda payload: None if payload is None else payload.path  # type: ignore[method-assign]
    return image


def _gallery(examples: Examples) -> gr.Gallery:
    gr.HTML(piece("sublabel", examples.label))
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


def _question() -> gr.Radio:
    return gr.Radio(
        QUESTIONS,
        value=ONE_BY_ONE,
        label="Answer",
        info="As a set: were these images, taken together, in the training data? Many weak signs make one strong answer. "
        f"{FEWEST_IN_SET} images or more.",
        elem_id="question",
    )


def _copies() -> gr.Checkbox:
    return gr.Checkbox(
        False,
        label="It may be an altered copy, such as a mirrored one",
        info="Its mirror image is judged too, on models of pixels also the image at full contrast. The answer says which looks most like a "
        "training image. It takes "
        f"{FEWEST_FOR_CANDIDATES} known non-members; a set is compared as it is.",
        elem_id="copies",
    )


def _model() -> gr.Textbox:
    largest = largest_weights()
    limit = f" with weights up to {size_text(largest)}" if largest < LARGEST_AT_HOME else ""
    return gr.Textbox(
        DEMO,
        label="Model",
        max_lines=1,
        info=f"“demo”, or the Hub id of an image model{limit}, such as google/ddpm-cifar10-32; with a LoRA on top: base + lora. "
        "Enter starts a check.",
        elem_id="model",
    )


def _caption() -> gr.Textbox:
    return gr.Textbox(
        "",
        label="Caption",
        max_lines=1,
        info="For a model conditioned on text (or on classes): the caption of the images, such as a LoRA's trigger word. "
        "Leave it empty if you don't know.",
        elem_id="caption",
    )


def _nonmembers() -> tuple[gr.File, gr.HTML]:
    gr.Markdown(
        "For a verdict on another model, add images that are certainly not in its training set (for a LoRA, nor in that of its base), "
        f"of the same kind as yours: {ENOUGH_NULL} or more, since with fewer no image can get evidence. Images made after the model was "
        "published qualify, and your own that were never online. For some well-known models this page offers to score published ones.",
        elem_classes="mia-small",
    )
    nonmembers = gr.File(label="Known non-members", file_count="multiple", height=140, elem_id="nonmembers")
    return nonmembers, gr.HTML(visible=False, elem_id="null-size")


def _reference() -> gr.Textbox:
    return gr.Textbox(
        "",
        label="Or a reference",
        max_lines=1,
        info="Somebody may have published one: the name of a data set on the Hub, owner/name.",
        elem_id="reference",
    )


def model_line_html(model: str, nonmembers: list[str] | None) -> str:
    """Return the line that names the model of the answers."""
    model = model_name(model)
    if model == DEMO:
        description = f", a small model trained on {len(load_split(DEMO).members):,} greyscale images of clothing"
        description += ", with your non-members" if nonmembers else ""
    else:
        description = " from the Hub"
        description += ", with your non-members" if nonmembers else "; without a reference or non-members it gives a curve and no verdict"
    return piece("model_line", model, description)


def null_size_html(nonmembers: list[str] | None) -> gr.HTML:
    """Return what too few non-members mean, as soon as they are uploaded."""
    count = len(nonmembers or ())
    if 0 < count < FEWEST_NULL:
        text = f"{count} are too few: upload at least {FEWEST_NULL}, and {ENOUGH_NULL} or more for any image to get evidence."
    else:
        text = (few_nonmembers_warning(count) if count else None) or ""
    return gr.HTML(piece("problems", [text]) if text else "", visible=bool(text))
