"""Whatever is printed, and whoever reads it, a command does its work to the end."""

from __future__ import annotations

import io
import logging
import sys

import pytest
from support.terminals import gone_stream, terminal
from tqdm.auto import tqdm

from mia_hub.system.files import write_output
from mia_hub.system.streams import any_terminal

TEXT = "p ≤ 0.05 · “ε” 漢 \udce9"


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", 'p <= 0.05 * "epsilon" \\u6f22 \\xe9\n'),
        ("cp1252", "p <= 0.05 · “epsilon” \\u6f22 \\xe9\n"),
        ("utf-8", "p ≤ 0.05 · “ε” 漢 \\xe9\n"),
    ],
)
def test_whatever_writes_is_shown(encoding, shown, monkeypatch):
    with terminal(monkeypatch, encoding) as screen, any_terminal():
        print(TEXT)
        print(TEXT, file=sys.stderr)
        sys.stdout.writelines([TEXT, "\n"])
        handler = logging.StreamHandler()
        handler.emit(logging.makeLogRecord({"msg": TEXT}))
        tqdm.write(TEXT, file=sys.stderr)
    assert screen.text() == (shown * 2, shown * 3)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_progress_bar_is_shown(encoding, monkeypatch):
    with terminal(monkeypatch, encoding) as screen, any_terminal():
        assert list(tqdm(range(3), desc="reading ≤ 漢", mininterval=0)) == [0, 1, 2]
    assert "reading <= \\u6f22: 100%|##########| 3/3" in screen.text()[1]


@pytest.mark.parametrize("kind", ["absent", "closed", "pipe", "full"])
@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_the_work_goes_on_when_nobody_can_read_a_stream(name, kind, monkeypatch, tmp_path):
    other = io.StringIO()
    monkeypatch.setattr(sys, "stdout", other)
    monkeypatch.setattr(sys, "stderr", other)
    monkeypatch.setattr(sys, name, gone_stream(kind))
    before = sys.stdout, sys.stderr
    with any_terminal() as output:
        for _ in range(3):
            print("x" * 100_000)
            print("y" * 100_000, file=sys.stderr)
            sys.stdout.flush()
        list(tqdm(range(3), mininterval=0))
        write_output(tmp_path / "result.txt", TEXT)
    assert (sys.stdout, sys.stderr) == before
    assert (output.error is not None) == ((name, kind) == ("stdout", "full"))
    # Nothing meant for one stream is written to the other.
    assert ("x" in other.getvalue(), "y" in other.getvalue()) == (name == "stderr", name == "stdout")
    assert (tmp_path / "result.txt").read_text(encoding="utf-8") == TEXT.replace("\udce9", "\\xe9") + "\n"


def test_streams_are_given_back_after_an_error(capsys):
    before = sys.stdout, sys.stderr
    with pytest.raises(ZeroDivisionError), any_terminal():
        print("half")
        raise ZeroDivisionError
    assert (sys.stdout, sys.stderr) == before and capsys.readouterr().out == "half\n"


def test_all_else_is_that_of_the_stream(monkeypatch):
    with terminal(monkeypatch, "cp1252"):
        stream = sys.stdout
        with any_terminal():
            assert (sys.stdout.encoding, sys.stdout.isatty(), sys.stdout.buffer) == ("cp1252", False, stream.buffer)
            assert sys.stdout.write("≤≤") == 2
