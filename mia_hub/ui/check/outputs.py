"""Answers as the values of the tab's outputs: the verdict, the table of several images, the curve, figures, caveats, and a file."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import gradio as gr
from markupsafe import Markup

from mia_hub.checking.answer_page import curve_svg, scores_svg, set_scores_svg
from mia_hub.checking.image_answers import ImageCheck
from mia_hub.checking.image_pages import answer_html, caveats_html, checks_table, figures_html, image_number, together_text
from mia_hub.checking.set_answers import SetCheck
from mia_hub.checking.set_pages import set_answer_html, set_figures_html
from mia_hub.checking.verdict_texts import q_value_text
from mia_hub.rendering.html import fragment
from mia_hub.ui.check.examples import TEMPLATE, truth_html

# Values of the answer, the table, the plot, the figures, the caveats, the download, and all of it as JSON.
Outputs = tuple[Any, ...]
piece = partial(fragment, template=TEMPLATE)
EMPTY = piece("notice", "Upload or paste an image, or click one of the examples.")


def answer_outputs(results: dict[str, Any], problems: list[str]) -> Outputs:
    """Return the outputs of answers to one or several images.

    Args:
        results: as `Checker.to_dict` returns them.
        problems: messages about files that were left out.
    """
    checks = [ImageCheck.from_entry(entry, results["reference"]) for entry in results["images"]]
    if len(checks) == 1:
        first = checks[0]
        verdict = answer_html(first) + truth_html(first, results["reference"])
        table = gr.Dataframe(visible=False)
    else:
        headers, rows = checks_table(checks)
        first = checks[image_number(rows[0])]
        verdict = _together(checks)
        table = gr.Dataframe(rows, headers=headers, visible=True)
    details = details_outputs(first, results, of_several=len(checks) > 1)
    return gr.HTML(verdict + piece("problems", problems)), table, *details, gr.HTML(_download_link(results), visible=True), results


def set_outputs(result: SetCheck, further: dict[str, Any], problems: list[str]) -> Outputs:
    """Return the outputs of one answer to a set; ``further``: what else the results have."""
    everything = {"set": result.to_dict(), "model": {"id": result.model}} | further
    return (
        gr.HTML(set_answer_html(result) + piece("problems", problems)),
        gr.Dataframe(visible=False),
        _set_plot(result),
        gr.HTML(set_figures_html(result), visible=True),
        gr.HTML(caveats_html(result), visible=True),
        gr.HTML(_download_link(everything), visible=True),
        everything,
    )


def _set_plot(result: SetCheck) -> gr.HTML:
    """Return the plot of a set's scores against those of known images; hidden where there is no verdict."""
    svg = set_scores_svg(result)
    return gr.HTML(visible=False) if svg is None else gr.HTML(piece("plot", svg, ""), visible=True)


def row_outputs(results: dict[str, Any], event: gr.SelectData) -> tuple[gr.HTML, gr.HTML, gr.HTML]:
    """Return the plot, the figures and the caveats of the image in a selected row of the table."""
    # A sorted table hands over the displayed row, so the image is identified by its number.
    entry = results["images"][image_number(event.row_value)]
    return details_outputs(ImageCheck.from_entry(entry, results["reference"]), results, of_several=True)


def details_outputs(check: ImageCheck, results: dict[str, Any], *, of_several: bool = False) -> tuple[gr.HTML, gr.HTML, gr.HTML]:
    """Return the outputs of `details_html`."""
    plot, figures, caveats = (gr.HTML(html, visible=True) for html in details_html(check, results, of_several=of_several))
    return plot, figures, caveats


def details_html(check: ImageCheck, results: dict[str, Any], *, of_several: bool = False) -> tuple[Markup, Markup, Markup]:
    """Return the plot, the figures and the caveats of one answer; among several, the answer stands above its plot."""
    everyone = [(one["name"], one["score"]) for one in results["images"] if one["p_value"] is not None] if of_several else []
    verdict = scores_svg(check, everyone, selected=of_several) if check.p_value is not None else ""
    among: dict[str, Any] = {"name": check.name, "answer": answer_html(check) + truth_html(check, results["reference"])}
    plot = piece("plot", curve_svg(check), _curve_note(check), verdict, **(among if of_several else {}))
    return plot, figures_html(check), caveats_html(check)


def problem_outputs(*messages: str) -> Outputs:
    """Return the outputs of messages in place of an answer."""
    return message_outputs(piece("problems", messages, alarm=True))


def message_outputs(html: str = EMPTY) -> Outputs:
    """Return the outputs where there is no answer."""
    hidden = [gr.HTML(visible=False)] * 4
    return gr.HTML(html), gr.Dataframe(visible=False), *hidden, None


def _together(checks: Sequence[ImageCheck]) -> Markup:
    """Return the summary of several answers."""
    judged = sum(check.q_value is not None for check in checks)
    return piece("summary", together_text(checks), q_value_text(judged) if judged else "")


def _curve_note(check: ImageCheck) -> str:
    """Return what the curve is not, where the verdict is made by another score than the curve's."""
    curve = dict(zip(check.profile.timesteps, check.profile.scores))
    if check.p_value is None or check.score == curve.get(check.timestep):
        return ""
    return (
        f"The curve is plain SimA's score. The verdict is made by {check.attack}, which also takes into account how hard the image is; its "
        "score is shown below."
    )


def _download_link(results: dict[str, Any]) -> Markup:
    # The link carries the file, so that nothing about the image is written to the server's disk.
    return piece("download", base64.b64encode(json.dumps(results, indent=2).encode()).decode())
