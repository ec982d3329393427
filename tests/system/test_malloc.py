"""The setting of the C library's memory: taken where there is glibc, and harmless elsewhere."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from mia_hub.system import malloc

ARENAS_USED = """
import ctypes, sys, threading
from mia_hub.system.malloc import share_arenas
if sys.argv[1] == "shared":
    share_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
ready = threading.Barrier(9)
def use():
    ready.wait()
    libc.malloc(100)
    ready.wait()
threads = [threading.Thread(target=use) for _ in range(8)]
[thread.start() for thread in threads]
ready.wait()
ready.wait()
libc.malloc_stats()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone has arenas")
def test_threads_share_arenas(monkeypatch):
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    used = {}
    for how in ("shared", "own"):
        printed = subprocess.run([sys.executable, "-c", ARENAS_USED, how], capture_output=True, text=True, check=True)
        used[how] = printed.stderr.count("Arena ")
    assert used["shared"] <= malloc.ARENAS < used["own"]


@pytest.mark.parametrize("case", ["set by the user", "another system", "another C library"])
def test_elsewhere_nothing_is_set(case, monkeypatch):
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    if case == "set by the user":
        monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    if case == "another system":
        monkeypatch.setattr(sys, "platform", "darwin")
    if case == "another C library":
        monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    assert not malloc.share_arenas()
