"""Where a local model comes from, as its own folder says: a sentence and a command, kept inside its entry.

``training.json`` is written by whoever trained the model. It is read as a stranger's text: bounded, one line each, and shown escaped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mia_hub.rendering.text import one_line

FILE = "training.json"
LARGEST, LONGEST = 2**20, 1000


def trained(names: Sequence[str], folders: Sequence[Path]) -> list[dict[str, str]]:
    """What the folders of a model and of what lies on top of it say.

    Returns:
        ``{"name", "sentence", "command"}`` each; sentence and command are empty where nothing is said that can be read.
    """
    return [{"name": name} | _said(folder / FILE) for name, folder in zip(names, folders)]


def _said(path: Path) -> dict[str, str]:
    try:
        facts = json.loads(path.read_bytes()) if path.stat().st_size <= LARGEST else None
    except (OSError, ValueError, RecursionError):
        facts = None
    facts = facts if isinstance(facts, Mapping) else {}
    return {"sentence": _sentence(facts), "command": _line(facts.get("command"))}


def _sentence(facts: Mapping[str, Any]) -> str:
    """One sentence of those facts that there are."""
    said = {name: _line(facts.get(name)) for name in ("members", "data", "source", "licence", "steps")}
    recipe = facts.get("recipe")
    numbers = [f"{_line(name)} {_line(value)}" for name, value in recipe.items()] if isinstance(recipe, Mapping) else []
    if not said["data"]:
        return ""
    count = f"{said['members']} images of " if said["members"] else ""
    parts = [f"Trained on {count}{said['data']}"]
    parts += [f" ({said['source']})"] if said["source"] else []
    parts += [f", licence {said['licence']}"] if said["licence"] else []
    parts += [f", for {said['steps']} steps"] if said["steps"] else []
    parts += [f"; {', '.join(numbers)}"] if numbers else []
    return _line("".join(parts)) + "."


def _line(value: Any) -> str:
    """A text, a number or a list of them as one line, cut where it is too long; "" for anything else."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float, list)):
        return ""
    return one_line(value, LONGEST)


def check_trained(found: Any) -> None:
    """Refuses what `trained` never gives.

    Raises:
        ValueError: with the reason.
    """
    if not isinstance(found, list) or len(found) > 10:
        raise ValueError("where its model comes from is no short list")
    for part in found:
        if not isinstance(part, Mapping) or set(part) != {"name", "sentence", "command"}:
            raise ValueError("a part of where its model comes from lacks a name, a sentence or a command")
        for what, text in part.items():
            if not isinstance(text, str) or len(text) > LONGEST + 1 or not text.isprintable():
                raise ValueError(f"the {what} of where its model comes from is {text!r:.60}, and should be a line of text")
