"""The report of an audit as a document to be filed: the findings first, and at the end what regulators ask."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mia_hub.auditing.epsilon_pages import EPSILON_TITLE, delta_text, epsilon_table, epsilon_texts
from mia_hub.auditing.ranking_pages import RANKING_TITLE, ranking_table, ranking_texts
from mia_hub.auditing.regulators import Figure, make_appendix
from mia_hub.auditing.report_pages import (
    HOW_TO_READ,
    cost_rows,
    descending,
    direction,
    figure_table,
    headline,
    image_counts,
    meaning,
    provenance_rows,
    selection_text,
    sort_flags,
    timestep_table,
)
from mia_hub.metrics.epsilon import ONE_RUN
from mia_hub.rendering.html import render
from mia_hub.rendering.numbers import share
from mia_hub.rendering.text import Rows, sentence_case, shorten, value_text
from mia_hub.splits.notes import split_notes

if TYPE_CHECKING:
    from mia_hub.auditing.report import AuditReport
    from mia_hub.flags import Flag

TEMPLATE = "mia_hub/auditing/templates/filing.html"
OVER = "Report of an audit for membership in training data"
# On the page of the findings.
MOST_WARNINGS = 4
# Of what stands at the foot of each page, in characters.
LONGEST_RUNNING = 70

NOT_SHOWN = (
    "That the model is safe or anonymous: these figures are those of one attack on these images, and a stronger attack may find more. "
    "Whether training images can be extracted was not tested.",
    "Anything about a single image or person: the figures describe how well the attack does on many images.",
    "Whether a training image was used lawfully.",
)
METHOD = (
    "A membership-inference attack gives each image a score. A higher score means that the image looks more like a training image. The "
    "audit scores images that were in the training set (members) and images that were not (non-members), and reports how well the scores "
    "tell the two apart.",
    "The interval of the AUC is DeLong's (1988), on the logit scale. Those of the shares are built from Clopper and Pearson's exact "
    "limits; that of the members recognised at few false positives also covers the uncertainty of the threshold.",
    "As a control, a blind classifier that sees the images and never the model is trained to tell members from non-members. Above an AUC "
    "of 0.5 it shows that the two kinds of images differ by themselves.",
)
LIMITS = (
    "The intervals cover the draw of the images. They do not cover another training run, another split or another attack.",
    "A low figure shows little about safety: a stronger attack may find more.",
    "Whether the model gives training images back was not tested: that is another measurement (mia-hub copies).",
    "The figures hold for the named revision of the model, queried at the named precision.",
    "Whether the split tells the truth about which images were used in training was not checked: it is a statement of whoever made it.",
)
RECOMPUTE = (
    "scores.parquet holds the score of every image at every timestep; mia_hub.measure computes every figure from it again. The hashes of "
    "the model and of the split identify what was audited, and those of the files identify this result."
)


def audit_filing(report: AuditReport, files: Mapping[str, str] | None = None) -> str:
    """Return the report as an HTML document for print: the findings on a page of their own, and an appendix on what regulators ask.

    Args:
        report: of an audit.
        files: SHA-256 of each file that is filed with it, in hexadecimal digits, by its name.
    """
    from markupsafe import Markup

    title = f"Membership audit of {value_text(report.model.get('id'))}"
    raised = sort_flags(report.flags)
    return render(
        TEMPLATE,
        over=OVER,
        title=title,
        running=shorten(title, LONGEST_RUNNING, end=20),
        facts=_facts(report),
        findings=_findings(report),
        warnings=_warnings(raised),
        not_shown=NOT_SHOWN,
        figure_table=figure_table(report),
        method=METHOD,
        method_rows=_method_rows(report),
        notes=split_notes(report.split),
        data_rows=_data_rows(report),
        direction=direction(report),
        drawn=[(title, Markup(svg)) for title, svg in report.plots],
        timestep_table=timestep_table(report),
        timestep=str(report.timestep),
        epsilon=report.epsilon and {"title": EPSILON_TITLE, "texts": epsilon_texts(report.epsilon), "table": epsilon_table(report.epsilon)},
        ranking=report.ranking and {"title": RANKING_TITLE, "texts": ranking_texts(report.ranking), "table": ranking_table(report.ranking)},
        terms=HOW_TO_READ,
        raised=raised,
        limits=LIMITS,
        recompute=RECOMPUTE,
        provenance=provenance_rows(report),
        files=[[name, digest] for name, digest in (files or {}).items()],
        appendix=make_appendix(_figures(report)),
        created=value_text(report.provenance.get("created")),
    )


def _facts(report: AuditReport) -> Rows:
    """Return what was audited, on what and when."""
    model, split = report.model, report.split
    revision = f", revision {model['revision']}" if model.get("revision") else ""
    return [
        ["Model", f"{value_text(model.get('id'))}{revision}"],
        ["Split", f"{value_text(split.get('name'))}: {split['n_members']:,} members, {split['n_nonmembers']:,} non-members"],
        ["Attack", report.attack.partition("(")[0]],
        ["Measured", value_text(report.provenance.get("created"))],
    ]


def _findings(report: AuditReport) -> list[str]:
    """Return the result in plain words, the first sentence in large letters."""
    texts = [headline(report), *meaning(report)]
    # A bound that doesn't hold for the training would be taken for one that does, without the sentences that follow it among the figures.
    return texts + (epsilon_texts(report.epsilon)[:1] if report.epsilon and report.epsilon.method == ONE_RUN else [])


def _warnings(raised: Sequence[Flag]) -> list[str]:
    """Return the flags in a line each; of many, which would not fit on the page of the findings, the last ones by name."""
    shown = raised if len(raised) <= MOST_WARNINGS else raised[: MOST_WARNINGS - 1]
    lines = [f"{flag.name}: {sentence_case(flag.raised_by)}." for flag in shown]
    others = ", ".join(flag.name for flag in raised[len(shown) :])
    return [*lines, f"Also flagged: {others}; see the part on limits."] if others else lines


def _method_rows(report: AuditReport) -> Rows:
    rows = [["Attack", report.attack]]
    described = described_attack(report.attack)
    if described:
        rows.append(["Its statistic; the score is minus that", described])
    return [*rows, ["Timestep", sentence_case(selection_text(report))], *cost_rows(report)]


def described_attack(identity: str) -> str:
    """Return what an attack measures, with its source; "" for one that is not registered.

    Args:
        identity: the ``repr`` of the attack.
    """
    from mia_hub.attacks import ATTACKS

    kind = next((attack for attack in ATTACKS.values() if attack.__qualname__ == identity.partition("(")[0]), None)
    if kind is None:
        return ""
    summary = (kind.__doc__ or "").strip().splitlines()[0]
    summary = re.sub(r"[`*]", "", summary)
    return f"{summary} Source: {kind.paper}."


def _data_rows(report: AuditReport) -> Rows:
    names = {"n_members": "Members", "n_nonmembers": "Non-members"}
    split = {key: value for key, value in report.split.items() if key != "notes"}
    rows = [[names.get(key, key.replace("_", " ").capitalize()), value_text(value)] for key, value in split.items()]
    return [*rows, ["Scored and reported", image_counts(report)]]


def _figures(report: AuditReport) -> list[Figure]:
    """Return the figures of the appendix."""
    case = "shifted" if any(flag.name == "distribution-shift" for flag in report.flags) else ""
    figures = [Figure("auc", str(report.auc), case)]
    if report.tpr_at_fpr:
        rates = "; ".join(f"{tpr.percent(rate)} at {share(rate)} false positives" for rate, tpr in descending(report.tpr_at_fpr))
        figures.append(Figure("tpr", rates, case))
    if report.epsilon:
        first = report.epsilon.bounds[0]
        value = f"ε ≥ {first.bound:.2f} at δ = {delta_text(first.delta)}, with {first.confidence * 100:g} % confidence"
        key = "epsilon_one_run" if report.epsilon.method == ONE_RUN else "epsilon_rates"
        figures.append(Figure(key, value, "" if first.bound > 0 else "zero"))
    if ranking := report.ranking:
        figures.append(Figure("ranking", f"{len(ranking.images):,} of {ranking.n_ranked:,} members are listed."))
    return figures
