"""The app as a process of its own, and pages of it that are watched."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from playwright.sync_api import expect

ROOT = Path(__file__).parent.parent
PATIENCE = 60_000

expect.set_options(timeout=PATIENCE)


@contextmanager
def running_app(folder: Path, *, checkout: Path = ROOT, **environment: str) -> Iterator[SimpleNamespace]:
    """Runs the app.

    Args:
        folder: for its uploads and its log.
        checkout: where app.py lies.
        environment: what is set beside the tests' own.

    Yields:
        ``url``, and ``log()``, what it has printed.
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
        process = subprocess.Popen([sys.executable, "app.py"], cwd=checkout, env=environment, stdout=stream, stderr=subprocess.STDOUT)
    running = SimpleNamespace(url=f"http://127.0.0.1:{port}/", log=log.read_text)
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
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(running.url, timeout=5):
                return
        except OSError:
            assert process.poll() is None, f"the app ended:\n{running.log()}"
            assert time.monotonic() < deadline, f"the app doesn't answer:\n{running.log()}"
            time.sleep(0.1)


@contextmanager
def watched_pages(app: SimpleNamespace, context):
    """``open_(width, theme) -> Page``. At the end, no page may have gone wrong or asked another server for anything."""
    requests, complaints = [], []

    def open_(width=1280, theme="light"):
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": 844})
        page.on("request", lambda request: requests.append(request.url))
        page.on("websocket", lambda websocket: requests.append(websocket.url))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{app.url}?__theme={theme}")
        return page

    yield open_
    toasts = [text for page in context.pages for text in page.get_by_test_id("toast-body").all_inner_texts()]
    for page in context.pages:
        page.close()
    assert len(requests) > 10, "the requests weren't seen"
    elsewhere = [url for url in requests if not url.startswith((app.url, "data:", f"blob:{app.url}"))]
    assert (elsewhere, complaints, toasts) == ([], [], [])
    assert "Traceback" not in app.log() and "Error" not in app.log(), app.log()
