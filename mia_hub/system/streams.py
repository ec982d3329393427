"""Standard output and standard error of a command: whatever is printed, and whoever reads it, the command does its work to the end."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from mia_hub.rendering.transliteration import transliterated

# A reader that went away, as `| head` does; Windows has another number for it.
_READER_GONE = (errno.EPIPE, errno.EINVAL, errno.ECONNRESET)


class OutputStream:
    """A stream that can print any text: in ASCII where its encoding lacks a character, and into nothing once it can't be written to.

    Everything but writing is that of the stream itself.

    Attributes:
        error: why nothing more is written, if anything but that its reader has gone.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._closed = False
        self.error: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text; return its length."""
        if not self._closed:
            encoding = getattr(self._stream, "encoding", None)
            try:
                self._stream.write(transliterated(text, encoding) if encoding else text)
            except (OSError, ValueError) as error:
                self._close(error)
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write texts, one after another."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what is still in memory."""
        if not self._closed:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._close(error)

    def _close(self, error: OSError | ValueError) -> None:
        # A ValueError comes from a stream that is closed.
        self._closed = True
        if isinstance(error, OSError) and error.errno not in _READER_GONE:
            self.error = error
        # What is left in the stream's memory is written when the process ends, and would fail again.
        with suppress(OSError, ValueError, AttributeError):
            number = self._stream.fileno()
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, number)
            os.close(nothing)


@contextmanager
def any_terminal() -> Iterator[OutputStream]:
    """Let a command print to any terminal or file, to a pipe that is closed early, and without standard output or standard error.

    Also a decorator of a function. What a stream's encoding lacks is printed in ASCII: "≤" as "<=".

    Yields:
        standard output.
    """
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nothing:
        out, err = (OutputStream(stream or nothing) for stream in before)
        sys.stdout, sys.stderr = cast(TextIO, out), cast(TextIO, err)
        try:
            yield out
        finally:
            out.flush()
            err.flush()
            sys.stdout, sys.stderr = before
