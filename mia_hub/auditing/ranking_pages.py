"""The ranking of members in the report of an audit, in words and as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mia_hub.auditing.ranking import RankedImage, Ranking
from mia_hub.rendering.numbers import p_text
from mia_hub.rendering.text import Rows

if TYPE_CHECKING:
    from markupsafe import Markup

RANKING_TITLE = "Members most at risk"


def ranking_texts(ranking: Ranking) -> list[str]:
    """Return what the list is, and what it is not."""
    ranked = f"{ranking.n_ranked:,} members, by their scores at t = {ranking.timestep}"
    held_back = (
        f" The {ranking.n_held_back:,} members that took part in the choice of the timestep are not ranked; another seed ranks other "
        "halves."
        if ranking.n_held_back
        else ""
    )
    return [
        f"The {len(ranking.images):,} training images that the attack finds first, of {ranked}.{held_back} Without them in the training "
        "set, or with fewer copies and repetitions of them, the model may leak less; only another audit shows whether it does.",
        f"The p-value says how an image looks to an attacker who doesn't know that it is a member: which share of {ranking.n_null:,} "
        "reported non-members scores as high, the image itself counted. The q-value takes the number of ranked members into account.",
        "This is a list to look at, not a test of each image: all of them are known members. The top of any list looks striking, also "
        "where the attack only guesses; read it beside the figures above.",
    ]


def ranking_table(ranking: Ranking) -> tuple[list[str], Rows]:
    """Return headers and rows, without thumbnails."""
    return ["Rank", "Name", "Score", "p-value", "q-value", "Content id"], [
        [str(place), *_cells(image)] for place, image in enumerate(ranking.images, 1)
    ]


def ranking_html_table(ranking: Ranking) -> tuple[list[str], list[list[str | Markup]]]:
    """Return headers and rows with thumbnails; without them where the ranking was read back."""
    from markupsafe import Markup

    headers, rows = ranking_table(ranking)
    if not all(image.thumbnail for image in ranking.images):
        return headers, [list(row) for row in rows]
    drawn = [Markup('<img src="{}" alt="{}">').format(image.thumbnail_url, image.name) for image in ranking.images]
    return [headers[0], "Image", *headers[1:]], [[row[0], img, *row[1:]] for row, img in zip(rows, drawn)]


def thumbnails_note(ranking: Ranking) -> str:
    """Return what the owner must know before the page is passed on; empty where it holds no images."""
    count = sum(bool(image.thumbnail) for image in ranking.images)
    return f"This page holds small copies of {count:,} training images; pass it on only to people who may see them." if count else ""


def _cells(image: RankedImage) -> list[str]:
    return [image.name, f"{image.score:.4g}", p_text(image.p_value), p_text(image.q_value), image.id]
