"""From the fields of the tab to an answer, or to the message that says why there is none."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from mia_hub.checking.checks import readable_images
from mia_hub.checking.image_answers import ImageCheck
from mia_hub.checking.set_answers import SetCheck
from mia_hub.errors import MiaHubError
from mia_hub.ui.check.checkers import DEMO, batch_progress, checker_for, demo_checker, keep_what_is_loaded
from mia_hub.ui.check.examples import draw_examples
from mia_hub.ui.check.offers import accept_offer, offer_values
from mia_hub.ui.check.outputs import Outputs, answer_outputs, details_html, problem_outputs, set_outputs
from mia_hub.ui.check.running import RunningCheck, session_of
from mia_hub.ui.hardware import is_zero_gpu, on_gpu

MOST_IMAGES = 200
MOST_NONMEMBERS = 2000
ONE_BY_ONE, AS_A_SET = QUESTIONS = ("One by one", "As a set")
NO_FILE = "Upload or paste an image first, or click one of the examples."
# Gradio fills it in for each call.
SHOWN_PROGRESS = gr.Progress()


@dataclass(frozen=True)
class Question:
    """A question of a visitor.

    Attributes:
        images: to check: paths, or images.
        model: "demo", or a Hub id.
        nonmembers: paths of images certainly not in the model's training set.
        caption: that the model is conditioned on, for all images.
        as_set: whether the images get one answer together.
        reference: name of a reference on the Hub.
        copies: whether the images may be altered copies of training images.
        build: whether a reference is built or fetched first, where the model is a well-known one.
        session: the visitor's.
    """

    images: list[Any]
    model: str = DEMO
    nonmembers: list[Any] | None = None
    caption: str | None = None
    as_set: bool = False
    reference: str | None = None
    copies: bool = False
    build: bool = False
    session: str | None = None


def warm_up(*, keep: bool = False) -> None:
    """Load the demo model and answer a question while the page is being opened, so that later questions don't wait for what is slow once.

    On ZeroGPU it is loaded alone.

    Args:
        keep: whether this process serves the page and nothing else, so that what is loaded by then is kept until it ends.
    """
    if is_zero_gpu():
        # There a model moves to the GPU with the page's launch, and only if this thread has put it onto "cuda" by then.
        demo_checker()
        return
    threading.Thread(target=_answer_and_keep if keep else answer_example, daemon=True).start()


def _answer_and_keep() -> None:
    answer_example()
    keep_what_is_loaded()


def answer_example() -> dict[str, Any]:
    """Return the demo's answer to an example, drawn once. No component is made of it: a page that is being built would take it over."""
    results = _query_model(Question([draw_examples()[0].images[0]]), None)[0]
    assert isinstance(results, dict), results
    details_html(ImageCheck.from_entry(results["images"][0], results["reference"]), results)
    return results


def check(
    image: str | None,
    several: list[str] | None,
    model: str,
    nonmembers: list[str] | None,
    question: str = ONE_BY_ONE,
    caption: str = "",
    reference: str = "",
    copies: bool = False,
    progress: Any = SHOWN_PROGRESS,
    request: gr.Request | None = None,
) -> Outputs:
    """Was this image in the model's training set? Returns what the page shows; the last value has all of it as JSON.

    Args:
        image: the image.
        several: several images, checked together at a false-discovery rate of 5 %.
        model: "demo", or the Hub id of a diffusion model of images, with or without a LoRA on top ("base + lora").
        nonmembers: images certainly not in the model's training set; needed for a verdict on any model but the demo.
        question: "One by one", or "As a set": whether several images, taken together, were in the training data.
        caption: what a model that draws from text (or from classes) is conditioned on, for all images; empty for nothing.
        reference: name of a reference on the Hub ("owner/name"), in place of the non-members.
        copies: whether each image may be a re-encoded, mirrored or re-toned copy of a training image; it takes 500 non-members.
    """
    posed = question_of(image, several, model, nonmembers, question, caption, reference, copies)
    if not posed.images:
        return problem_outputs(NO_FILE)
    with RunningCheck(progress, session_of(request)) as running:
        return answer(posed, running)


def question_of(
    image: str | None,
    several: list[str] | None,
    model: str | None,
    nonmembers: list[str] | None,
    question: str,
    caption: str | None,
    reference: str | None,
    copies: bool | None,
) -> Question:
    """Return the question that the fields of the tab pose."""
    return Question(
        images=([] if image is None else [image]) + (several or []),
        model=model_name(model),
        nonmembers=nonmembers,
        caption=(caption or "").strip() or None,
        as_set=bool(several) and question == AS_A_SET,
        reference=(reference or "").strip() or None,
        copies=bool(copies),
    )


def model_name(model: str | None) -> str:
    """Return the name in the field of the model; the demo's where it is empty."""
    return (model or "").strip() or DEMO


def answer(question: Question, running: RunningCheck | None) -> Outputs:
    """Return the answer's outputs; what goes wrong becomes a message on the page."""
    count, known = len(question.images), len(question.nonmembers or ())
    if count > MOST_IMAGES:
        return problem_outputs(
            f"{count} images are too many at once; the page takes up to {MOST_IMAGES}. The command line takes any number."
        )
    images, problems = readable_images(question.images)
    if not images:
        return problem_outputs(*problems)
    if known > MOST_NONMEMBERS:
        return problem_outputs(f"{known} non-members are too many for this page; it takes up to {MOST_NONMEMBERS}.", *problems)
    nonmembers, unreadable = readable_images(question.nonmembers or [])
    problems += [f"Left out of the non-members: {problem}" for problem in unreadable]
    if known and not nonmembers:
        return problem_outputs(*problems)
    session = running.session if running else None
    result, offer = _query_model(replace(question, images=images, nonmembers=nonmembers, session=session), running)
    if isinstance(result, str):
        return problem_outputs(result, *problems)
    further = {"caption": question.caption or "", "offer": offer}
    if isinstance(result, SetCheck):
        return set_outputs(result.without(count - len(images)), further, problems)
    return answer_outputs(result | further, problems)


def _seconds(question: Question, *_: object) -> int:
    """Return the most seconds that `_query_model` takes on a GPU; a model other than the demo may have to be fetched first."""
    if question.build:
        return 600
    return 30 if question.model == DEMO else 120 + (len(question.images) + len(question.nonmembers or ())) // 10


@on_gpu(_seconds)
def _query_model(question: Question, running: RunningCheck | None) -> tuple[dict[str, Any] | SetCheck | str, dict[str, Any] | None]:
    """Return a model's answer, as `Checker.to_dict` or `Checker.check_set` returns it, or an error message; and what is offered."""
    try:
        null: dict[str, Any] = {"reference": question.reference, "session": question.session, "copies": question.copies}
        checker = checker_for(question.model, question.nonmembers or [], question.caption, running, **null)
        if question.build and checker.reference is None:
            accept_offer(checker, running, question.caption)
            checker = checker_for(question.model, [], question.caption, running, **null)
        options: dict[str, Any] = {"captions": question.caption, "progress": False, "on_batch": batch_progress(running, "Scoring")}
        offer = offer_values(checker, question.caption)
        if question.as_set:
            return checker.check_set(question.images, **options), offer
        return checker.to_dict(checker.check(question.images, **options)), offer
    except MiaHubError as error:
        return str(error), None
