"""The report of an audit, as Markdown and as a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mia_hub.auditing.epsilon_pages import EPSILON_TITLE, epsilon_table, epsilon_texts
from mia_hub.auditing.ranking_pages import RANKING_TITLE, ranking_html_table, ranking_table, ranking_texts, thumbnails_note
from mia_hub.flags import Flag
from mia_hub.metrics.estimates import Estimate
from mia_hub.rendering.html import fragment, render
from mia_hub.rendering.markdown import code_span, escape_markdown, markdown_table
from mia_hub.rendering.numbers import quantity, share
from mia_hub.rendering.text import MISSING, Rows, sentence_case, value_text
from mia_hub.splits.notes import blind_sample_note, split_notes

if TYPE_CHECKING:
    from markupsafe import Markup

    from mia_hub.auditing.report import AuditReport

TEMPLATES = "mia_hub/auditing/templates"

HOW_TO_READ = (
    ("Higher means that the model leaks more", "Every figure here says how well an attacker tells training images from others."),
    ("AUC", "how often a random member scores higher than a random non-member: 0.5 is guessing, 1 is perfect."),
    (
        "Recognised at 1 % false positives",
        "the share of members that the attacker is right about when only 1 in 100 non-members is taken for a member. This matters "
        "more than AUC: few images recognised with certainty are a leak, even where the average image is safe.",
    ),
    ("Attack success rate", "balanced accuracy at one threshold, chosen where the timestep was chosen: 50 % is guessing."),
    ("Brackets", "95 % intervals over the images. They do not cover another training run, another split or another attack."),
    (
        "Blind AUC",
        "what a classifier reaches that sees the images and never the model. Above 0.5, members and non-members differ visibly, and "
        "the attack's figures may show that difference instead of memorisation.",
    ),
    ("What a low figure shows", "little about safety: a stronger attack may find more."),
)

# The words of a report, which Markdown and HTML share.


def headline(report: AuditReport) -> str:
    """Return the result in one or two sentences, its first caution included."""
    auc = f"AUC {report.auc}"
    names = {flag.name for flag in report.flags}
    if "distribution-shift" in names and report.blind_auc is not None:
        return (
            f"Not evidence of memorisation: a classifier that never sees the model already tells members from non-members with AUC "
            f"{report.blind_auc}. At t = {report.timestep} the attack reaches {auc}."
        )
    if report.auc.low > 0.5:
        text = f"At t = {report.timestep} the attack tells members from non-members with {auc}"
    elif report.auc.high < 0.5:
        text = f"At t = {report.timestep} the attack ranks members below non-members, worse than guessing: {auc}"
    else:
        text = f"At t = {report.timestep} the attack can't be told from guessing with these images: {auc}"
    if report.tpr_at_fpr:
        rate, tpr = _headline_rate(report)
        text += f"; at {share(rate)} false positives it recognises {tpr.percent(rate)} of the members"
    return text + (". These figures are optimistic: the timestep was chosen on the same images." if "oracle-selection" in names else ".")


def _headline_rate(report: AuditReport) -> tuple[float, Estimate]:
    """Return the false-positive rate nearest to 1 %, which most papers report, and the true-positive rate there."""
    rate = min(report.tpr_at_fpr, key=lambda rate: float(abs(np.log(rate / 0.01))))
    return rate, report.tpr_at_fpr[rate]


def meaning(report: AuditReport) -> list[str]:
    """Return what the headline means, in plain words."""
    lines = [
        f"Of a random training image and a random other image, the attack gives the training image the higher score in "
        f"{float(f'{report.auc.value:.3f}') * 100:.1f} % of all pairs; guessing gives 50 %."
    ]
    if report.tpr_at_fpr:
        rate, tpr = _headline_rate(report)
        times = f"{tpr.value / rate:.3g} times as many as guessing would" if tpr.low > rate else "which can't be told from guessing"
        recognised = tpr.percent(rate).split(" [")[0]
        lines.append(f"Where it may take {share(rate)} of the non-members for members, it recognises {recognised} of the members, {times}.")
    blind = report.blind_auc
    if blind is None:
        lines.append("No blind classifier was measured: members and non-members may be distinguishable without the model.")
    elif blind.low > 0.5:
        lines.append(
            f"A classifier that sees the images and never the model reaches AUC {blind}: the two kinds of images differ, so what the "
            f"attack finds need not come from the model's memory.{blind_sample_note(blind, report.split)}"
        )
    else:
        lines.append(
            f"A classifier that sees the images and never the model reaches AUC {blind}, not to be told from guessing, as it should be."
            f"{blind_sample_note(blind, report.split)}"
        )
    if base := report.model.get("base"):
        lines.append(
            f"The attack compares the model with its base, {base['id']}. The figures hold if the non-members are in the training set of "
            "neither."
        )
    if others := report.model.get("reference_models"):
        models, none = ("a reference model", "it has") if len(others) == 1 else (f"{len(others)} reference models", "they have")
        lines.append(f"The attack compares the model with {models}. The figures hold if {none} seen none of these images.")
    return lines


def figure_table(report: AuditReport) -> tuple[list[str], Rows]:
    """Return headers and rows of the figures at the selected timestep, the blind AUC beside the attack's."""
    blind = report.blind_auc
    unmeasured = ["AUC, blind classifier", "not measured", MISSING, MISSING, MISSING]
    rows = [
        _decimal_row("AUC, attack", report.auc),
        unmeasured if blind is None else _decimal_row("AUC, blind classifier", blind),
        _percent_row("Attack success rate", report.asr),
    ]
    rates = descending(report.tpr_at_fpr)
    rows += [_percent_row(f"Recognised at {share(rate)} false positives", tpr, rate) for rate, tpr in rates]
    return ["Figure", "Value", "95 % interval", "Members", "Non-members"], rows


