"""Standard output and standard error as some terminals have them."""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

ENCODINGS = ("ascii", "cp1252")


class Broken(io.RawIOBase):
    """A stream on which every write fails, as on a full disk or a closed pipe."""

    def __init__(self, number: int) -> None:
        self.number = number

    def writable(self) -> bool:
        return True

    def write(self, content) -> int:
        raise OSError(self.number, "broken")


@dataclass
class Terminal:
    """The output, as the terminal's bytes."""

    encoding: str
    out: io.BytesIO = field(default_factory=io.BytesIO)
    err: io.BytesIO = field(default_factory=io.BytesIO)

    def text(self) -> tuple[str, str]:
        """Standard output and standard error."""
        return self.out.getvalue().decode(self.encoding), self.err.getvalue().decode(self.encoding)


@contextmanager
def terminal(monkeypatch, encoding: str) -> Iterator[Terminal]:
    """A terminal or a redirection of an encoding, strict as Python's standard output is."""
    shown = Terminal(encoding)
    streams = [io.TextIOWrapper(stream, encoding, errors="strict", write_through=True) for stream in (shown.out, shown.err)]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", streams[0])
        patch.setattr(sys, "stderr", streams[1])
        yield shown
        for stream in streams:
            stream.detach()


def gone_stream(kind: str):
    """Standard output as it is when nobody can read it: "absent", "closed", "pipe" or "full"."""
    if kind == "absent":
        return None
    if kind == "closed":
        stream = io.TextIOWrapper(io.BytesIO(), "utf-8")
        stream.close()
        return stream
    return io.TextIOWrapper(io.BufferedWriter(Broken({"pipe": errno.EPIPE, "full": errno.ENOSPC}[kind])), "utf-8")
