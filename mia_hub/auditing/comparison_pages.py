"""A comparison of attacks, as Markdown and as a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mia_hub.auditing.report_pages import (
    HOW_TO_READ,
    TEMPLATES,
    descending,
    provenance_markdown,
    provenance_rows,
    sort_flags,
    terms_markdown,
)
from mia_hub.rendering.html import render
from mia_hub.rendering.markdown import code_span, escape_markdown, markdown_table
from mia_hub.rendering.numbers import quantity, share
from mia_hub.rendering.text import Rows, sentence_case, value_text
from mia_hub.splits.notes import blind_sample_note, split_notes

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
    """Return the result in one or two sentences, its first caution included."""
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
    text = sentence_case(highest)
    if comparison.rates:
        rate = min(comparison.rates, key=lambda rate: abs(rate - 0.01))
        most = max(rows, key=lambda row: row.report.tpr_at_fpr[rate].value)
        text += f"; at {share(rate)} false positives at most {most.report.tpr_at_fpr[rate].percent(rate)} are recognised ({most.label})"
    optimistic = any(flag.name == "oracle-selection" for flag in comparison.flags)
    return text + (". These figures are optimistic: timesteps were chosen on the same images." if optimistic else ".")


def comparison_table(comparison: Comparison) -> tuple[list[str], Rows]:
    """Return headers and rows, one per attack."""
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
        report.asr.percent(),
        *(tpr.percent(rate) for rate, tpr in descending(report.tpr_at_fpr)),
        f"{row.queries_at_timestep:,}{once}",
        f"{report.cost.queries_per_image:,}{once}",
        quantity(row.seconds_per_image),
        quantity(report.cost.peak_memory_mb, " MB"),
    ]


def shared_selection_text(comparison: Comparison) -> str:
    """Return on which images timesteps were chosen, and on which the figures are reported."""
    selection = comparison.rows[0].report.selection
    measured = f"{selection['n_members']:,} members and {selection['n_nonmembers']:,} non-members"
    if "n_calibration_members" not in selection:
        return f"The timestep and the threshold of each attack are the best on the reported images themselves (optimistic): {measured}."
    return (
        f"All figures come from the same {measured}. The timestep of each attack is the one of highest AUC on another "
        f"{selection['n_calibration_members']:,} members and {selection['n_calibration_nonmembers']:,} non-members, the same for all "
        "attacks; what an attack learns, it learns there."
    )


def _blind_text(comparison: Comparison) -> str:
    blind = comparison.blind_auc
    if blind is None:
        return "No blind classifier was measured: members and non-members may be distinguishable without the model."
    sample = blind_sample_note(blind, comparison.split)
    return f"A blind classifier, which sees the images and never the model, reaches AUC {blind}.{sample}"


def choices(comparison: Comparison) -> list[str]:
    """Return what attacks chose for themselves on the calibration part."""
    return [f"{row.label} chose {_choice_text(row.chosen)} there." for row in comparison.rows if row.chosen]


def _choice_text(chosen: dict[str, Any]) -> str:
    return "; ".join(
        f"{name} = {', '.join(_choice_text(entry) if isinstance(entry, dict) else str(entry) for entry in value if entry)}"
        if isinstance(value, (list, tuple))
        else f"{name} = {value_text(value)}"
        for name, value in chosen.items()
    )


def _texts(comparison: Comparison) -> list[str]:
    return [shared_selection_text(comparison), *choices(comparison), _blind_text(comparison)]


def _provenance(comparison: Comparison) -> Rows:
    # The first row of a report's own table is its attack.
    shared = provenance_rows(comparison.rows[0].report)[1:]
    return [[f"Attack: {row.label}", row.report.attack] for row in comparison.rows] + shared


def comparison_markdown(comparison: Comparison) -> str:
    """Return the comparison as Markdown with GitHub's tables."""
    parts = [f"# Attacks compared on {code_span(comparison.model.get('id', 'a model'))}"]
    parts += [f"**{escape_markdown(comparison_headline(comparison))}**"]
    if comparison.flags:
        texts = [(flag.name, sentence_case(flag.raised_by), flag.meaning) for flag in sort_flags(comparison.flags)]
        parts += ["## Read this first", "\n".join("- **{}**: {}. {}".format(*map(escape_markdown, text)) for text in texts)]
    parts += [f"**Of the split:** {escape_markdown(note)}" for note in split_notes(comparison.split)]
    parts += ["## Figures", "Higher = leaks more. Brackets are 95 % intervals.", markdown_table(*comparison_table(comparison))]
    parts += map(escape_markdown, _texts(comparison))
    if comparison.left_out:
        skipped = [f"- **{escape_markdown(attack.label)}**: {escape_markdown(attack.reason)}" for attack in comparison.left_out]
        parts += ["## Left out", "\n".join(skipped)]
    parts += ["## How to read this", terms_markdown((*HOW_TO_READ, *HOW_TO_COMPARE))]
    parts += ["## Provenance", provenance_markdown(_provenance(comparison))]
    return "\n\n".join(parts) + "\n"


def comparison_html(comparison: Comparison) -> str:
    """Return the comparison as one self-contained page: no script, no request to anywhere."""
    from markupsafe import Markup

    first = comparison.rows[0].report
    title = f"Attacks compared on {value_text(comparison.model.get('id'))}"
    return render(
        f"{TEMPLATES}/comparison.html",
        title=title,
        over=f"{title} · split {value_text(comparison.split.get('name'))} · {first.auc.n:,} images reported on",
        headline=comparison_headline(comparison),
        raised=sort_flags(comparison.flags),
        notes=split_notes(comparison.split),
        texts=_texts(comparison),
        figure_table=comparison_table(comparison),
        drawn=[("Every attack, and its ROC curve on logarithmic axes", Markup(comparison.plot_svg()))],
        skipped=comparison.left_out,
        terms=(*HOW_TO_READ, *HOW_TO_COMPARE),
        provenance=_provenance(comparison),
        created=value_text(first.provenance.get("created")),
    )
