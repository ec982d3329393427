"""Settings of the C library's memory, and its return to the system: done where there is glibc, and harmless elsewhere."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from mia_hub.system import malloc
from mia_hub.system.malloc import unused_memory_returned

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


# Large blocks, 64 MiB in all, which are freed, between small ones that stay in use.
UNUSED = """
import ctypes, re, sys, time
from mia_hub.system.malloc import unused_memory_returned

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

libc = ctypes.CDLL(None)
libc.malloc.restype = libc.memset.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
blocks = []
for i in range(1024):
    blocks.append(libc.malloc(65536))
    libc.memset(ctypes.c_void_p(blocks[-1]), 1, 65536)
    libc.memset(ctypes.c_void_p(libc.malloc(64)), 1, 64)
used = resident()
with unused_memory_returned(every=0.01):
    for block in blocks:
        libc.free(block)
    deadline = time.monotonic() + 60
    while resident() > used - 40 and time.monotonic() < deadline:
        time.sleep(0.01)
print(used - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone keeps it")
def test_unused_memory_is_returned():
    printed = subprocess.run([sys.executable, "-c", UNUSED], capture_output=True, text=True, check=True).stdout
    assert float(printed) > 40


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone keeps it")
def test_the_return_ends_with_its_context():
    before = set(threading.enumerate())
    with unused_memory_returned(every=0.001):
        [thread] = set(threading.enumerate()) - before
    assert not thread.is_alive()


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
    if case != "set by the user":
        before = set(threading.enumerate())
        with unused_memory_returned():
            assert not set(threading.enumerate()) - before
