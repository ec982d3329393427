"""A comparison of attacks in words: as Markdown, and as a page."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from mia_hub.auditing.estimates_text import percent
from mia_hub.auditing.report_pages import HOW_TO_READ, by_rate, flags_html, gravest_first, notes_html, provenance_rows
from mia_hub.rendering.markup import (
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
    from mia_hub.auditing.comparison import ComparedAttack, Comparison

ONE_SCORE = "one score"
HOW_TO_COMPARE = (
    ("t", "the timestep of the figures; an attack of one score has none to choose, since it aggregates all of its own."),
    (
        "Queries per image",
        "denoiser forward passes for the score that is reported, and in the next column for all timesteps among which its own was chosen; "
        "after a plus sign, passes made once, whatever the number of images.",
    ),
    ("Seconds per image", "wall-clock time of scoring at all timesteps, decoding of the images included."),
    (
        "Peak memory",
        "of the accelerator's allocator while the attack ran; on a CPU of the whole process, with libraries and model. Outside Linux a "
        "process's peak can't be reset, so that an attack there shows at least what those before it needed.",
    ),
    (
        "A name with plus signs",
        "a combination: logistic regression on all scores of its parts, fitted on the calibration part. “Alone” is one of its parts by "
        "itself, combined in the same way over as many evenly spaced timesteps as the combination's queries pay for.",
    ),
    ("Several rows", "invite a choice. The best of many looks better than it is, and where intervals overlap the order is not settled."),
)


def comparison_headline(comparison: Comparison) -> str:
    """The result in one or two sentences, with its first caution at once."""
    rows, blind = comparison.rows, comparison.blind_auc
    best = max(rows, key=lambda row: row.report.auc.value)
    among = f"among {len(rows)} attacks" if len(rows) > 1 else "of the one attack compared"
    highest = f"the highest AUC {among} is {best.report.auc} ({best.label})"
    if blind is not None and blind.low > 0.5:
        return (
            "Not evidence of memorisation: a classifier that never sees the model already tells members from non-members with AUC "
            f"{blind}; {highest}."
        )
    if best.report.auc.low <= 0.5:
        return f"No attack can be told from guessing with these images: {highest}."
    said = sentence(highest)
    if comparison.rates:
        rate = min(comparison.rates, key=lambda rate: abs(rate - 0.01))
        most = max(rows, key=lambda row: row.report.tpr_at_fpr[rate].value)
        said += f"; at {share(rate)} false positives at most {percent(most.report.tpr_at_fpr[rate], rate)} are recognised ({most.label})"
    optimistic = any(flag.name == "oracle-selection" for flag in comparison.flags)
    return said + (". These figures are optimistic: timesteps were chosen on the same images." if optimistic else ".")


def comparison_table(comparison: Comparison) -> tuple[list[str], Rows]:
    """Headers and rows, one per attack."""
    rates = [f"Recognised at {share(rate)} FPR" for rate in comparison.rates]
    headers = ["Attack", "Access", "t", "AUC", "Attack success rate", *rates]
    headers += ["Queries per image", "At all timesteps", "Seconds per image", "Peak memory"]
    return headers, [_row(row) for row in comparison.rows]


def _row(row: ComparedAttack) -> list[str]:
    report, once = row.report, f" + {row.setup_queries:,} once" if row.setup_queries else ""
    return [
        row.label,
        row.access,
        ONE_SCORE if row.one_score else str(report.timestep),
        str(report.auc),
        percent(report.asr),
        *(percent(found, rate) for rate, found in by_rate(report.tpr_at_fpr)),
        f"{row.queries_at_timestep:,}{once}",
        f"{report.cost.queries_per_image:,}{once}",
        quantity(row.seconds_per_image),
        quantity(report.cost.peak_memory_mb, " MB"),
    ]


def measured_on(comparison: Comparison) -> str:
    """On which images everything was chosen, and on which it is reported."""
    chosen = comparison.rows[0].report.selection
    measured = f"{chosen['n_members']:,} members and {chosen['n_nonmembers']:,} non-members"
    if "n_calibration_members" not in chosen:
        return f"The timestep and the threshold of each attack are the best on the reported images themselves (optimistic): {measured}."
    return (
        f"All figures come from the same {measured}. The timestep of each attack is the one of highest AUC on another "
        f"{chosen['n_calibration_members']:,} members and {chosen['n_calibration_nonmembers']:,} non-members, the same for all attacks; "
        "what an attack learns, it learns there."
    )


def _blind(comparison: Comparison) -> str:
    if comparison.blind_auc is None:
        return "No blind classifier was measured: members and non-members may be distinguishable without the model."
    return f"A blind classifier, which sees the images and never the model, reaches AUC {comparison.blind_auc}."


def choices(comparison: Comparison) -> list[str]:
    """What attacks chose for themselves on the calibration part."""
    return [f"{row.label} chose {_chosen(row.chosen)} there." for row in comparison.rows if row.chosen]


def _chosen(chosen: dict) -> str:
    return "; ".join(
        f"{name} = {', '.join(_chosen(entry) if isinstance(entry, dict) else str(entry) for entry in value if entry)}"
        if isinstance(value, (list, tuple))
        else f"{name} = {plain(value)}"
        for name, value in chosen.items()
    )


def _recorded(comparison: Comparison) -> Rows:
    first = comparison.rows[0].report
    # The first row of a report's own table is its attack.
    return [[f"Attack: {row.label}", row.report.attack] for row in comparison.rows] + provenance_rows(first)[1:]


def comparison_markdown(comparison: Comparison) -> str:
    """The comparison as Markdown with GitHub's tables."""
    parts = [f"# Attacks compared on {code(comparison.model.get('id', 'a model'))}", f"**{marked(comparison_headline(comparison))}**"]
    if comparison.flags:
        flags = [f"- **{marked(f.name)}**: {marked(sentence(f.raised_by))}. {marked(f.meaning)}" for f in gravest_first(comparison.flags)]
        parts += ["## Read this first", "\n".join(flags)]
    parts += [f"**Of the split:** {marked(note)}" for note in split_notes(comparison.split)]
    parts += ["## Figures", "Higher = leaks more. Brackets are 95 % intervals.", markdown_table(*comparison_table(comparison))]
    parts += [marked(line) for line in (measured_on(comparison), *choices(comparison), _blind(comparison))]
    if comparison.left_out:
        parts += ["## Left out", "\n".join(f"- **{marked(left.label)}**: {marked(left.reason)}" for left in comparison.left_out)]
    parts += ["## How to read this", "\n".join(f"- **{term}:** {text}" for term, text in (*HOW_TO_READ, *HOW_TO_COMPARE))]
    recorded = [[marked(key), code(value)] for key, value in _recorded(comparison)]
    parts += ["## Provenance", markdown_table(["What", "Value"], recorded, raw=True)]
    return "\n\n".join(parts) + "\n"


