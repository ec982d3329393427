"""Results in words: Markdown, HTML and plain text. What comes from outside (names, ids, flags) is escaped here."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np

from mia_hub.calibration import ALPHA, EVIDENCE, FALSE_DISCOVERY_RATE, NO_NULL, NOT_COMPARABLE, VERDICTS, ImageCheck
from mia_hub.plots import percent, roc_svg, timesteps_svg
from mia_hub.report import AuditReport, Estimate, Flag
from mia_hub.wording import floored_percent, p_text, share

TERMINAL_WIDTH = 88
NAME_WIDTH, TABLE_NAME_WIDTH = 34, 24
MISSING = "—"
UNRECORDED = "not recorded"
SHORT_VERDICTS = {EVIDENCE: "evidence", NOT_COMPARABLE: "not comparable", NO_NULL: "no verdict"}

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
Q_VALUE = f"p, adjusted for the pictures checked together; p above {ALPHA:g} counts as 1"
P_VALUE_CAVEAT = "The p-value is not the probability of innocence"
P_VALUE_IN_GENERAL = (
    f"{P_VALUE_CAVEAT}: it is the share of pictures never in the training set that would look at least this much like training images "
    "by chance."
)

Rows = list[list[str]]


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
    rows += [_percent_row(f"Recognised at {share(rate)} false positives", found, rate) for rate, found in _by_rate(report.tpr_at_fpr)]
    return ["Figure", "Value", "95 % interval", "Members", "Non-members"], rows


def _by_rate(rates: dict[float, Estimate]) -> list[tuple[float, Estimate]]:
    return sorted(rates.items(), reverse=True)


def _decimal_row(name: str, found: Estimate) -> list[str]:
    value, interval = str(found).split(" ", 1)
    return [name, value, interval, f"{found.n_members:,}", f"{found.n_nonmembers:,}"]


def _percent_row(name: str, found: Estimate, rate: float = 0.01) -> list[str]:
    value, interval = percent(found, rate).split(" [")
    return [name, value, f"[{interval[:-1]}] %", f"{found.n_members:,}", f"{found.n_nonmembers:,}"]


def timestep_table(report: AuditReport) -> tuple[list[str], Rows]:
    """Headers and rows of the figures at every timestep."""
    headers = ["t", "AUC", "Attack success rate", *(f"Recognised at {share(rate)} FPR" for rate, _ in _by_rate(report.tpr_at_fpr))]
    rows = [
        [f"{row.timestep}", str(row.auc), percent(row.asr), *(percent(found, rate) for rate, found in _by_rate(row.tpr_at_fpr))]
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
        ["Time for scoring", _quantity(cost.seconds, " s")],
        ["Images per second", _quantity(cost.images_per_second)],
        ["Peak memory", _quantity(cost.peak_memory_mb, " MB")],
    ]


def _quantity(value: float | None, unit: str = "") -> str:
    if value is None:
        return UNRECORDED
    return (f"{value:,.0f}" if value >= 100 else f"{float(f'{value:.3g}'):.10g}") + unit


def provenance_rows(report: AuditReport) -> Rows:
    """What is needed to make the result again."""
    made, model, split = report.provenance, report.model, report.split
    rows = [["Attack", report.attack]]
    rows += [[f"Model: {key.replace('_', ' ')}", _plain(value)] for key, value in model.items()]
    rows += [[f"Split: {key.replace('_', ' ')}", _plain(value)] for key, value in split.items()]
    rows += [[key.replace("_", " ").capitalize(), _plain(value)] for key, value in made.items()]
    return rows


def _plain(value: Any) -> str:
    if value is None or value == "":
        return UNRECORDED
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return " × ".join(map(_plain, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) and value >= 10_000 else str(value)


# Markdown.


def audit_markdown(report: AuditReport) -> str:
    """The report as Markdown with GitHub's tables."""
    parts = [f"# Membership audit of {_code(report.model.get('id', 'a model'))}", f"**{headline(report)}**", f"{_counts(report)}."]
    if report.flags:
        flags = [
            f"- **{_marked(flag.name)}**\n  - Raised by: {_marked(_sentence(flag.raised_by))}.\n  - What it means: {_marked(flag.meaning)}"
            for flag in _gravest_first(report)
        ]
        parts += ["## Read this first", "\n".join(flags)]
    parts += ["## What it means", *meaning(report)]
    parts += ["## Figures", _at(report), _markdown_table(*figure_table(report))]
    parts += ["## How the timestep was selected", _marked(selection_text(report))]
    parts += ["## Every timestep", "Values with 95 % intervals.", _markdown_table(*timestep_table(report))]
    parts += ["## Cost", _markdown_table(["Cost", "Value"], cost_rows(report))]
    recorded = [[_marked(key), _code(value)] for key, value in provenance_rows(report)]
    parts += ["## Provenance", _markdown_table(["What", "Value"], recorded, raw=True)]
    parts += ["## How to read this", "\n".join(f"- **{term}:** {text}" for term, text in HOW_TO_READ)]
    return "\n\n".join(parts) + "\n"


