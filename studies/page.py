"""Where a study keeps its figures, and how its page is written from them.

``docs/studies/NAME.json`` holds every number of a study, ``NAME.svg`` its figure and ``NAME.md`` its page, filled in from
``studies/NAME.in.md``. The page is a function of the numbers: ``python -m studies.NAME --render`` writes it again without a model, and a
test holds the two together.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mia_hub.system.files import write_text

DOCS = Path(__file__).parent.parent / "docs" / "studies"
TEMPLATES = Path(__file__).parent
# Of trained models and scores; not kept in the repository.
RUNS = Path("runs/studies")


def read_results(name: str) -> dict[str, Any]:
    """The numbers of a study as they were measured last."""
    return json.loads((DOCS / f"{name}.json").read_text(encoding="utf-8"))


def write_results(name: str, results: dict[str, Any]) -> None:
    DOCS.mkdir(parents=True, exist_ok=True)
    write_text(DOCS / f"{name}.json", json.dumps(results, indent=1, ensure_ascii=False) + "\n")


def filled(template: str, parts: dict[str, str]) -> str:
    """The template with each ``{{name}}`` replaced.

    Raises:
        KeyError: for a name without a part, and for a part that the template doesn't use.
    """
    names = set(re.findall(r"\{\{([\w-]+)\}\}", template))
    if names != set(parts):
        raise KeyError(f"The template names {sorted(names - set(parts))} without a part; {sorted(set(parts) - names)} are not in it.")
    return re.sub(r"\{\{([\w-]+)\}\}", lambda found: parts[found[1]], template)


def page_of(name: str, render: Callable[[dict[str, Any]], dict[str, str]]) -> dict[Path, str]:
    """The files that a study's numbers give: what `render` returns under names that end in ".svg" are figures, the rest are words."""
    parts = render(read_results(name))
    figures = {DOCS / key: text + "\n" for key, text in parts.items() if key.endswith(".svg")}
    words = {key: text for key, text in parts.items() if not key.endswith(".svg")}
    template = (TEMPLATES / f"{name}.in.md").read_text(encoding="utf-8")
    return {**figures, DOCS / f"{name}.md": filled(template, words)}


def run_study(
    name: str,
    description: str,
    measure: Callable[[argparse.Namespace], dict[str, Any]],
    render: Callable[[dict[str, Any]], dict[str, str]],
    arguments: list[str] | None = None,
) -> None:
    """The command of a study: measures, unless ``--render`` is given, and writes figure, table and page.

    Args:
        measure: from the options to the numbers, as JSON values.
        render: from the numbers to the parts of the page and its figures.
    """
    parser = argparse.ArgumentParser(prog=f"python -m studies.{name}", description=description)
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of the trained models and of scores (default: runs/studies)")
    parser.add_argument("--render", action="store_true", help="write the page again from the numbers that are there")
    args = parser.parse_args(arguments)
    if not args.render:
        write_results(name, measure(args))
    for path, text in page_of(name, render).items():
        write_text(path, text)
        print(path)
