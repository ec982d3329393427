"""The answers about a folder of images as a document to be filed: findings, images with evidence, the set, every file, and provenance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mia_hub.auditing.filing import LONGEST_RUNNING, described_attack
from mia_hub.auditing.regulators import Figure, make_appendix
from mia_hub.auditing.report_pages import model_rows, recorded_rows
from mia_hub.checking.answer_page import SEVERAL, set_scores_svg
from mia_hub.checking.batch import UNREADABLE, Batch, CheckedFile, counts, findings
from mia_hub.checking.image_pages import SHORT_VERDICTS, counted_notes, shared_caveats
from mia_hub.checking.set_answers import SetCheck
from mia_hub.checking.set_pages import set_figures
from mia_hub.checking.verdict_texts import HOLDS
from mia_hub.checking.verdicts import EVIDENCE, NO_NULL, NOT_COMPARABLE
from mia_hub.errors import ImageError
from mia_hub.images.messages import printable
from mia_hub.images.sources import open_image
from mia_hub.images.thumbnails import png_address, thumbnail_png
from mia_hub.metrics.p_values import FALSE_DISCOVERY_RATE
from mia_hub.rendering.html import render
from mia_hub.rendering.numbers import p_text
from mia_hub.rendering.text import MISSING, Rows, sentence_case, shorten, value_text

TEMPLATE = "mia_hub/checking/templates/filing.html"
OVER = "Report of a check for membership in training data"
# More images would make a document that nobody reads; the table has all of them.
MOST_SHOWN = 60
HEADERS = ["File", "Answer", "p", "q", "Score"]
MEANINGS = (
    (
        SHORT_VERDICTS[EVIDENCE],
        "the image looks more like a training image than nearly all images known not to be in the training set "
        f"(q ≤ {p_text(FALSE_DISCOVERY_RATE)}). It is statistical evidence, not proof.",
    ),
    ("cannot tell", "the image can be compared, and the evidence is weaker. This doesn't clear the image."),
    (SHORT_VERDICTS[NOT_COMPARABLE], "the image is of another kind than the known non-members, so a p-value would mean nothing."),
    (SHORT_VERDICTS[NO_NULL], "no images are known that the model was certainly not trained on, so there is nothing to compare with."),
    (UNREADABLE, "the file is damaged, or no image; it was not scored."),
)
METHOD = (
    "The model is queried with each image, and an attack gives the image a score. A higher score means that the image looks more like a "
    "training image. The p-value is the share of known non-members that would score at least as high; it is not the probability that "
    "the image was not used.",
    f"Several images are judged together: the q-value is the p-value adjusted for their number (Benjamini and Hochberg), and evidence "
    f"takes q ≤ {p_text(FALSE_DISCOVERY_RATE)}. The images are also tested as a set, by a one-sided permutation test of their mean score. "
    "Each of the two answers holds by itself.",
)
RELIANCE = "Whether the known non-members are certainly outside the training set is a statement of whoever chose them."


def batch_filing(batch: Batch, files: Mapping[str, str] | None = None) -> str:
    """Return the answers as an HTML document for print, with thumbnails of the images that have evidence.

    Args:
        batch: answers about at least one image.
        files: SHA-256 of each file that is filed with it, in hexadecimal digits, by its name.
    """
    checks, values, together = batch.checks, batch.values, batch.together
    evidence = batch.of_verdict(SHORT_VERDICTS[EVIDENCE])
    title = SEVERAL.format(values["model"]["id"])
    created = value_text(values["provenance"].get("created"))
    return render(
        TEMPLATE,
        over=OVER,
        title=title,
        running=shorten(title, LONGEST_RUNNING, end=20),
        facts=_facts(batch, created),
        findings=findings(batch),
        warnings=[f"The images were not tested as a set. {batch.no_set}"] if batch.no_set else [],
        not_shown=shared_caveats(checks),
        counts=counts(batch),
        meanings=MEANINGS,
        evidence=list(map(_shown, evidence[:MOST_SHOWN])),
        evidence_text=f"{len(evidence):,} images, the smallest p-value first"
        + (f"; the first {MOST_SHOWN} are shown." if len(evidence) > MOST_SHOWN else "."),
        no_evidence="No image has evidence. That clears none of them.",
        set=together
        and {"sentence": together.sentence, "figures": set_figures(together), "drawn": _set_plot(together), "caveats": together.caveats},
        no_set=batch.no_set,
        table_text="The smallest p-value first. Scores: higher = more like a training image.",
        files_table=(HEADERS, list(map(_row, batch.files))),
        problems=[file.problem for file in batch.files if file.check is None],
        left_out=batch.left_out,
        method=(*METHOD, *([HOLDS[checks[0].calibration]] if checks[0].calibration else [])),
        method_rows=_method_rows(values),
        data_rows=_data_rows(batch),
        notes=[*counted_notes(checks), *(together.notes if together else ())],
        provenance=[*model_rows(values["model"]), *recorded_rows(values["provenance"])],
        hashes=[[name, digest] for name, digest in (files or {}).items()],
        appendix=make_appendix(_figures(batch)),
        created=created,
    )


def _facts(batch: Batch, created: str) -> Rows:
    model, unreadable = batch.values["model"], sum(file.check is None for file in batch.files)
    revision = f", revision {model['revision']}" if model.get("revision") else ""
    read = f"{len(batch.checks):,}" + (f", and {unreadable:,} files that can't be read" if unreadable else "")
    reference = batch.values["reference"]
    known = "no known non-members" if reference is None else f"{reference['n_compared']:,} of {reference['source']}"
    return [["Model", f"{model['id']}{revision}"], ["Images checked", read], ["Compared with", known], ["Measured", created]]


def _shown(file: CheckedFile) -> tuple[str, str, str]:
    """Return name, thumbnail and figures of an image; without a thumbnail where the file is gone."""
    assert file.check is not None and file.check.p_value is not None
    try:
        address = png_address(thumbnail_png(open_image(file.path)))
    except ImageError:
        address = ""
    q = "" if file.check.q_value is None else f", q = {p_text(file.check.q_value)}"
    return file.name, address, f"p = {p_text(file.check.p_value)}{q}"


def _row(file: CheckedFile) -> list[str]:
    check = file.check
    if check is None:
        return [file.name, UNREADABLE, MISSING, MISSING, MISSING]
    figures = [MISSING if value is None else p_text(value) for value in (check.p_value, check.q_value)]
    return [file.name, file.verdict, *figures, f"{check.score:.4g}".replace("-", "−")]


def _set_plot(together: SetCheck) -> list[tuple[str, Any]]:
    svg = set_scores_svg(together)
    return [] if svg is None else [("The scores of the set among those of known images", svg)]


def _method_rows(values: Mapping[str, Any]) -> Rows:
    rows, described = [["Attack", values["attack"]]], described_attack(values["attack"])
    if described:
        rows.append(["Its statistic; the score is minus that", described])
    if reference := values["reference"]:
        rows.append(["Timestep", sentence_case(reference["timestep_chosen"])])
    return rows


def _data_rows(batch: Batch) -> Rows:
    folder, reference = Path(batch.folder).resolve().name, batch.values["reference"]
    rows = [["Folder", printable(folder)], ["Files", f"{len(batch.files):,}, of which {len(batch.checks):,} were read"]]
    rows.append(["Identity of the files", "check.csv has the SHA-256 of each file, and the id of its pixels"])
    if reference is None:
        return [*rows, ["Known non-members", "none"]]
    rows.append(["Known non-members", f"{reference['n_nonmembers']:,} of {reference['source']}. {RELIANCE}"])
    return [*rows, ["Hash of the known images", reference["hash"]]]


def _figures(batch: Batch) -> list[Figure]:
    """Return the figures of the appendix."""
    judged, found = sum(check.p_value is not None for check in batch.checks), len(batch.of_verdict(SHORT_VERDICTS[EVIDENCE]))
    value = f"{found:,} of {judged:,} images that could be compared have evidence."
    figures = [Figure("images", value, "no_null" if batch.values["reference"] is None else "" if found else "none")]
    if together := batch.together:
        case = {EVIDENCE: "", NOT_COMPARABLE: "not_comparable"}.get(together.verdict, "none")
        value = f"p = {p_text(together.p_value)}" if together.p_value is not None else f"no p-value: {SHORT_VERDICTS[together.verdict]}"
        figures.append(Figure("set", f"{together.n:,} images, {value}", case))
    return figures
