"""Run ``mia-hub`` in the test's own process."""

from __future__ import annotations

from mia_hub.cli import main


def run(capsys, *arguments) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command."""
    status = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return status, out, err
