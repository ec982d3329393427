"""The origin of a local model, as its own folder states it: a sentence and a command, stored inside its entry.

``training.json`` is written by whoever trained the model. It is read as a stranger's text: bounded, one line each, and shown escaped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from leaderboard.validation import line_up_to
from mia_hub.rendering.text import one_line
from mia_hub.system.validation import Closed

FILE = "training.json"
LARGEST, LONGEST = 2**20, 1000


class TrainingFacts(Closed):
    """The stored form of one element of `training_facts`."""

    name: Annotated[str, line_up_to(LONGEST + 1, empty=True)]
    sentence: Annotated[str, line_up_to(LONGEST + 1, empty=True)]
    command: Annotated[str, line_up_to(LONGEST + 1, empty=True)]


def training_facts(names: Sequence[str], folders: Sequence[Path]) -> list[dict[str, str]]:
    """Read how a model and its overlays were trained from their folders.

    Returns:
        ``{"name", "sentence", "command"}`` each; sentence and command are empty where the folder states nothing readable.
    """
    return [{"name": name} | _facts(folder / FILE) for name, folder in zip(names, folders)]


def _facts(path: Path) -> dict[str, str]:
    try:
        facts = json.loads(path.read_bytes()) if path.stat().st_size <= LARGEST else None
    except (OSError, ValueError, RecursionError):
        facts = None
    facts = facts if isinstance(facts, Mapping) else {}
    return {"sentence": _sentence(facts), "command": _line(facts.get("command"))}


def _sentence(facts: Mapping[str, Any]) -> str:
    """Return one sentence with those facts that are present."""
    lines = {name: _line(facts.get(name)) for name in ("members", "data", "source", "licence", "steps")}
    recipe = facts.get("recipe")
    settings = [f"{_line(name)} {_line(value)}" for name, value in recipe.items()] if isinstance(recipe, Mapping) else []
    if not lines["data"]:
        return ""
    count = f"{lines['members']} images of " if lines["members"] else ""
    parts = [f"Trained on {count}{lines['data']}"]
    parts += [f" ({lines['source']})"] if lines["source"] else []
    parts += [f", licence {lines['licence']}"] if lines["licence"] else []
    parts += [f", for {lines['steps']} steps"] if lines["steps"] else []
    parts += [f"; {', '.join(settings)}"] if settings else []
    return _line("".join(parts)) + "."


def _line(value: Any) -> str:
    """Return a text, a number or a list of them as one line, cut where it is too long; "" for anything else."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float, list)):
        return ""
    return one_line(value, LONGEST)
