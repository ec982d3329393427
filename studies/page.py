"""The stored figures of a study, and the page that is written from them.

``docs/studies/NAME.json`` holds every number of a study, ``NAME.svg`` its figure and ``NAME.md`` its page, made from the template
``studies/NAME.in.md``. The page is a function of the numbers: ``python -m studies.NAME --render`` writes it again without a model, and a
test compares the two.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mia_hub.system.files import write_text
from mia_hub.system.streams import any_terminal

DOCS = Path(__file__).parent.parent / "docs" / "studies"
TEMPLATES = Path(__file__).parent
# Trained models and scores; not part of the repository.
RUNS = Path("runs/studies")


def read_results(name: str, folder: Path | None = None) -> dict[str, Any]:
    """Return the numbers of a study as measured last; by default of those in `DOCS`."""
    return json.loads(((folder or DOCS) / f"{name}.json").read_text(encoding="utf-8"))


def write_results(name: str, results: dict[str, Any], folder: Path | None = None) -> None:
    """Store the numbers of a study, by default in `DOCS`."""
    folder = folder or DOCS
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / f"{name}.json", json.dumps(results, indent=1, ensure_ascii=False) + "\n")


def fill(template: str, parts: dict[str, str]) -> str:
    """Return the template with each ``{{name}}`` replaced by its part.

    Raises:
        KeyError: for a name without a part, and for a part that the template doesn't use.
    """
    names = set(re.findall(r"\{\{([\w-]+)\}\}", template))
    if names != set(parts):
        raise KeyError(f"The template names {sorted(names - set(parts))} without a part; {sorted(set(parts) - names)} are not in it.")
    return re.sub(r"\{\{([\w-]+)\}\}", lambda match: parts[match[1]], template)


def page_of(name: str, render: Callable[[dict[str, Any]], dict[str, str]]) -> dict[Path, str]:
    """Return the files of a study by path: parts whose names end in ".svg" are figures, the others fill the template."""
    parts = render(read_results(name))
    figures = {DOCS / key: text + "\n" for key, text in parts.items() if key.endswith(".svg")}
    texts = {key: text for key, text in parts.items() if not key.endswith(".svg")}
    template = (TEMPLATES / f"{name}.in.md").read_text(encoding="utf-8")
    return {**figures, DOCS / f"{name}.md": fill(template, texts)}


@any_terminal()
def run_study(
    name: str,
    description: str,
    measure: Callable[[argparse.Namespace], dict[str, Any]],
    render: Callable[[dict[str, Any]], dict[str, str]],
    arguments: list[str] | None = None,
) -> None:
    """Run the command of a study: measure, unless ``--render`` is given, and write figure, table and page.

    Args:
        measure: maps the options to the numbers, as JSON values.
        render: maps the numbers to the parts of the page and its figures.
    """
    parser = argparse.ArgumentParser(prog=f"python -m studies.{name}", description=description)
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of the trained models and of scores (default: runs/studies)")
    parser.add_argument("--render", action="store_true", help="write the page again from the stored numbers")
    args = parser.parse_args(arguments)
    if not args.render:
        write_results(name, measure(args))
    for path, text in page_of(name, render).items():
        write_text(path, text)
        print(path)
