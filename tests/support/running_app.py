"""Pages of the app that are watched."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

from playwright.sync_api import expect

from benchmarks import ROOT
from benchmarks.running_app import running_app

__all__ = ["PATIENCE", "ROOT", "loaded", "running_app", "watched_pages"]

PATIENCE = 60_000

expect.set_options(timeout=PATIENCE)


def loaded(page) -> None:
    """Waits until all that the page opens with is there. Its connection to the server stays open, so that the network is never idle."""
    page.wait_for_load_state("load")
    page.wait_for_timeout(1000)


@contextmanager
def watched_pages(app: SimpleNamespace, context):
    """``open_(width, theme, address) -> Page``. At the end, no page may have gone wrong or asked another server for anything."""
    requests, complaints = [], []

    def open_(width=1280, theme="light", address=""):
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": 844})
        page.on("request", lambda request: requests.append(request.url))
        page.on("websocket", lambda websocket: requests.append(websocket.url))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(f"{app.url}?__theme={theme}&{address}")
        return page

    yield open_
    toasts = [text for page in context.pages for text in page.get_by_test_id("toast-body").all_inner_texts()]
    for page in context.pages:
        page.close()
    assert len(requests) > 10, "the requests weren't seen"
    elsewhere = [url for url in requests if not url.startswith((app.url, "data:", f"blob:{app.url}"))]
    assert (elsewhere, complaints, toasts) == ([], [], [])
    assert "Traceback" not in app.log() and "Error" not in app.log(), app.log()
