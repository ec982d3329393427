"""The answer about a set of images, as text and as fragments for a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mia_hub.checking.set_answers import SetCheck
from mia_hub.checking.verdict_texts import SET_VERDICTS, fraction_text, more_needed_text
from mia_hub.rendering.html import fragment
from mia_hub.rendering.numbers import p_text
from mia_hub.rendering.terminal import bullets, columns, paragraph
from mia_hub.rendering.text import Rows

if TYPE_CHECKING:
    from markupsafe import Markup

SMALLEST_P_SHOWN = 1e-4


def set_figures(check: SetCheck) -> Rows:
    """Return names and values of the answer's figures, without those that it doesn't have."""
    rows = [["Model", check.model], ["Attack", f"{check.attack_name} at t = {check.timestep}"], ["Images in the set", f"{check.n:,}"]]
    if check.source is not None:
        rows.append(["Compared with", f"{check.n_null:,} of {check.source}"])
    if check.p_value is not None and check.p_welch is not None and check.fraction is not None:
        rows += [
            ["p-value (permutation test)", p_text(check.p_value)],
            ["p-value (Welch's t-test)", p_text(check.p_welch) if check.p_welch >= SMALLEST_P_SHOWN else "below 0.0001"],
            ["Estimated share of training images", fraction_text(check.fraction)],
            ["Further images needed for evidence", more_needed_text(check.more_needed)],
        ]
    return rows


def set_text(check: SetCheck) -> str:
    """Return the answer as text for a terminal."""
    lines = [*paragraph(check.sentence), "", *columns(set_figures(check))]
    lines += ["", "What this does not mean", *bullets(check.caveats)]
    return "\n".join(lines + (["", "About these images", *bullets(check.notes)] if check.notes else [])) + "\n"


# Fragments for a page, styled by ``ui/style.css``.


def set_answer_html(check: SetCheck) -> Markup:
    """Return verdict and sentence."""
    return fragment("answer", check.verdict, SET_VERDICTS[check.verdict], check.sentence)


def set_figures_html(check: SetCheck) -> Markup:
    """Return the table of figures, and the notes on what was left out."""
    return fragment("figures", set_figures(check), check.notes)
