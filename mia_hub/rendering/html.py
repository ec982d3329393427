"""HTML from templates, which escape every value that isn't HTML already.

A template's name is its path from the folder that holds the packages, such as "mia_hub/rendering/templates/page.html". That page and the
fragments beside it are the ones that all rooms share. jinja2 is imported when the first template is rendered.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mia_hub.rendering.text import sentence_case

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

ROOT = Path(__file__).parents[2]
FRAGMENTS = "mia_hub/rendering/templates/fragments.html"

# A value stays on one line with its unit and its interval.
_GLUED = re.compile(r"(?<=\d) (?=%)|(?<=\b[tpq]) (?==)|(?<=\b[tpq] =) (?=\d)")
_NUMBER = re.compile(r"(?:AUC )?[\d.]+(?:\s%)? \[[^\]]*\]")


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Return the environment of all templates."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(ROOT), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, auto_reload=False
    )
    templates.filters |= {"prose": prose, "sentence_case": sentence_case}
    return templates


def render(template: str, /, **values: Any) -> str:
    """Return a whole page.

    Args:
        template: its name.
        values: what it shows. What is HTML already is given as `markupsafe.Markup`.
    """
    return environment().get_template(template).render(values)


def fragment(name: str, /, *args: Any, template: str = FRAGMENTS, **keywords: Any) -> Markup:
    """Return a piece of a page: what the macro of that name in a template makes of the arguments."""
    piece: Markup = getattr(environment().get_template(template).module, name)(*args, **keywords)
    return piece


def prose(text: str) -> Markup:
    """Return a text, escaped, in which a value stays on one line with its unit and its interval."""
    from markupsafe import Markup, escape

    escaped = _GLUED.sub("\N{NO-BREAK SPACE}", str(escape(text)))
    return Markup(_NUMBER.sub(lambda match: f'<span class="number">{match[0]}</span>', escaped))
