"""The advice in texts: the commands, options and names in them."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from support.command_line import leaf_parsers


def texts(package: Path) -> Iterator[tuple[str, str]]:
    """(place, text) of every text in the code of a package; VALUE stands for what is put in when the program runs."""
    for path in sorted(package.rglob("*.py")):
        tree, parts = ast.parse(path.read_text(encoding="utf-8")), set()
        for node in ast.walk(tree):  # from the outside in
            if isinstance(node, ast.JoinedStr):
                parts.update(map(id, ast.walk(node)))
                yield f"{path}:{node.lineno}", "".join(part.value if isinstance(part, ast.Constant) else "VALUE" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
                yield f"{path}:{node.lineno}", node.value


def commands(text: str) -> list[list[str]]:
    """The commands ``'mia-hub …'`` in a text, as words without the first."""
    return [shlex.split(command)[1:] for command in re.findall(r"(?<!\w)'(mia-hub [^']+)'", text)]


def wrong_with(words: list[str]) -> str | None:
    """The fault in the words of a ``mia-hub`` command, in which "…" stands for further ones; None if nothing is."""
    for name, parser in leaf_parsers():
        if words[: len(name.split())] == name.split():
            arguments = words[len(name.split()) :]
            unknown = [word for word in arguments if word.startswith("-") and word not in parser._option_string_actions]
            if unknown:
                return f"{name} has no {unknown[0]}"
            complete = "…" not in arguments and not any(action.required and action.option_strings for action in parser._actions)
            if complete and arguments:
                numbers = ["7" if word == "N" else word for word in arguments]
                try:
                    parser.parse_args(numbers)
                except SystemExit:
                    return f"{name} doesn't take {arguments}"
            return None
    return f"there is no command {words}"
