"""The app as a process or in this one, and pages of it that are watched."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from playwright.sync_api import BrowserContext, Page, expect

from benchmarks import ROOT
from benchmarks.running_app import running_app

__all__ = ["PATIENCE", "ROOT", "app_here", "loaded", "running_app", "watched_pages"]

PATIENCE = 90_000

expect.set_options(timeout=PATIENCE)


def loaded(page: Page) -> None:
    """Wait until all that the page opens with is there. Its connection to the server stays open, so that the network is never idle."""
    page.wait_for_load_state("load")
    page.wait_for_function("[...document.images].every((image) => image.complete) && document.fonts.status === 'loaded'")


@contextmanager
def app_here(folder: Path, **environment: str) -> Iterator[SimpleNamespace]:
    """Run the app in this process, in threads of its own, which costs no second start.

    Args:
        folder: for its uploads.
        environment: set while it runs.

    Yields:
        ``url``.
    """
    from mia_hub.ui import build_app, launch_options

    with mock.patch.dict(os.environ, {"GRADIO_TEMP_DIR": str(folder), "MIA_HUB_HOME": str(folder / "home")} | environment):
        app = build_app()
        try:
            _, url, _ = app.launch(**launch_options(), prevent_thread_lock=True, server_name="127.0.0.1", quiet=True)
            yield SimpleNamespace(url=url)
        finally:
            app.close(verbose=False)


@contextmanager
def watched_pages(app: SimpleNamespace, context: BrowserContext) -> Iterator[Callable[..., Page]]:
    """Yield ``open_(width, theme, address) -> Page``. At the end, no page may have failed or requested anything from another server."""
    requests: list[str] = []
    complaints: list[str] = []
    pages: list[Page] = []
    logged_before = len(app.log())

    def open_(width: int = 1280, theme: str = "light", address: str = "") -> Page:
        page = context.new_page()
        pages.append(page)
        page.set_viewport_size({"width": width, "height": 844})
        page.on("request", lambda request: requests.append(request.url))
        page.on("websocket", lambda websocket: requests.append(websocket.url))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(f"{app.url}?__theme={theme}&{address}")
        return page

    try:
        yield open_
        toasts = [text for page in pages for text in page.get_by_test_id("toast-body").all_inner_texts()]
    finally:
        for page in pages:
            page.close()
    assert len(requests) > 10, "the requests weren't seen"
    elsewhere = [url for url in requests if not url.startswith((app.url, "data:", f"blob:{app.url}"))]
    log: Any = app.log()[logged_before:]
    assert (elsewhere, complaints, toasts) == ([], [], [])
    assert "Traceback" not in log and "Error" not in log, log
