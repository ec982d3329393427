"""``mia-hub app``: what it asks of Gradio. That the page answers is tested in tests/ui and test_wheel.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mia_hub.cli.parser import main


@pytest.fixture
def launches(monkeypatch):
    """Options of each launch of a page that serves nothing."""
    options = []
    page = SimpleNamespace(launch=lambda **given: options.append(given))
    monkeypatch.setattr("mia_hub.ui.build_app", lambda: page)
    monkeypatch.setattr("mia_hub.ui.launch_options", lambda: {"theme": "ours"})
    return options, page


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        # Gradio looks into its own environment variables for what is None.
        ([], {"server_name": None, "server_port": None, "share": None}),
        (["--host", "0.0.0.0", "--port", "8000", "--share"], {"server_name": "0.0.0.0", "server_port": 8000, "share": True}),
    ],
)
def test_host_port_and_share_are_handed_on(arguments, expected, launches):
    assert main(["app", *arguments]) == 0
    assert launches[0] == [{"theme": "ours"} | expected]


def test_a_port_that_cannot_be_is_refused_before_the_page_is_built(launches, capsys, monkeypatch):
    monkeypatch.setattr("mia_hub.ui.build_app", lambda: pytest.fail("it was built"))
    assert main(["app", "--port", "70000"]) == 2
    assert "--port takes an integer from 1 to 65535; got 70000" in capsys.readouterr().err


def test_a_port_in_use_is_said_in_a_line(launches, capsys):
    def refuse(**options):
        raise OSError("Cannot find empty port in range: 8000-8000. You can specify a different port by …")

    launches[1].launch = refuse
    assert main(["app", "--port", "8000"]) == 2
    error = capsys.readouterr().err
    assert error == (
        "mia-hub: The page can't be served there (Cannot find empty port in range: 8000-8000); give another --host or --port.\n"
    )
