"""Fetching of what lies behind addresses."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from support.loopback_web import Web
from support.noise_images import noise

from mia_hub.system import web as fetching


@pytest.fixture
def web(monkeypatch):
    monkeypatch.setattr(fetching, "ALLOWED_INSIDE", frozenset({"127.0.0.1"}))
    server = Web(noise(64, 20, 7))
    yield server
    server.stop()


def test_addresses_that_lead_nowhere_or_elsewhere(web, monkeypatch):
    assert fetching.fetch(f"{web.url}/good/1").content == noise(64, 20, 7)[1]
    assert fetching.fetch(f"{web.url}/good/1/ä b%20c?d=é").content and web.asked[-1] == "/good/1/%C3%A4%20b%20c?d=%C3%A9"
    assert fetching.fetch(f"{web.url}/moved/1").content == noise(64, 20, 7)[1] and web.asked[-1].startswith("/good/1?a=%")
    for address in (
        "file:///etc/hostname",
        "ftp://x/y.png",
        "data:image/png;base64,AA",
        "/etc/hostname",
        "http://",
        "http://a b:x/",
        "",
        "http://[::1",
    ):
        found = fetching.fetch(address)
        assert (found.content, found.reason, found.lasting) == (None, "no web address", True), address
    away = fetching.fetch(f"{web.url}/away/1")
    assert away.content is None and away.reason == "HTTP 302"
    assert fetching.fetch("http://127.0.0.1:9/x.png") == fetching.FetchResult(reason="no answer", lasting=False)
    silent = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler, bind_and_activate=True)  # accepts, and never answers
    monkeypatch.setattr(fetching, "ANSWER_SECONDS", 0.2)
    assert fetching.fetch(f"http://127.0.0.1:{silent.server_address[1]}/x.png") == fetching.FetchResult(reason="no answer", lasting=False)
    silent.server_close()
    for most in (50_000, 20):  # a length that was announced, and one that wasn't
        with monkeypatch.context() as patched:
            patched.setattr(fetching, "MOST_BYTES", most)
            assert fetching.fetch(f"{web.url}/{'huge' if most > 20 else 'good'}/1") == fetching.FetchResult(reason="too large")
    monkeypatch.setattr(fetching, "ANSWER_SECONDS", 10.0)
    monkeypatch.setattr(fetching, "IMAGE_SECONDS", -1.0)
    assert fetching.fetch(f"{web.url}/good/1") == fetching.FetchResult(reason="too slow", lasting=False)
