"""Run ``mia-hub`` in the test's own process."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from mia_hub.cli import build_parser, main


def leaf_parsers(parser: argparse.ArgumentParser | None = None) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """(command, parser) of every command of ``mia-hub`` that has no further ones: "check", "benchmark list"."""
    groups = [action for action in (parser or build_parser())._actions if isinstance(action, argparse._SubParsersAction)]
    for group in groups:
        for name, each in group.choices.items():
            inner = list(leaf_parsers(each))
            yield from ((f"{name} {further}", leaf) for further, leaf in inner) if inner else [(name, each)]


def run(capsys, *arguments) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command."""
    status = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return status, out, err