def descending(rates: Mapping[float, Estimate]) -> list[tuple[float, Estimate]]:
    """Return false-positive rates with their figures, the highest rate first."""
    return sorted(rates.items(), reverse=True)


def _decimal_row(name: str, estimate: Estimate) -> list[str]:
    value, interval = str(estimate).split(" ", 1)
    return [name, value, interval, f"{estimate.n_members:,}", f"{estimate.n_nonmembers:,}"]


def _percent_row(name: str, estimate: Estimate, rate: float = 0.01) -> list[str]:
    value, interval = estimate.percent(rate).split(" [")
    return [name, value, f"[{interval[:-1]}] %", f"{estimate.n_members:,}", f"{estimate.n_nonmembers:,}"]


def timestep_table(report: AuditReport) -> tuple[list[str], Rows]:
    """Return headers and rows of the figures at every timestep."""
    headers = ["t", "AUC", "Attack success rate"]
    headers += [f"Recognised at {share(rate)} FPR" for rate, _ in descending(report.tpr_at_fpr)]
    rows = []
    for row in report.per_timestep:
        recognised = [tpr.percent(rate) for rate, tpr in descending(row.tpr_at_fpr)]
        rows.append([str(row.timestep), str(row.auc), row.asr.percent(), *recognised])
    return headers, rows


def direction(report: AuditReport) -> str:
    """Return at which timestep figures are, and what higher ones mean."""
    return f"At t = {report.timestep}. Higher = leaks more."


def selection_text(report: AuditReport) -> str:
    """Return how the timestep was selected, and on how many images."""
    selection = report.selection
    text = f"{selection['description']}."
    measured = f"{selection['n_members']:,} members and {selection['n_nonmembers']:,} non-members"
    if "n_calibration_members" in selection:
        members, nonmembers = selection["n_calibration_members"], selection["n_calibration_nonmembers"]
        return (
            f"{text} It was chosen on {members:,} members and {nonmembers:,} non-members; all figures come from {measured} that took no "
            "part in the choice."
        )
    return f"{text} All figures come from {measured}."


def image_counts(report: AuditReport) -> str:
    """Return how many images were scored, and how many of them the figures come from."""
    scored, measured = report.split["n_members"] + report.split["n_nonmembers"], report.auc.n
    if scored == measured:
        return f"{scored:,} images scored and reported on"
    return f"{scored:,} images scored: {scored - measured:,} to choose the timestep, {measured:,} to report on"


def cost_rows(report: AuditReport) -> Rows:
    """Return names and values of what the scores cost."""
    cost = report.cost
    of_base = f", {cost.base_queries_per_image:,} of them of the base" if cost.base_queries_per_image else ""
    of_others = cost.reference_model_queries_per_image
    of_base += f", {of_others:,} of them of the reference models" if of_others else ""
    return [
        ["Denoiser queries per image", f"{cost.queries_per_image:,}{of_base}"],
        ["Denoiser queries in all", f"{cost.queries:,}"],
        ["Time for scoring", quantity(cost.seconds, " s")],
        ["Images per second", quantity(cost.images_per_second)],
        ["Peak memory", quantity(cost.peak_memory_mb, " MB")],
    ]


def provenance_rows(report: AuditReport) -> Rows:
    """Return names and values of what is needed to reproduce the result."""
    rows = [["Attack", report.attack], *model_rows(report.model)]
    rows += [[f"Split: {key.replace('_', ' ')}", value_text(value)] for key, value in report.split.items() if key != "notes"]
    return rows + recorded_rows(report.provenance)


