"""The program as a whole: its help, its refusals, and that it is the same however it is started."""

from __future__ import annotations

import argparse
import os
import pkgutil
import re
import subprocess
import sys

import pytest
from support.command_line import run

import mia_hub
import mia_hub.cli
from mia_hub.cli import parser as cli
from mia_hub.errors import MiaHubError

NOT_COMMANDS = {"check_batch", "fail_above", "options", "output", "parser", "publishing"}


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


@pytest.mark.parametrize(
    ("arguments", "command", "says"),
    [
        (["check", "image.png", "--atack", "sima"], "check", "there is no option --atack. Did you mean --attack?"),
        (["audit", "--limt=100"], "audit", "there is no option --limt. Did you mean --limit?"),
        (["reference", "list", "--qqq"], "reference list", "there is no option --qqq. mia-hub reference list --help lists them all."),
        (["install-metric", "sima"], "install-metric", "unexpected argument: sima"),
        (["install-metric", "--", "sima"], "install-metric", "unexpected argument: -- sima"),
        (["--versoin", "attacks"], "", "there is no option --versoin. Did you mean --version?"),
        (["chekc"], "", "there is no command chekc. Did you mean check?"),
        (["image.png"], "", "there is no command image.png. mia-hub --help lists them all."),
        (["reference", "biuld"], "reference", "there is no action biuld. Did you mean build?"),
        (["attacks", "--al"], "attacks", "there is no option --al. mia-hub attacks --help lists them all."),
    ],
)
def test_an_unknown_argument_is_named_with_the_usage_of_its_command(arguments, command, says, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.startswith(f"usage: mia-hub {command}") and error.endswith(f": error: {says}\n")


@pytest.mark.parametrize(("rank", "says"), [("0", "mia-hub: only audit, compare and reference build share their work"), ("1", "")])
def test_a_command_that_cannot_be_shared_is_refused_by_the_first_process(rank, says, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    assert cli.main(["attacks"]) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.startswith(says) and bool(output.err) == bool(says)


def test_attacks_lists_parameters(capsys):
    status, out, _ = run(capsys, "attacks")
    assert status == 0
    for text in ("sima ", "sima-mc ", "gray-box", "draws = 10", "input = 'clean'"):
        assert text in out


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "member.png"
    mia_hub.load_split("demo").members[0].to_pil().save(path)
    return path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["check", "nowhere.png"], "nowhere.png: there is no such file"),
        (["check", "IMAGE", "--model", "nonsense"], "There is no model 'nonsense'"),
        (["check", "IMAGE", "--model", "alice/absent"], "The Hub has no model 'alice/absent'"),
        (["check", "IMAGE", "--attack", "simaa"], "Did you mean 'sima'"),
        (["check", "IMAGE", "--set", "p"], "NAME=VALUE"),
        (["check", "IMAGE", "--set", "draws=3"], "no parameter 'draws'"),
        (["check", "IMAGE", "--nonmembers", "FOLDER"], "has no images"),
        (["check", "IMAGE", "--device", "warp"], "device 'warp' is not available"),
        (["check", "FOLDER"], "has no images"),
        (["audit", "--split", "nonsense"], "There is no split 'nonsense'"),
        (["audit", "--limit", "1"], "limit must be an integer ≥ 2"),
        (["audit", "--limit", "30", "--seed", "-1"], "seed must be an integer ≥ 0"),
        (["audit", "--limit", "40", "--fpr", "0.001"], "At least 1000 non-members"),
        (["audit", "--timestep", "5"], "not among the scored ones"),
        (["audit", "--out", "IMAGE/x"], "can't be made"),
        (["audit", "--revision", "main"], "is for models on the Hub"),
    ],
)
def test_mistakes_get_one_line_and_status_2(capsys, tmp_path, image, arguments, says):
    (tmp_path / "empty").mkdir()
    known = {"IMAGE": image, "FOLDER": tmp_path / "empty", "IMAGE/x": image / "x"}
    status, out, err = run(capsys, *(known.get(argument, argument) for argument in arguments), "--quiet")
    assert (status, out) == (2, "")
    assert says in err
    assert err.startswith("mia-hub: ") and err.count("\n") == 1


def test_module_and_console_script_are_the_same_program():
    for command in ([sys.executable, "-m", "mia_hub"], [os.path.join(os.path.dirname(sys.executable), "mia-hub")]):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
        assert done.stdout == f"mia-hub {mia_hub.__version__}\n"


def test_a_reader_that_goes_away_causes_no_traceback():
    done = subprocess.run(f"{sys.executable} -m mia_hub publish all nobody | head -n 1", shell=True, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
