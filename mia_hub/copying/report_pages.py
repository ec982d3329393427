"""The report of a search for copies, as Markdown and as a page."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from mia_hub.copying.statistic import Share
from mia_hub.rendering.html import render
from mia_hub.rendering.markdown import code_span, escape_markdown, markdown_table
from mia_hub.rendering.numbers import p_text, share
from mia_hub.rendering.text import MISSING, Rows, value_text

if TYPE_CHECKING:
    from mia_hub.copying.known_figures import KnownFigures
    from mia_hub.copying.report import CopyPair, CopyReport

TEMPLATE = "mia_hub/copying/templates/copies.html"
# The training images that are listed as copied most.
MOST_COPIED = 20

HOW_TO_READ = (
    (
        "Ratio",
        "the distance of a generated image to the nearest training image, over the mean one to the nearest ones (Carlini et al. 2023). "
        "Lower = more like a copy; 0 is an exact one. Where a training image is there in many slightly different forms, all of these are "
        "near, and a copy of it can be missed.",
    ),
    (
        "p-value",
        "the share of non-members whose ratio is as low, the image itself counted. It holds if generated images that are no copies lie, by "
        "this ratio, at most as near to training images as real images do that were not trained on.",
    ),
    (
        "q-value",
        "the p-value adjusted for the number of generated images. Among those called copies, the expected share of wrong calls is at most "
        "the stated rate.",
    ),
    (
        "Control",
        "the same search, with images that the model has never seen in the place of the training images. There is nothing to be copied, so "
        "too many near images show that the comparison is not fair.",
    ),
    (
        "C_T, authenticity, coverage",
        "figures of other papers, for comparison: none of them decides what is called a copy. C_T far below 0 means that generated images "
        "lie nearer to training images than non-members do.",
    ),
)
CAVEATS = (
    "Look at the pairs. A model that makes blander images than real ones can come nearer to training images without copying any, and an "
    "image can be a copy to the eye (a part of it, shifted, mirrored, in other colours) that lies far away in this embedder.",
    "No copies among these images does not mean that the model holds none: more images, other prompts and other sampling may bring them "
    "up, and it may still be seen which images it was trained on (mia-hub audit).",
)

# The words of a report, which Markdown and HTML share.


def headline(report: CopyReport) -> str:
    """Return the result in one or two sentences."""
    n = report.copies.n
    if report.verdict == "cannot tell":
        return f"Cannot tell whether the {n:,} generated images are copies: {report.reason}."
    if report.verdict == "no copies found":
        return f"No copies found: none of {n:,} generated images is nearer to a training image than chance explains."
    images = (
        f"{report.copies.count:,} of {n:,} generated images are called copies"
        if report.copies.count > 1
        else f"1 of {n:,} generated images is called a copy"
    )
    return f"Evidence that the model gives training images back: {images} ({report.copies}), of {_different(report)}."


def meaning(report: CopyReport) -> list[str]:
    """Return what the result is based on, and what it doesn't say."""
    texts = []
    if report.verdict == "copies":
        texts.append(
            f"On average over such searches, at most {share(report.rate)} of what is called a copy is none; a search that calls nothing "
            "counts as 0. So of a model that copies nothing, as many searches call something. The interval is over generated images: "
            "it says how the share would vary if more images were generated in the same way."
        )
    return [*texts, *CAVEATS]


def figure_rows(report: CopyReport) -> Rows:
    """Return names and values of the figures."""
    figures, control = report.figures, report.control
    rows = [["Generated images called copies", _share_text(report.copies)]]
    if report.verdict == "cannot tell":
        rows = [["Generated images called copies, not to be relied on", _share_text(report.copies)]]
    if report.fewest is not None:
        rows.append(["Fewest copies that could have been called such", f"{report.fewest:,}"])
    if control is not None:
        rows += [
            [f"Control: images with p ≤ {report.rate:g} (expected: {share(report.rate)})", _share_text(control.at_rate)],
            ["Control: images called copies of images never seen", f"{control.called:,}"],
            ["Control: p-value", f"{p_text(control.p_value)} ({'nothing is amiss' if control.fits else 'it fails'})"],
        ]
    return rows + _known_rows(figures)


def _known_rows(figures: KnownFigures) -> Rows:
    return [
        ["C_T, with one cell (Meehan et al. 2020)", MISSING if figures.c_t is None else f"{figures.c_t:.2f}"],
        ["Authenticity of generated images (Alaa et al. 2022)", str(figures.authenticity)],
        ["Authenticity of non-members", MISSING if figures.authenticity_nonmembers is None else str(figures.authenticity_nonmembers)],
        ["Coverage of training images (Naeem et al. 2020)", MISSING if figures.coverage is None else str(figures.coverage)],
    ]


