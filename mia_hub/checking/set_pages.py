"""The answer for a set of images, as text and as a fragment for a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mia_hub.checking.set_answers import SET_VERDICTS, SetCheck, fraction_text, more_text
from mia_hub.rendering.html import fragment
from mia_hub.rendering.numbers import p_text
from mia_hub.rendering.terminal import bullets, columns, paragraph
from mia_hub.rendering.text import Rows

if TYPE_CHECKING:
    from markupsafe import Markup


def set_rows(found: SetCheck) -> Rows:
    """Names and values of the answer's figures; what does not exist is left out."""
    rows = [["Model", found.model], ["Attack", f"{found.attack_name} at t = {found.timestep}"], ["Images in the set", f"{found.n:,}"]]
    if found.source is not None:
        rows.append(["Compared with", f"{found.n_null:,} of {found.source}"])
    if found.p_value is not None:
        rows += [
            ["p-value (permutation test)", p_text(found.p_value)],
            ["p-value (Welch's t-test)", p_text(max(found.p_welch, 1e-4)) if found.p_welch >= 1e-4 else "below 0.0001"],
            ["Estimated share of training images", fraction_text(found.fraction)],
            ["Further images needed for evidence", more_text(found.more_needed)],
        ]
    return rows


def set_text(found: SetCheck) -> str:
    """For a terminal."""
    lines = [*paragraph(found.sentence), "", *columns(set_rows(found))]
    lines += ["", "What this does not mean", *bullets(found.caveats)]
    return "\n".join(lines + (["", "About these images", *bullets(found.notes)] if found.notes else [])) + "\n"


def set_html(found: SetCheck) -> Markup:
    """Verdict and sentence, for a page; styled by ``ui/style.css``."""
    return fragment("answer", found.verdict, SET_VERDICTS[found.verdict], found.sentence)


def set_figures_html(found: SetCheck) -> Markup:
    """The table of figures, and what was left out."""
    return fragment("figures", set_rows(found), found.notes)
