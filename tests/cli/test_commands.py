"""The program: it lists attacks, refuses mistakes in one line, and is the same however it is started."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import mia_hub
from mia_hub.cli import main


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return status, out, err


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
        (["check", "nowhere.png"], "there is no file nowhere.png"),
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
    done = subprocess.run(f"{sys.executable} -m mia_hub attacks | head -n 1", shell=True, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