def comparison_html(comparison: Comparison) -> str:
    """The comparison as one self-contained page: no script, no request to anywhere."""
    first = comparison.rows[0].report
    title = f"Attacks compared on {plain(comparison.model.get('id'))}"
    made = escape(plain(first.provenance.get("created")))
    over = escape(f"{title} · split {plain(comparison.split.get('name'))} · {first.auc.n:,} images reported on")
    left = "".join(f"<dt>{escape(left.label)}</dt><dd>{escape(left.reason)}</dd>" for left in comparison.left_out)
    drawn = f"<figure><figcaption>Every attack, and its ROC curve on logarithmic axes</figcaption>{comparison.plot_svg()}</figure>"
    body = [
        f'<header><p class="over">{over}</p><h1>{prose(comparison_headline(comparison))}</h1></header>',
        flags_html(comparison.flags),
        notes_html(comparison.split),
        *(f"<p>{prose(line)}</p>" for line in (measured_on(comparison), *choices(comparison), _blind(comparison))),
        section(
            "Figures",
            "<p>Higher = leaks more. Brackets are 95 % intervals.</p>",
            html_table(*comparison_table(comparison), label="Figures of every attack"),
        ),
        f'<div class="figures">{drawn}</div>',
        section("Left out", f"<dl>{left}</dl>") if left else "",
        section("How to read this", definitions((*HOW_TO_READ, *HOW_TO_COMPARE))),
        section("Provenance", pairs(_recorded(comparison))),
        f"<footer>Made by mia_hub on {made}. This page makes no request to any other place.</footer>",
    ]
    return page(title, "".join(body))
