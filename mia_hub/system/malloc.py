"""How the C library hands out memory."""

from __future__ import annotations

import ctypes
import os
import sys

# Of <malloc.h>.
M_ARENA_MAX = -8
ARENAS = 2


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
