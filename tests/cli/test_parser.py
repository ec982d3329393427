"""The command line as a whole; each command is tested with the room that does its work."""

from __future__ import annotations

import argparse
import pkgutil
import re

import pytest

import mia_hub
import mia_hub.cli
from mia_hub.cli import parser as cli
from mia_hub.errors import MiaHubError

NOT_COMMANDS = {"options", "output", "parser", "publishing"}


def commands() -> dict[str, argparse.ArgumentParser]:
    (action,) = (action for action in cli.build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    return action.choices


def test_each_file_of_the_room_is_a_command():
    modules = {module.name for module in pkgutil.iter_modules(mia_hub.cli.__path__)} - NOT_COMMANDS
    assert {module.__name__.rpartition(".")[2] for module in cli.COMMANDS if module.__name__.startswith("mia_hub.")} == modules
    assert all(callable(module.add_command) for module in cli.COMMANDS)


@pytest.mark.parametrize("name", commands())
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([name, "--help"])
    page = capsys.readouterr().out
    assert end.value.code == 0 and page.startswith(f"usage: mia-hub {name}")
    assert commands()[name].description.endswith((".", "?"))


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert re.findall(r"^    ([a-z-]+)\s", capsys.readouterr().out, re.MULTILINE) == list(commands())


def test_version(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"mia-hub {mia_hub.__version__}\n"


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (MiaHubError("no such thing; give another."), 2, "mia-hub: no such thing; give another.\n"),
        (KeyboardInterrupt(), 130, "\nmia-hub: interrupted; nothing was written.\n"),
    ],
)
def test_what_goes_wrong_is_said_in_a_line(error, status, says, capsys, monkeypatch):
    def fail(args):
        raise error

    monkeypatch.setattr("mia_hub.cli.attacks.run", fail)
    assert cli.main(["attacks"]) == status
    assert capsys.readouterr() == ("", says)


@pytest.mark.parametrize(("rank", "says"), [("0", "mia-hub: only audit and compare share their work"), ("1", "")])
def test_a_command_that_cannot_be_shared_is_refused_by_the_first_process(rank, says, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    assert cli.main(["attacks"]) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.startswith(says) and bool(output.err) == bool(says)
