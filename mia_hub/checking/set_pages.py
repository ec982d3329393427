"""The answer about a set of images, as text and as fragments for a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mia_hub.checking.set_answers import CDI, SetCheck
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
    attack = "26 features of CDI" if check.method == CDI else f"{check.attack_name} at t = {check.timestep}"
    rows = [["Model", check.model], ["Attack", attack], ["Images in the set", f"{check.n:,}"]]
    if check.source is not None:
        rows.append(["Compared with", f"{check.n_null:,} of {check.source}"])
    if check.p_value is not None and check.method == CDI:
        rows += [["p-value (Welch's t-test on the held-out half)", _welch_text(check.p_value)]]
    elif check.p_value is not None and check.p_welch is not None and check.fraction is not None:
        rows += [
            ["p-value (permutation test)", p_text(check.p_value)],
            ["p-value (Welch's t-test)", _welch_text(check.p_welch)],
            ["Estimated share of training images", fraction_text(check.fraction)],
            ["Further images needed for evidence", more_needed_text(check.more_needed)],
        ]
    return rows


def _welch_text(p_value: float) -> str:
    return p_text(p_value) if p_value >= SMALLEST_P_SHOWN else "below 0.0001"


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
