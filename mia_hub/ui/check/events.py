"""The events of the tab: which of them start a check, change its question, or stop it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from mia_hub.checking.checks import readable_images
from mia_hub.images.image import InputImage
from mia_hub.ui.check.answering import NO_FILE, SHOWN_PROGRESS, Question, answer, check, question_of
from mia_hub.ui.check.checkers import DEMO
from mia_hub.ui.check.layout import Answer, Fields, model_line_html, null_size_html
from mia_hub.ui.check.offers import show_offer
from mia_hub.ui.check.outputs import Outputs, message_outputs, problem_outputs, row_outputs
from mia_hub.ui.check.running import RunningCheck, session_of, supersede

# Checks that run at the same time; they share forward passes. Others see their place in the queue.
AT_ONCE = 16
LIMITS: dict[str, Any] = {"concurrency_limit": AT_ONCE, "concurrency_id": "check"}
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
QUIET: dict[str, Any] = PRIVATE | {"show_progress": "hidden"}
AT_ONCE_QUIETLY: dict[str, Any] = QUIET | {"queue": False}
NO_VALUE = "() => null"
DEFAULT_MODEL = f"(model) => model.trim() || '{DEMO}'"
Listener = Callable[..., Dependency]


def _script(call: str) -> str:
    """Return JavaScript that calls a function of ``checks.js``; before that is loaded, there is no check."""
    return f"(...inputs) => window.miaChecks?.{call}(...inputs)"


def connect(fields: Fields, shown: Answer) -> None:
    """Connect the components' events."""
    _starts(fields, shown)
    _changes(fields, shown)
    # Only as an endpoint: the tab's own checks carry a number.
    gr.Button(visible=False).click(check, fields.inputs, shown.outputs, api_name="check", **LIMITS)
    shown.results.change(show_offer, shown.results, [shown.offer, shown.build], **QUIET)
    shown.table.select(row_outputs, shown.results, shown.outputs[2:5], **QUIET)
    for leaves in (fields.model.blur, fields.model.submit):
        leaves(None, fields.model, fields.model, js=DEFAULT_MODEL)
    last: dict[str, Any] = AT_ONCE_QUIETLY | {"trigger_mode": "always_last"}
    gr.on([fields.model.change, fields.nonmembers.change], model_line_html, [fields.model, fields.nonmembers], fields.model_line, **last)
    fields.nonmembers.change(null_size_html, fields.nonmembers, fields.null_size, **last)


def _starts(fields: Fields, shown: Answer) -> None:
    """Connect what starts a check. Gradio runs the functions of one event in turn."""
    # Of the two ways in, the one used last counts.
    fields.image.upload(None, None, fields.several, js=NO_VALUE)
    fields.several.upload(None, None, fields.image, js=NO_VALUE)
    answers = [*shown.outputs, shown.answered]
    # A set: the function is given a dictionary.
    inputs, named = {shown.latest, *fields.inputs}, [fields.model, fields.caption]
    _start(fields.button.click, _check_fields(fields, shown, NO_FILE), inputs, [*answers, fields.image], shown, named)
    # Not `image.input`: it fires when the image is removed, too.
    _start(shown.build.click, _check_fields(fields, shown, NO_FILE, build=True), inputs, [*answers, fields.image], shown, named)
    for used in (fields.model.submit, fields.caption.submit, fields.reference.submit, fields.image.upload, fields.several.upload):
        _start(used, _check_fields(fields, shown), inputs, [*answers, fields.image], shown, named)
    filled_in = [fields.image, fields.several, fields.model, fields.nonmembers, fields.caption, fields.reference, fields.copies]
    for gallery, examples in fields.examples:
        function = _check_example(examples.images)
        _start(gallery.select, function, [shown.latest], [*answers, *filled_in], shown, None, show_progress="minimal")


def _start(
    event: Listener, function: Callable[..., Any], inputs: Any, outputs: list[Component], shown: Answer, named: Any, **how: Any
) -> None:
    """Connect one event; ``named``: the fields of the model and the caption, where they count."""
    event(None, named, shown.latest, js=_script("next"))
    runs = event(
        function,
        inputs,
        outputs,
        js=_script("begin"),
        show_progress_on=shown.verdict,
        trigger_mode="multiple",
        **PRIVATE,
        **LIMITS,
        **how,
    )
    for ends in (runs.then, runs.failure):
        ends(None, shown.answered, None, js=_script("end"))


def _changes(fields: Fields, shown: Answer) -> None:
    """Connect what changes the question, or withdraws it."""
    files = [fields.image, fields.several]
    for changes in (
        *(event for field in (fields.several, fields.nonmembers) for event in (field.clear, field.delete)),
        fields.nonmembers.upload,
        fields.question.input,
        fields.reference.input,
        fields.copies.input,
    ):
        changes(None, files, [shown.latest, *shown.outputs], js=_script("change"))
    # Not `input`: it doesn't fire when text is pasted.
    for edits in (fields.model.change, fields.caption.change):
        edits(None, [*files, fields.model, fields.caption], [shown.latest, *shown.outputs], js=_script("edit"))
    for withdraws, name in ((fields.image.clear, "clear"), (shown.stop.click, "stop")):
        withdraws(None, None, [shown.latest, *shown.outputs], js=_script(name))
    shown.latest.change(supersede, shown.latest, None, **AT_ONCE_QUIETLY)
    shown.answered.change(None, [shown.answered, *files], shown.outputs, js=_script("hideLate"))


def _check_fields(fields: Fields, shown: Answer, nothing: str | None = None, *, build: bool = False) -> Callable[..., Outputs]:
    """Return the function that checks what the fields hold: its outputs are the answer's, the check's number, and the image.

    Args:
        fields: of the tab.
        shown: the tab's answer.
        nothing: the message where there is no image; without one, the answer is emptied.
        build: whether a reference is built or fetched first.
    """

    def run(values: dict[Component, Any], progress: Any = SHOWN_PROGRESS, request: gr.Request | None = None) -> Outputs:
        number, question = values[shown.latest], replace(question_of(*(values[field] for field in fields.inputs)), build=build)
        if not question.images:
            return *(message_outputs() if nothing is None else problem_outputs(nothing)), number, gr.skip()
        image = values[fields.image]
        # The browser would show what can't be read as a broken image.
        broken = image is not None and not readable_images([image])[0]
        return _numbered(question, RunningCheck(progress, session_of(request), number), None if broken else gr.skip())

    return run


def _check_example(images: Sequence[InputImage]) -> Callable[..., Outputs]:
    """Return the function that checks a selected example: its outputs are the answer's, the check's number, and the fields'."""

    def run(number: int, event: gr.SelectData, request: gr.Request) -> Outputs:
        image = images[event.index]
        return _numbered(
            Question([image]), RunningCheck(None, session_of(request), number), image.to_pil(), None, DEMO, None, "", "", False
        )

    return run


def _numbered(question: Question, running: RunningCheck, *fields: Any) -> Outputs:
    """Return the outputs of a numbered check: of the answer, its number, and fields. A superseded one changes nothing."""
    with running:
        outputs = *answer(question, running), running.number, *fields
    return tuple(gr.skip() for _ in outputs) if running.superseded else outputs
