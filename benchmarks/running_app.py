"""The app as a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from benchmarks import ROOT

STARTING_SECONDS = 300


@contextmanager
def running_app(
    folder: Path, *, command: Sequence[str] = ("app.py",), checkout: Path = ROOT, **environment: str
) -> Iterator[SimpleNamespace]:
    """Runs the app.

    Args:
        folder: for its uploads and its log.
        command: arguments of Python that start it.
        checkout: the folder to start it in.
        environment: what is set beside the tests' own.

    Yields:
        ``url``, ``pid``, and ``log()``, what it has printed.

    Raises:
        RuntimeError: if it ends, or doesn't answer in five minutes.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(folder / "uploads"),
        "MIA_HUB_HOME": str(folder / "home"),
        "PYTHONUNBUFFERED": "1",
    } | environment  # fmt: skip
    log = folder / "log.txt"
    with log.open("wb") as stream:
        process = subprocess.Popen([sys.executable, *command], cwd=checkout, env=environment, stdout=stream, stderr=subprocess.STDOUT)
    running = SimpleNamespace(url=f"http://127.0.0.1:{port}/", log=log.read_text, pid=process.pid)
    try:
        _wait_for(running, process)
        yield running
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(running: SimpleNamespace, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + STARTING_SECONDS
    while True:
        try:
            with urllib.request.urlopen(running.url, timeout=5):
                return
        except OSError:
            if process.poll() is not None:
                raise RuntimeError(f"The app ended:\n{running.log()}") from None
            if time.monotonic() > deadline:
                raise RuntimeError(f"The app doesn't answer:\n{running.log()}") from None
            time.sleep(0.1)
