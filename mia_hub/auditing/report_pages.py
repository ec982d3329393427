"""The report of an audit in words: as Markdown, and as a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from mia_hub.auditing.estimates_text import percent
from mia_hub.auditing.plots import roc_svg, timesteps_svg
from mia_hub.flags import Flag
from mia_hub.metrics.estimates import Estimate
from mia_hub.rendering.markup import (
    MISSING,
    Rows,
    code,
    definitions,
    html_table,
    markdown_table,
    marked,
    page,
    pairs,
    plain,
    prose,
    quantity,
    section,
    sentence,
)
from mia_hub.rendering.numbers import share
from mia_hub.splits.notes import split_notes

if TYPE_CHECKING:
    from mia_hub.auditing.report import AuditReport

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

# What an audit says; Markdown and HTML are made from the same words.


def headline(report: AuditReport) -> str:
    """The result in one or two sentences, with its first caution at once."""
    auc = f"AUC {report.auc}"
    names = {flag.name for flag in report.flags}
    if "distribution-shift" in names and report.blind_auc is not None:
        return (
            f"Not evidence of memorisation: a classifier that never sees the model already tells members from non-members with AUC "
            f"{report.blind_auc}. At t = {report.timestep} the attack reaches {auc}."
        )
    if report.auc.low > 0.5:
        said = f"At t = {report.timestep} the attack tells members from non-members with {auc}"
    elif report.auc.high < 0.5:
        said = f"At t = {report.timestep} the attack ranks members below non-members, worse than guessing: {auc}"
    else:
        said = f"At t = {report.timestep} the attack can't be told from guessing with these images: {auc}"
    if report.tpr_at_fpr:
        rate, found = _headline_rate(report)
        said += f"; at {share(rate)} false positives it recognises {percent(found, rate)} of the members"
    return said + (". These figures are optimistic: the timestep was chosen on the same images." if "oracle-selection" in names else ".")


def _headline_rate(report: AuditReport) -> tuple[float, Estimate]:
    """The rate nearest to 1 %, which most papers report."""
    rate = min(report.tpr_at_fpr, key=lambda rate: abs(np.log(rate / 0.01)))
    return rate, report.tpr_at_fpr[rate]


def meaning(report: AuditReport) -> list[str]:
    """What the headline means, in plain words."""
    lines = [
        f"Of a random training image and a random other image, the attack gives the training image the higher score in "
        f"{float(f'{report.auc.value:.3f}') * 100:.1f} % of all pairs; guessing gives 50 %."
    ]
    if report.tpr_at_fpr:
        rate, found = _headline_rate(report)
        times = f"{found.value / rate:.3g} times as many as guessing would" if found.low > rate else "which can't be told from guessing"
        caught = percent(found, rate).split(" [")[0]
        lines.append(f"Where it may take {share(rate)} of the non-members for members, it recognises {caught} of the members, {times}.")
    blind = report.blind_auc
    if blind is None:
        lines.append("No blind classifier was measured: members and non-members may be distinguishable without the model.")
    elif blind.low > 0.5:
        lines.append(
            f"A classifier that sees the images and never the model reaches AUC {blind}: the two kinds of images differ, so what the "
            "attack finds need not come from the model's memory."
        )
    else:
        lines.append(
            f"A classifier that sees the images and never the model reaches AUC {blind}, not to be told from guessing, as it should be."
        )
    return lines


def figure_table(report: AuditReport) -> tuple[list[str], Rows]:
    """Headers and rows of the figures at the selected timestep, the blind AUC beside the attack's."""
    blind = report.blind_auc
    unmeasured = ["AUC, blind classifier", "not measured", MISSING, MISSING, MISSING]
    rows = [
        _decimal_row("AUC, attack", report.auc),
        unmeasured if blind is None else _decimal_row("AUC, blind classifier", blind),
        _percent_row("Attack success rate", report.asr),
    ]
    rows += [_percent_row(f"Recognised at {share(rate)} false positives", found, rate) for rate, found in by_rate(report.tpr_at_fpr)]
    return ["Figure", "Value", "95 % interval", "Members", "Non-members"], rows


def by_rate(rates: dict[float, Estimate]) -> list[tuple[float, Estimate]]:
    """Highest false-positive rate first."""
    return sorted(rates.items(), reverse=True)


def _decimal_row(name: str, found: Estimate) -> list[str]:
    value, interval = str(found).split(" ", 1)
    return [name, value, interval, f"{found.n_members:,}", f"{found.n_nonmembers:,}"]


def _percent_row(name: str, found: Estimate, rate: float = 0.01) -> list[str]:
    value, interval = percent(found, rate).split(" [")
    return [name, value, f"[{interval[:-1]}] %", f"{found.n_members:,}", f"{found.n_nonmembers:,}"]


def timestep_table(report: AuditReport) -> tuple[list[str], Rows]:
    """Headers and rows of the figures at every timestep."""
    headers = ["t", "AUC", "Attack success rate", *(f"Recognised at {share(rate)} FPR" for rate, _ in by_rate(report.tpr_at_fpr))]
    rows = [
        [f"{row.timestep}", str(row.auc), percent(row.asr), *(percent(found, rate) for rate, found in by_rate(row.tpr_at_fpr))]
        for row in report.per_timestep
    ]
    return headers, rows


def _at(report: AuditReport) -> str:
    return f"At t = {report.timestep}. Higher = leaks more."


def selection_text(report: AuditReport) -> str:
    """How the timestep was selected, and on how many images."""
    chosen = report.selection
    text = f"{chosen['description']}."
    measured = f"{chosen['n_members']:,} members and {chosen['n_nonmembers']:,} non-members"
    if "n_calibration_members" in chosen:
        return (
            f"{text} It was chosen on {chosen['n_calibration_members']:,} members and {chosen['n_calibration_nonmembers']:,} non-members; "
            f"all figures come from {measured} that took no part in the choice."
        )
    return f"{text} All figures come from {measured}."