def model_rows(model: Mapping[str, Any]) -> Rows:
    """Return names and values of the record of a model, and of those that it was compared with."""
    own = {key: value for key, value in model.items() if key not in ("base", "reference_models")}
    others = {"Base": model.get("base", {})}
    others |= {f"Reference model {i}": each for i, each in enumerate(model.get("reference_models", ()), start=1)}
    rows = [[f"Model: {key.replace('_', ' ')}", value_text(value)] for key, value in own.items()]
    return rows + [[f"{name}: {key}", value_text(value)] for name, each in others.items() for key, value in each.items()]


def recorded_rows(record: Mapping[str, Any]) -> Rows:
    """Return names and values of a record, such as the versions and the time of a result."""
    return [[key.replace("_", " ").capitalize(), value_text(value)] for key, value in record.items()]


def sort_flags(flags: Iterable[Flag]) -> list[Flag]:
    """Return flags in the order in which a reader should see them, the gravest first."""
    return sorted(flags, key=lambda flag: flag.name != "distribution-shift")


# Markdown.


def audit_markdown(report: AuditReport) -> str:
    """Return the report as Markdown with GitHub's tables."""
    parts = [f"# Membership audit of {code_span(report.model.get('id', 'a model'))}", f"**{headline(report)}**", f"{image_counts(report)}."]
    if report.flags:
        texts = [(flag.name, sentence_case(flag.raised_by), flag.meaning) for flag in sort_flags(report.flags)]
        lines = ["- **{}**\n  - Raised by: {}.\n  - What it means: {}".format(*map(escape_markdown, text)) for text in texts]
        parts += ["## Read this first", "\n".join(lines)]
    parts += [f"**Of the split:** {escape_markdown(note)}" for note in split_notes(report.split)]
    parts += ["## What it means", *meaning(report)]
    parts += ["## Figures", direction(report), markdown_table(*figure_table(report))]
    parts += ["## How the timestep was selected", escape_markdown(selection_text(report))]
    parts += ["## Every timestep", "Values with 95 % intervals.", markdown_table(*timestep_table(report))]
    if finding := report.epsilon:
        parts += [f"## {EPSILON_TITLE}", *map(escape_markdown, epsilon_texts(finding)), markdown_table(*epsilon_table(finding))]
    if ranking := report.ranking:
        parts += [f"## {RANKING_TITLE}", *ranking_texts(ranking), markdown_table(*ranking_table(ranking))]
    parts += ["## Cost", markdown_table(["Cost", "Value"], cost_rows(report))]
    parts += ["## Provenance", provenance_markdown(provenance_rows(report))]
    parts += ["## How to read this", terms_markdown(HOW_TO_READ)]
    return "\n\n".join(parts) + "\n"


def provenance_markdown(rows: Rows) -> str:
    """Return a table of names and recorded values."""
    return markdown_table(["What", "Value"], [[escape_markdown(name), code_span(value)] for name, value in rows], raw=True)


def terms_markdown(terms: Iterable[tuple[str, str]]) -> str:
    """Return a list of terms and what they mean."""
    return "\n".join(f"- **{term}:** {text}" for term, text in terms)


# HTML.


def audit_html(report: AuditReport) -> str:
    """Return the report as one self-contained page: no script, no request to anywhere; light and dark, on paper and on a phone."""
    from markupsafe import Markup

    title = f"Membership audit of {value_text(report.model.get('id'))}"
    return render(
        f"{TEMPLATES}/audit.html",
        title=title,
        over=f"{title} · split {value_text(report.split.get('name'))} · {image_counts(report)}",
        headline=headline(report),
        raised=sort_flags(report.flags),
        notes=split_notes(report.split),
        texts=meaning(report),
        direction=direction(report),
        figure_table=figure_table(report),
        drawn=[(title, Markup(svg)) for title, svg in report.plots],
        selection=selection_text(report),
        timestep_table=timestep_table(report),
        timestep=str(report.timestep),
        epsilon=report.epsilon and {"title": EPSILON_TITLE, "texts": epsilon_texts(report.epsilon), "table": epsilon_table(report.epsilon)},
        ranking=report.ranking
        and {
            "title": RANKING_TITLE,
            "texts": ranking_texts(report.ranking),
            "table": ranking_html_table(report.ranking),
            "note": thumbnails_note(report.ranking),
        },
        cost=cost_rows(report),
        provenance=provenance_rows(report),
        terms=HOW_TO_READ,
        created=value_text(report.provenance.get("created")),
    )


def flags_html(flags: Iterable[Flag]) -> Markup:
    """Return what to read before any figure; nothing where there are no flags."""
    return fragment("flags", sort_flags(flags), template=f"{TEMPLATES}/flags.html")


def notes_html(split: Mapping[str, Any]) -> Markup:
    """Return what the reader of a split's figures must know; nothing where there is nothing."""
    return fragment("split_notes", split_notes(split), template=f"{TEMPLATES}/flags.html")