def _gravest_first(report: AuditReport) -> list[Flag]:
    return sorted(report.flags, key=lambda flag: flag.name != "distribution-shift")


def _marked(text: object) -> str:
    """Text from outside, so that Markdown shows it and does not obey it."""
    return re.sub(r"([\\`*_<>|]|(?<=\])\()", r"\\\1", " ".join(str(text).split()))


def _code(text: object) -> str:
    return "`" + " ".join(str(text).split()).replace("`", "'").replace("|", "\\|") + "`"


def _markdown_table(headers: Sequence[str], rows: Rows, *, raw: bool = False) -> str:
    cell = str if raw else _marked
    rule = ["---", *["--:" if len(headers) > 2 else "---"] * (len(headers) - 1)]
    lines = [headers, rule, *([cell(c) for c in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# The report as a page.

PAGE_STYLE = """
:root { color-scheme: light dark; --paper: #fcfbf9; --ink: #1d2024; --soft: #5a6069; --rule: #dfdcd5; --accent: #8a5300; --card: #ffffff;
  --serif: Charter, "Bitstream Charter", "Sitka Text", Cambria, Georgia, "Liberation Serif", serif;
  --sans: system-ui, -apple-system, "Segoe UI", "Helvetica Neue", "Liberation Sans", Arial, sans-serif; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16181b; --ink: #e9e6e0; --soft: #a3a8b0; --rule: #34383e; --accent: #e8b368; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1.0625rem/1.6 var(--serif); overflow-wrap: break-word; }
main { max-width: 58rem; margin: 0 auto; padding: clamp(2rem, 7vw, 5.5rem) clamp(1.25rem, 5vw, 3rem) 5rem; }
p, ul, dl { max-width: 41rem; margin: 0 0 1em; }
.over { font: 500 .875rem/1.5 var(--sans); color: var(--soft); margin: 0 0 1.1rem; }
h1 { font-size: clamp(1.5rem, 1.1rem + 1.9vw, 2.125rem); line-height: 1.3; font-weight: 500; letter-spacing: -.008em; margin: 0 0 1.6rem;
  max-width: 48rem; text-wrap: pretty; }
h2 { font-size: 1.25rem; line-height: 1.35; font-weight: 600; margin: 3.5rem 0 .9rem; }
h3 { font: 600 .9375rem/1.45 var(--sans); margin: 0 0 .35rem; }
.number { white-space: nowrap; }
.flags { border-left: 3px solid var(--accent); padding: .1rem 0 .1rem 1.4rem; margin: 2.2rem 0; max-width: 43rem; }
.flags h2 { margin: 0 0 1rem; color: var(--accent); }
.flags section + section { margin-top: 1.4rem; }
.flags p { margin: 0 0 .3rem; }
.label { color: var(--soft); font-style: italic; }
.scroll { overflow-x: auto; margin: 0 0 1rem; }
.scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 3px; }
table { border-collapse: collapse; font: .9063rem/1.45 var(--sans); font-variant-numeric: tabular-nums lining-nums; min-width: 100%; }
th, td { text-align: right; padding: .5rem 0 .5rem 1.6rem; border-bottom: 1px solid var(--rule); white-space: nowrap;
  vertical-align: baseline; }
th:first-child, td:first-child, .pairs td { text-align: left; }
th:first-child, td:first-child { padding-left: 0; }
thead th { font-weight: 500; color: var(--soft); border-bottom-color: var(--soft); vertical-align: bottom; }
tbody th { font-weight: 400; }
tr.chosen > * { font-weight: 650; }
.pairs { min-width: 0; width: 100%; }
.pairs th { color: var(--soft); width: 15rem; white-space: normal; }
.pairs td { white-space: normal; overflow-wrap: anywhere; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1.5rem; align-items: start;
  margin: 2rem 0; }
figure { margin: 0; background: var(--card); border-radius: 6px; padding: .75rem; border: 1px solid var(--rule); max-width: 34rem; }
figcaption { font: .875rem/1.45 var(--sans); color: #1c1f23; padding: 0 .35rem .6rem; }
dt { font-weight: 600; }
dd { margin: 0 0 .8rem; }
footer { border-top: 1px solid var(--rule); margin-top: 4rem; padding-top: 1rem; color: var(--soft); font: .875rem/1.5 var(--sans); }
@media (max-width: 34rem) {
  th, td { padding-left: 1rem; } th:first-child { white-space: normal; }
  figure { margin: 0 -.85rem; padding: .75rem .25rem; max-width: none; }
  .pairs th { width: 40%; } .pairs th, .pairs td { padding-right: .2rem; } .pairs td { padding-left: .8rem; } }
@media print { :root { --paper: #fff; --ink: #000; --soft: #444; --rule: #bbb; --accent: #6b4200; } body { font-size: 10.5pt; }
  main { padding: 0; max-width: none; } .scroll { overflow: visible; } figure, tr, .flags section, dt { break-inside: avoid; }
  h2 { break-after: avoid; margin-top: 2rem; } table { font-size: 8.5pt; } th, td { padding-left: .7rem; white-space: normal; } }
"""
# Nothing may be fetched or run, whoever opens the page and wherever it lies.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def audit_html(report: AuditReport) -> str:
    """The report as one self-contained page: no script, no request to anywhere; light and dark, on paper and on a phone."""
    model = escape(_plain(report.model.get("id")))
    made = escape(_plain(report.provenance.get("created")))
    over = f"Membership audit of {model} · split {escape(_plain(report.split.get('name')))} · {escape(_counts(report))}"
    terms = "".join(f"<dt>{escape(term)}</dt><dd>{_prose(_sentence(text))}</dd>" for term, text in HOW_TO_READ)
    body = [
        f'<header><p class="over">{over}</p><h1>{_prose(headline(report))}</h1></header>',
        _flags_html(report),
        *(f"<p>{_prose(line)}</p>" for line in meaning(report)),
        _section("Figures", f"<p>{_prose(_at(report))}</p>", _html_table(*figure_table(report), label="Figures")),
        _figures(report),
        _section("How the timestep was selected", f"<p>{_prose(selection_text(report))}</p>"),
        _section(
            "Every timestep",
            "<p>Values with 95 % intervals; the selected timestep is in bold.</p>",
            _html_table(*timestep_table(report), label="Figures at every timestep", chosen=str(report.timestep)),
        ),
        _section("Cost", _pairs(cost_rows(report))),
        _section("Provenance", _pairs(provenance_rows(report))),
        _section("How to read this", f"<dl>{terms}</dl>"),
        f"<footer>Made by mia_hub on {made}. This page makes no request to any other place.</footer>",
    ]
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>Membership audit of {model}</title><style>{PAGE_STYLE}</style></head>\n"
        f"<body><main>\n{''.join(body)}\n</main></body></html>\n"
    )


def _sentence(text: str) -> str:
    """With a capital first letter, unless that letter is the symbol t."""
    return text if text.startswith("t = ") else text[:1].upper() + text[1:]


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def _prose(text: str) -> str:
    """Escaped text in which a value stays on one line with its unit and its interval."""
    text = re.sub(r"(?<=\d) (?=%)|(?<=\b[tpq]) (?==)|(?<=\b[tpq] =) (?=\d)", "\N{NO-BREAK SPACE}", escape(text))
    return re.sub(r"(?:AUC )?[\d.]+(?:\s%)? \[[^\]]*\]", lambda found: f'<span class="number">{found[0]}</span>', text)


def _flags_html(report: AuditReport) -> str:
    if not report.flags:
        return ""
    flags = "".join(
        f'<section><h3>{escape(flag.name)}</h3><p><span class="label">Raised by:</span> {_prose(_sentence(flag.raised_by))}.</p>'
        f'<p><span class="label">What it means:</span> {_prose(flag.meaning)}</p></section>'
        for flag in _gravest_first(report)
    )
    return f'<aside class="flags"><h2>Read this first</h2>{flags}</aside>'


def _figures(report: AuditReport) -> str:
    drawn = (
        ("AUC at every timestep", timesteps_svg(report)),
        (f"ROC curve at t = {report.timestep}, on logarithmic axes", roc_svg(report.roc, auc=report.auc, tpr_at_fpr=report.tpr_at_fpr)),
    )
    return '<div class="figures">' + "".join(f"<figure><figcaption>{escape(c)}</figcaption>{svg}</figure>" for c, svg in drawn) + "</div>"


def _html_table(headers: Sequence[str], rows: Rows, *, label: str, chosen: str | None = None) -> str:
    head = "".join(f'<th scope="col">{escape(h)}</th>' for h in headers)
    body = "".join(
        f'<tr{" class=chosen" if chosen == first else ""}><th scope="row">{escape(first)}</th>'
        f"{''.join(f'<td>{escape(cell)}</td>' for cell in rest)}</tr>"
        for first, *rest in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _pairs(rows: Iterable[Sequence[str]]) -> str:
    body = "".join(f'<tr><th scope="row">{escape(key)}</th><td>{escape(value)}</td></tr>' for key, value in rows)
    return f'<div class="scroll"><table class="pairs"><tbody>{body}</tbody></table></div>'


# Answers about pictures.


def figures_of(check: ImageCheck) -> Rows:
    """Names and values of one answer's figures; what does not exist is left out."""
    rows = [["Model", check.model], ["Attack", check.attack]]
    if check.p_value is not None:
        rows.append(["Compared with", f"{check.n_null:,} of {check.source}"])
    rows += [["Timestep", f"t = {check.timestep}"], ["Membership score (higher = more like a training image)", _score(check.score)]]
    if check.share_below is not None:
        rows.append(["Known non-members with a lower score", f"{floored_percent(check.share_below):.1f} %"])
    if check.p_value is not None:
        rows.append(["p-value", p_text(check.p_value)])
    if check.q_value is not None:
        rows.append([f"q-value ({Q_VALUE})", p_text(check.q_value)])
    return rows


def _score(score: float) -> str:
    return f"{score:.4g}".replace("-", "−")


def check_text(checks: Sequence[ImageCheck], *, model: str, attack: str) -> str:
    """Answers for a terminal: one picture in full, several as a table."""
    if not checks:
        return "No pictures were checked.\n"
    if len(checks) == 1:
        return "\n".join(_one_as_text(checks[0])) + "\n"
    return "\n".join([*_several_as_text(checks), "", *_wrapped(f"Model: {model}"), *_wrapped(f"Attack: {attack}")]) + "\n"


def _one_as_text(check: ImageCheck) -> list[str]:
    lines = [*_wrapped(check.name), "", *_wrapped(check.sentence, "  ")]
    rows = figures_of(check)
    width = max(len(name) for name, _ in rows)
    lines.append("")
    for name, value in rows:
        lines += textwrap.wrap(value, TERMINAL_WIDTH, initial_indent=f"  {name:<{width}}  ", subsequent_indent=" " * (width + 4))
    lines += ["", "What this does not mean", *_items(check.caveats)]
    return lines + (["", "About this picture", *_items(check.notes)] if check.notes else [])


def _several_as_text(checks: Sequence[ImageCheck]) -> list[str]:
    rows = [
        [_fitted(c.name), _verdict(c), *(MISSING if p is None else p_text(p) for p in (c.p_value, c.q_value)), _score(c.score)]
        for c in checks
    ]
    table = [["picture", "verdict", "p", "q", "score"], *rows]
    widths = [max(len(row[i]) for row in table) for i in range(5)]
    lines = ["  ".join(f"{cell:<{w}}" if i < 2 else f"{cell:>{w}}" for i, (cell, w) in enumerate(zip(row, widths))) for row in table]
    lines.insert(1, "  ".join("─" * w for w in widths))
    lines += ["", *_wrapped(_tally(checks)), *_wrapped(f"Scores: higher = more like a training image; at t = {checks[0].timestep}.")]
    lines += ["", "What this does not mean", *_items(shared_caveats(checks))]
    notes = Counter(note for check in checks for note in check.notes)
    counted = [f"{note} ({n} pictures)" if n > 1 else note for note, n in notes.items()]
    return lines + (["", "About these pictures", *_items(counted)] if counted else [])


def _tally(checks: Sequence[ImageCheck]) -> str:
    """How many got which verdict, and what is held when several pictures are judged together."""
    counts = Counter(map(_verdict, checks))
    said = f"{len(checks)} pictures: {', '.join(f'{n} {verdict}' for verdict, n in counts.items())}."
    judged = sum(check.q_value is not None for check in checks)
    if not judged:
        return said
    return f"{said} {q_explained(judged)}"


def q_explained(judged: int) -> str:
    """What a q-value is, for whoever sees one."""
    return (
        f"q is p adjusted for the {judged} picture{'s' * (judged != 1)} judged together (Benjamini–Hochberg; p above {ALPHA:g} counts as "
        f"1): of those called evidence, at most {share(FALSE_DISCOVERY_RATE)} are expected to be false discoveries (FDR)."
    )


def shared_caveats(checks: Sequence[ImageCheck]) -> list[str]:
    """The caveats of several answers, each once; that of the p-value in general terms."""
    lines = (P_VALUE_IN_GENERAL if line.startswith(P_VALUE_CAVEAT) else line for check in checks for line in check.caveats)
    return list(dict.fromkeys(lines))


def checks_table(checks: Sequence[ImageCheck]) -> tuple[list[str], list[list]]:
    """Headers and rows, one per picture, the smallest p first, for a table on screen.

    What matters most stands leftmost, for narrow screens. The column "Picture" begins with the picture's number among ``checks``,
    from 1; `row_number` reads it. Figures are numbers, so that they sort; missing ones are "—".
    """
    headers = ["Verdict", "p", "q", "Picture", "Score"]
    order = sorted(range(len(checks)), key=lambda i: (checks[i].p_value is None, checks[i].p_value or 0))
    rows = [
        [
            _verdict(check),
            *(MISSING if value is None else float(p_text(value)) for value in (check.p_value, check.q_value)),
            f"{number + 1} · {_fitted(check.name, TABLE_NAME_WIDTH)}",
            float(f"{check.score:.4g}"),
        ]
        for number, check in ((i, checks[i]) for i in order)
    ]
    return headers, rows


def row_number(row: Sequence) -> int:
    """The number, from 0, of the picture that a row of `checks_table` is of."""
    return int(row[3].split(" ", 1)[0]) - 1


def _verdict(check: ImageCheck) -> str:
    return SHORT_VERDICTS.get(check.verdict, "cannot tell")


def _fitted(name: str, width: int = NAME_WIDTH) -> str:
    """Of a long name the beginning and the end, which tells file names apart."""
    name = " ".join(name.split())
    end = width // 3 + 1
    return name if len(name) <= width else f"{name[: width - end - 1]}…{name[-end:]}"


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, TERMINAL_WIDTH, initial_indent=indent, subsequent_indent=indent) or [indent]


def _items(lines: Iterable[str]) -> list[str]:
    return [part for line in lines for part in textwrap.wrap(line, TERMINAL_WIDTH, initial_indent="  - ", subsequent_indent="    ")]


def check_html(check: ImageCheck) -> str:
    """One answer as a fragment for a page, without its plot. Styled by ``ui/style.css``."""
    return answer_html(check) + figures_html(check) + caveats_html(check)


def answer_html(check: ImageCheck) -> str:
    """Verdict and sentence."""
    verdict = VERDICTS[check.verdict]
    sentence = _sentence(check.sentence.removeprefix(f"{verdict}: "))
    return (
        f'<div class="mia-answer mia-{escape(check.verdict)}" role="status"><p class="mia-verdict">{verdict}.</p>'
        f'<p class="mia-sentence">{_prose(sentence)}</p></div>'
    )


def figures_html(check: ImageCheck) -> str:
    """The table of figures, and how the picture was read."""
    rows = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in figures_of(check))
    notes = "".join(f"<p>{escape(note)}</p>" for note in check.notes)
    notes = f'<div class="mia-notes">{notes}</div>' if notes else ""
    return f'<div class="mia-figures"><table class="mia-table"><tbody>{rows}</tbody></table>{notes}</div>'


def caveats_html(check: ImageCheck) -> str:
    """What the answer does not mean."""
    lines = "".join(f"<li>{_prose(line)}</li>" for line in check.caveats)
    return f'<div class="mia-caveats"><h3 class="mia-heading">What this does not mean</h3><ul>{lines}</ul></div>' if lines else ""
