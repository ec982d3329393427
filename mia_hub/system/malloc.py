"""How the C library hands out memory, and gives it back to the system."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Of <malloc.h>.
M_ARENA_MAX = -8
ARENAS = 2
# Between two returns of unused memory. One takes a few hundredths of a second on a busy page.
RETURN_EVERY_SECONDS = 10.0


def share_arenas() -> bool:
    """Let all threads of this process take their memory from the same few arenas; return whether the C library takes the setting.

    glibc gives each thread an arena of its own, which keeps the most that the thread ever needed: with the threads of a server, that
    adds up. Call it before there are threads. The environment variable MALLOC_ARENA_MAX goes first.
    """
    if not sys.platform.startswith("linux") or "MALLOC_ARENA_MAX" in os.environ:
        return False
    try:
        return bool(ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS))
    except (OSError, AttributeError):  # a C library without arenas, such as musl
        return False


@contextmanager
def unused_memory_returned(every: float = RETURN_EVERY_SECONDS) -> Iterator[None]:
    """A context in which this process gives memory that it no longer uses back to the system, now and then.

    glibc keeps free memory that lies between blocks in use. On a busy server that becomes more than what is in use. Other C libraries are
    left alone.

    Args:
        every: seconds between two returns.
    """
    trim, ended = _malloc_trim(), threading.Event()
    if trim is None:
        yield
        return

    def run() -> None:
        while not ended.wait(every):
            trim(0)

    thread = threading.Thread(target=run, name="unused memory", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _malloc_trim() -> Callable[[int], int] | None:
    """Return glibc's function; None where there is another C library."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None
    trim.argtypes = [ctypes.c_size_t]
    return trim
