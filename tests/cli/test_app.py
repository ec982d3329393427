"""``mia-hub app``: what it asks of Gradio. That the page answers is tested in tests/ui and test_wheel.py."""

from __future__ import annotations

import platform
import threading
from types import SimpleNamespace

import pytest

from mia_hub.cli.parser import main
from mia_hub.models.loading import load_model
from mia_hub.ui.check import checkers, layout
from mia_hub.ui.hardware import LARGEST_AT_HOME, LARGEST_WEIGHTS, PUBLIC


@pytest.fixture
def launches(monkeypatch):
    """Options of each launch of a page that serves nothing."""
    options = []
    page = SimpleNamespace(launch=lambda **given: options.append(given))
    monkeypatch.setattr("mia_hub.ui.build_app", lambda **kept: page)
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
    monkeypatch.setattr("mia_hub.ui.build_app", lambda **kept: pytest.fail("it was built"))
    assert main(["app", "--port", "70000"]) == 2
    assert "--port takes an integer from 1 to 65535; got 70000" in capsys.readouterr().err


GIB = 2**30
LIMITS = {
    "at home": ((), {}, None, ""),
    "a limit at home": (("--largest-weights", "4GiB"), {}, 4 * GIB, " with weights up to 4 GiB"),
    "in public": (("--public",), {}, 2 * GIB, " with weights up to 2 GiB"),
    "another one in public": (("--public", "--largest-weights", "500mib"), {}, 500 * 2**20, " with weights up to 500 MiB"),
    "a larger one in public": (("--public", "--largest-weights", "6 GiB"), {}, 6 * GIB, " with weights up to 6 GiB"),
    "by the variable": ((), {"MIA_HUB_LARGEST_WEIGHTS": "3GiB"}, 3 * GIB, " with weights up to 3 GiB"),
    "the option comes first": (("--largest-weights", "1GiB"), {"MIA_HUB_LARGEST_WEIGHTS": "3GiB"}, GIB, " with weights up to 1 GiB"),
    "on a Space": ((), {"SPACE_ID": "a/space"}, 2 * GIB, " with weights up to 2 GiB"),
    "another one on a Space": ((), {"SPACE_ID": "a/space", "MIA_HUB_LARGEST_WEIGHTS": "8GiB"}, 8 * GIB, " with weights up to 8 GiB"),
}


@pytest.fixture
def environment(monkeypatch):
    """None of the page's variables; what the command sets is removed again."""
    for name in (PUBLIC, LARGEST_WEIGHTS, "SPACE_ID"):
        monkeypatch.setenv(name, "")
    return monkeypatch


@pytest.mark.parametrize("case", LIMITS)
def test_the_limit_on_weights_holds_and_the_page_says_it(case, launches, environment):
    arguments, variables, limit, words = LIMITS[case]
    for name, value in variables.items():
        environment.setenv(name, value)
    loads = []
    environment.setattr(checkers, "load_model", lambda name, **options: loads.append(options) or load_model("demo"))
    environment.setattr(checkers, "_hub_models", {})
    assert main(["app", *arguments]) == 0
    checkers._hub_model("owner/name", None)
    assert loads == [{"trusted": False, "largest": LARGEST_AT_HOME if limit is None else limit}]
    assert f"the Hub id of an image model{words}, such as" in layout._model().info


@pytest.mark.parametrize("size", ["", "4", "4G", "-1GiB", "0GiB", "a lot", "nan GiB"])
def test_a_limit_that_is_no_size_is_refused_before_the_page_is_built(size, launches, capsys, environment):
    environment.setattr("mia_hub.ui.build_app", lambda **kept: pytest.fail("it was built"))
    for arguments, variable, name in (((f"--largest-weights={size}",), "", "--largest-weights"), ((), size, LARGEST_WEIGHTS)):
        if name == LARGEST_WEIGHTS and not size:
            continue  # an empty variable states nothing
        environment.setenv(LARGEST_WEIGHTS, variable)
        assert main(["app", *arguments]) == 2
        assert (
            f"{name} takes a size such as 4GiB or 500MB (units KB, MB, GB, TB, KiB, MiB, GiB, TiB); got {size!r}."
            in capsys.readouterr().err
        )


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone keeps unused memory")
def test_unused_memory_is_returned_while_the_page_is_served(launches):
    def names() -> list[str]:
        return [thread.name for thread in threading.enumerate()]

    during: list[str] = []
    launches[1].launch = lambda **options: during.extend(names())
    assert main(["app"]) == 0
    assert "unused memory" in during and "unused memory" not in names()


def test_a_port_in_use_is_said_in_a_line(launches, capsys):
    def refuse(**options):
        raise OSError("Cannot find empty port in range: 8000-8000. You can specify a different port by …")

    launches[1].launch = refuse
    assert main(["app", "--port", "8000"]) == 2
    error = capsys.readouterr().err
    assert error == (
        "mia-hub: The page can't be served there (Cannot find empty port in range: 8000-8000); give another --host or --port.\n"
    )
