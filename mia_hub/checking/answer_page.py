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
from mia_hub.checking.verdict_plot import Mark, set_svg, verdict_svg
from mia_hub.checking.verdict_texts import q_value_text
from mia_hub.checking.verdicts import NOT_COMPARABLE
from mia_hub.metrics.candidates import AS_IT_IS
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
    if len(checks) == 1:
        return _image_page(checks[0], left_out)
    first, judged = checks[0], [check for check in checks if check.p_value is not None]
    drawn = []
    if judged:
        marks = [(check.name, check.score) for check in judged]
        drawn.append(("What the verdicts are made of", scores_svg(judged[0], marks)))
    values: dict[str, Any] = {
        "over": SEVERAL.format(first.model),
        "headline": together_text(checks),
        "lead": q_value_text(len(judged)) if judged else "",
        "images": _images_table(checks),
        "figures": [],
        "caveats": shared_caveats(checks),
        "notes": list(dict.fromkeys(note for check in checks for note in check.notes)),
    }
    return _page(values, drawn, left_out)


def _image_page(check: ImageCheck, left_out: Sequence[str]) -> str:
    drawn = [("Score over the timesteps", curve_svg(check))]
    if check.p_value is not None:
        drawn.append(("What the verdict is made of", scores_svg(check)))
    values = {"over": ONE.format(check.model), "headline": check.sentence, "lead": check.name, "images": None}
    return _page(values | {"figures": image_figures(check), "caveats": check.caveats, "notes": check.notes}, drawn, left_out)


def set_page(check: SetCheck) -> str:
    """Return the answer about a set of images as an HTML page."""
    svg = set_scores_svg(check)
    drawn = [] if svg is None else [("What the verdict is made of", svg)]
    values = {"over": SET.format(check.model), "headline": check.sentence, "lead": "", "images": None, "figures": set_figures(check)}
    return _page(values | {"caveats": check.caveats, "notes": check.notes}, drawn, ())


def curve_svg(check: ImageCheck) -> Markup:
    """Return the plot of an image's scores over the timesteps, without bands of images of another kind."""
    profile = check.profile
    if check.verdict == NOT_COMPARABLE:
        # Their bands would invite the comparison that can't be made.
        profile = replace(profile, members=None, nonmembers=None)
    line = "this image" if check.candidate in (None, AS_IT_IS) else f"this image {AS_IT_IS}, not {check.candidate}"
    return _markup(profile_svg(profile, check.timestep, title=check.name, line=line, judged=check.p_value is not None))


def _images_table(checks: Sequence[ImageCheck]) -> tuple[list[str], list[list[Any]]]:
    headers, rows = checks_table(checks)
    return [headers[3], *headers[:3], headers[4]], [[row[3], *row[:3], row[4]] for row in rows]


def scores_svg(check: ImageCheck, everyone: Sequence[Mark] = (), *, selected: bool = False) -> Markup:
    """Return the plot of the verdict's score of an image among those of known images.

    Args:
        check: an answer with a verdict.
        everyone: ``(name, score)`` of all images that were checked together, which then have a strip each.
        selected: whether the image is emphasised among them.
    """
    assert check.known_scores is not None
    own = (check.name, check.score)
    return _markup(verdict_svg(check.known_scores, everyone or [own], attack=check.attack, selected=own if selected else None))


def set_scores_svg(check: SetCheck) -> Markup | None:
    """Return the plot of a set's scores among those of known images; None where there is no verdict."""
    if check.known_scores is None:
        return None
    return _markup(set_svg(check.scores, check.known_scores, attack=check.attack_name))


def _page(values: dict[str, Any], drawn: Sequence[tuple[str, Markup]], left_out: Sequence[str]) -> str:
    return render(TEMPLATE, title=values["over"], drawn=drawn, left_out=left_out, created=provenance()["created"], **values)


def _markup(svg: str) -> Markup:
    from markupsafe import Markup

    return Markup(svg)
