"""An answer as a page of its own, for a file: what the app shows, without a script, and without the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mia_hub.checking.image_answers import ImageCheck
from mia_hub.checking.image_pages import checks_table, image_figures, shared_caveats, together_text
from mia_hub.checking.profile_plot import profile_svg
from mia_hub.checking.set_answers import SetCheck
from mia_hub.checking.set_pages import set_figures
from mia_hub.checking.verdict_plot import set_svg, verdict_svg
from mia_hub.checking.verdict_texts import q_value_text
from mia_hub.checking.verdicts import NOT_COMPARABLE
from mia_hub.rendering.html import render
from mia_hub.system.provenance import provenance

if TYPE_CHECKING:
    from markupsafe import Markup

TEMPLATE = "mia_hub/checking/templates/answer.html"
ONE, SEVERAL, SET = (
    "Was this image in the training set of the model {}?",
    "Were these images in the training set of the model {}?",
    "Were these images, as a set, in the training data of the model {}?",
)


def images_page(checks: Sequence[ImageCheck], left_out: Sequence[str] = ()) -> str:
    """Return the answers about one or more images as an HTML page.

    Args:
        checks: at least one.
        left_out: sentences on what was left out.
    """
    first, several = checks[0], len(checks) > 1
    judged = [check for check in checks if check.p_value is not None]
    values: dict[str, Any] = {
        "over": (SEVERAL if several else ONE).format(first.model),
        "headline": together_text(checks) if several else first.sentence,
        "lead": q_value_text(len(judged)) if several and judged else "" if several else first.name,
        "images": _images_table(checks) if several else None,
        "figures": [] if several else image_figures(first),
        "caveats": shared_caveats(checks) if several else first.caveats,
        "notes": list(dict.fromkeys(note for check in checks for note in check.notes)),
    }
    drawn = [] if several else [("Score over the timesteps", curve_svg(first))]
    if judged:
        drawn.append(("What the verdict is made of" if not several else "What the verdicts are made of", _verdict_plot(judged)))
    return _page(values, drawn, left_out)


def set_page(check: SetCheck) -> str:
    """Return the answer about a set of images as an HTML page."""
    drawn = []
    if check.known_scores is not None:
        drawn = [("What the verdict is made of", _markup(set_svg(check.scores, check.known_scores, attack=check.attack_name)))]
    values = {"over": SET.format(check.model), "headline": check.sentence, "lead": "", "images": None, "figures": set_figures(check)}
    return _page(values | {"caveats": check.caveats, "notes": check.notes}, drawn, ())


def curve_svg(check: ImageCheck) -> Markup:
    """Return the plot of an image's scores over the timesteps, without bands of images of another kind."""
    profile = check.profile
    if check.verdict == NOT_COMPARABLE:
        # Their bands would invite the comparison that can't be made.
        profile = replace(profile, members=None, nonmembers=None)
    return _markup(profile_svg(profile, check.timestep, title=check.name, judged=check.p_value is not None))


def _images_table(checks: Sequence[ImageCheck]) -> tuple[list[str], list[list[Any]]]:
    headers, rows = checks_table(checks)
    return [headers[3], *headers[:3], headers[4]], [[row[3], *row[:3], row[4]] for row in rows]


def _verdict_plot(judged: Sequence[ImageCheck]) -> Markup:
    known = judged[0].known_scores
    assert known is not None
    return _markup(verdict_svg(known, [(check.name, check.score) for check in judged], attack=judged[0].attack))


def _page(values: dict[str, Any], drawn: Sequence[tuple[str, Markup]], left_out: Sequence[str]) -> str:
    return render(TEMPLATE, title=values["over"], drawn=drawn, left_out=left_out, created=provenance()["created"], **values)


def _markup(svg: str) -> Markup:
    from markupsafe import Markup

    return Markup(svg)