def copied_table(report: CopyReport) -> tuple[list[str], Rows]:
    """Return headers and rows of the training images that were copied most."""
    rows = [[image.training, f"{image.copies:,}", f"{image.repeats:,}", image.training_id] for image in report.copied[:MOST_COPIED]]
    return ["Training image", "Copies", "Times in training set", "Content id"], rows


def pair_table(report: CopyReport) -> tuple[list[str], Rows]:
    """Return headers and rows of the pairs most like copies."""
    return ["Generated", "Nearest training image", "Distance", "Ratio", "p", "q", "Copy"], [_pair_row(pair) for pair in report.listed()]


def _pair_row(pair: CopyPair) -> list[str]:
    values = [MISSING if value is None else p_text(value) for value in (pair.p_value, pair.q_value)]
    return [pair.generated, pair.training, f"{pair.distance:.4g}", f"{pair.ratio:.4f}", *values, "yes" if pair.is_copy else "no"]


def input_rows(report: CopyReport) -> Rows:
    """Return names and values of what was compared, and of what is needed to reproduce the result."""
    model = report.model or {}
    rows = [[f"Model: {key.replace('_', ' ')}", value_text(value)] for key, value in model.items()]
    rows.append(["Generated images", f"{report.generated['n']:,}" + (", made elsewhere" if report.generated["given"] else "")])
    for name, side in (("Training images", report.training), ("Non-members", report.nonmembers)):
        rows.append([name, f"{side['n_distinct']:,} different ones: {side['description']}" if side["n"] else "none"])
        rows += [[f"{name}: revision", side["revision"]]] if "revision" in side else []
    rows += [["Embedder", report.embedder], ["Training images in the mean", f"{report.neighbours:,}"]]
    rows += [[key.replace("_", " ").capitalize(), value_text(value)] for key, value in report.provenance.items()]
    return rows


def _different(report: CopyReport) -> str:
    count = len(report.copied)
    return "one training image" if count == 1 else f"{count:,} different training images"


def _share_text(value: Share) -> str:
    return f"{value.count:,} of {value.n:,}: {value}"


def sheet_text(report: CopyReport) -> str:
    """Return what the contact sheet shows."""
    return (
        "The pairs with the lowest ratios: on the left of each the generated image, on the right the training image nearest to it. A frame "
        "marks what is called a copy."
    )


# Markdown.


def copies_markdown(report: CopyReport) -> str:
    """Return the report as Markdown with GitHub's tables."""
    source = code_span(report.model["id"]) if report.model is not None else "generated images"
    parts = [f"# Copies of training images by {source}", f"**{escape_markdown(headline(report))}**"]
    if report.notes:
        parts += ["## Read this first", "\n".join(f"- {escape_markdown(note)}" for note in report.notes)]
    parts += ["## What it means", *map(escape_markdown, meaning(report))]
    parts += ["## Figures", markdown_table(["Figure", "Value"], figure_rows(report))]
    if report.copied:
        parts += ["## Training images copied most", markdown_table(*copied_table(report))]
    parts += ["## Pairs most like copies", markdown_table(*pair_table(report))]
    parts += ["## What was compared", markdown_table(["What", "Value"], input_rows(report))]
    parts += ["## How to read this", "\n".join(f"- **{term}:** {escape_markdown(text)}" for term, text in HOW_TO_READ)]
    return "\n\n".join(parts) + "\n"


# HTML.


def copies_html(report: CopyReport) -> str:
    """Return the report as one self-contained page, with the contact sheet in it."""
    of: Any = report.model["id"] if report.model is not None else "images generated elsewhere"
    return render(
        TEMPLATE,
        title=f"Copies of training images by {of}",
        over=f"Copies of training images by {of} · {report.training['description']}",
        headline=headline(report),
        notes=report.notes,
        texts=meaning(report),
        figures=figure_rows(report),
        sheet=f"data:image/png;base64,{base64.b64encode(report.sheet).decode()}" if report.sheet else "",
        sheet_text=sheet_text(report),
        copied=copied_table(report) if report.copied else None,
        pairs=pair_table(report),
        inputs=input_rows(report),
        terms=HOW_TO_READ,
        created=value_text(report.provenance.get("created")),
    )