def _counts(report: AuditReport) -> str:
    """How many images were scored, and how many of them the figures come from."""
    scored, measured = report.split["n_members"] + report.split["n_nonmembers"], report.auc.n
    if scored == measured:
        return f"{scored:,} images scored and reported on"
    return f"{scored:,} images scored: {scored - measured:,} to choose the timestep, {measured:,} to report on"


def cost_rows(report: AuditReport) -> Rows:
    """What the scores cost."""
    cost = report.cost
    return [
        ["Denoiser queries per image", f"{cost.queries_per_image:,}"],
        ["Denoiser queries in all", f"{cost.queries:,}"],
        ["Time for scoring", quantity(cost.seconds, " s")],
        ["Images per second", quantity(cost.images_per_second)],
        ["Peak memory", quantity(cost.peak_memory_mb, " MB")],
    ]


def provenance_rows(report: AuditReport) -> Rows:
    """What is needed to make the result again."""
    made, model, split = report.provenance, report.model, report.split
    rows = [["Attack", report.attack]]
    rows += [[f"Model: {key.replace('_', ' ')}", plain(value)] for key, value in model.items()]
    rows += [[f"Split: {key.replace('_', ' ')}", plain(value)] for key, value in split.items() if key != "notes"]
    rows += [[key.replace("_", " ").capitalize(), plain(value)] for key, value in made.items()]
    return rows


def notes_html(split: Mapping[str, Any]) -> str:
    """`split_notes`, escaped; nothing where there are none."""
    return "".join(f'<p><span class="label">Of the split:</span> {prose(note)}</p>' for note in split_notes(split))


def gravest_first(flags: Iterable[Flag]) -> list[Flag]:
    """Flags in the order in which a reader should see them."""
    return sorted(flags, key=lambda flag: flag.name != "distribution-shift")


# Markdown.


def audit_markdown(report: AuditReport) -> str:
    """The report as Markdown with GitHub's tables."""
    parts = [f"# Membership audit of {code(report.model.get('id', 'a model'))}", f"**{headline(report)}**", f"{_counts(report)}."]
    if report.flags:
        flags = [
            f"- **{marked(flag.name)}**\n  - Raised by: {marked(sentence(flag.raised_by))}.\n  - What it means: {marked(flag.meaning)}"
            for flag in gravest_first(report.flags)
        ]
        parts += ["## Read this first", "\n".join(flags)]
    parts += [f"**Of the split:** {marked(note)}" for note in split_notes(report.split)]
    parts += ["## What it means", *meaning(report)]
    parts += ["## Figures", _at(report), markdown_table(*figure_table(report))]
    parts += ["## How the timestep was selected", marked(selection_text(report))]
    parts += ["## Every timestep", "Values with 95 % intervals.", markdown_table(*timestep_table(report))]
    parts += ["## Cost", markdown_table(["Cost", "Value"], cost_rows(report))]
    recorded = [[marked(key), code(value)] for key, value in provenance_rows(report)]
    parts += ["## Provenance", markdown_table(["What", "Value"], recorded, raw=True)]
    parts += ["## How to read this", "\n".join(f"- **{term}:** {text}" for term, text in HOW_TO_READ)]
    return "\n\n".join(parts) + "\n"


# The report as a page.


def audit_html(report: AuditReport) -> str:
    """The report as one self-contained page: no script, no request to anywhere; light and dark, on paper and on a phone."""
    title = f"Membership audit of {plain(report.model.get('id'))}"
    made = escape(plain(report.provenance.get("created")))
    over = escape(f"{title} · split {plain(report.split.get('name'))} · {_counts(report)}")
    body = [
        f'<header><p class="over">{over}</p><h1>{prose(headline(report))}</h1></header>',
        flags_html(report.flags),
        notes_html(report.split),
        *(f"<p>{prose(line)}</p>" for line in meaning(report)),
        section("Figures", f"<p>{prose(_at(report))}</p>", html_table(*figure_table(report), label="Figures")),
        _figures(report),
        section("How the timestep was selected", f"<p>{prose(selection_text(report))}</p>"),
        section(
            "Every timestep",
            "<p>Values with 95 % intervals; the selected timestep is in bold.</p>",
            html_table(*timestep_table(report), label="Figures at every timestep", chosen=str(report.timestep)),
        ),
        section("Cost", pairs(cost_rows(report))),
        section("Provenance", pairs(provenance_rows(report))),
        section("How to read this", definitions(HOW_TO_READ)),
        f"<footer>Made by mia_hub on {made}. This page makes no request to any other place.</footer>",
    ]
    return page(title, "".join(body))


def flags_html(flags: Iterable[Flag]) -> str:
    """What to read before any figure; nothing where there are no flags."""
    said = "".join(
        f'<section><h3>{escape(flag.name)}</h3><p><span class="label">Raised by:</span> {prose(sentence(flag.raised_by))}.</p>'
        f'<p><span class="label">What it means:</span> {prose(flag.meaning)}</p></section>'
        for flag in gravest_first(flags)
    )
    return f'<aside class="flags"><h2>Read this first</h2>{said}</aside>' if said else ""


def _figures(report: AuditReport) -> str:
    drawn = (
        ("AUC at every timestep", timesteps_svg(report)),
        (f"ROC curve at t = {report.timestep}, on logarithmic axes", roc_svg(report.roc, auc=report.auc, tpr_at_fpr=report.tpr_at_fpr)),
    )
    return '<div class="figures">' + "".join(f"<figure><figcaption>{escape(c)}</figcaption>{svg}</figure>" for c, svg in drawn) + "</div>"
