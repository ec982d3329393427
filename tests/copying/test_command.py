"""``mia-hub copies``: options reach the search, and what is wrong is said."""

from __future__ import annotations

import pytest

from mia_hub.cli import main
from mia_hub.copying import finding


@pytest.fixture
def passed(monkeypatch):
    """What the command passes on."""
    calls = []

    def stopped(*arguments, **options):
        calls.append((arguments, options))
        raise KeyboardInterrupt

    monkeypatch.setattr(finding, "find_copies", stopped)
    return calls


def test_only_given_options_are_passed_on(passed, tmp_path, capsys):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a cat\n\nein Männchen\n", encoding="utf-8")
    assert (
        main(
            [
                "copies",
                "--model",
                "m",
                "--training",
                "t",
                "-n",
                "9",
                "--prompts",
                str(prompts),
                "--rate",
                ".1",
                "--out",
                str(tmp_path / "o"),
            ]
        )
        == 130
    )
    assert main(["copies", "--quiet"]) == 130
    (first, options), (second, rest) = passed
    assert first == ("m", "t", None)
    assert options == {
        "n": 9,
        "prompts": ["a cat", "ein Männchen"],
        "rate": 0.1,
        "embedder": "pixels",
        "folder": tmp_path / "o",
        "progress": True,
    }
    assert second == ("demo", None, None) and rest == {"embedder": "pixels", "folder": None, "progress": False}
    assert "The same command resumes it." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--prompts", "missing.txt"], "and there is no file missing.txt"),
        (["--images", "0"], "n, the number of images to generate, must be an integer ≥ 1; got 0"),
        (["--generated", "somewhere"], "The training images are missing"),
    ],
)
def test_what_is_wrong_is_said(arguments, says, capsys):
    assert main(["copies", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("mia-hub: ") and says in err
