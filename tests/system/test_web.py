"""Only hosts on the public Internet are asked, and none can hold us for long."""

from __future__ import annotations

import pytest
from support.loopback_web import Web, dripping
from support.parquet_files import bitmaps

from mia_hub.system import web as web_module
from mia_hub.system.web import NOT_PUBLIC, FetchResult, fetch, is_public


@pytest.fixture
def web(monkeypatch):
    monkeypatch.setattr(web_module, "ALLOWED_INSIDE", frozenset({"127.0.0.1"}))
    server = Web(bitmaps(64, 5)[1].to_pylist())
    yield server
    server.stop()


def test_nothing_inside_is_asked(web, monkeypatch):
    assert fetch(f"{web.url}/inside/3") == FetchResult(reason=NOT_PUBLIC), "by a redirect"
    assert web.requested == ["/inside/3"]
    monkeypatch.setattr(web_module, "ALLOWED_INSIDE", frozenset())
    web.requested.clear()
    port = web.server.server_address[1]
    for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "0.0.0.0", "169.254.169.254", "10.0.0.1"):
        found = fetch(f"http://{host}:{port}/good/1")
        assert found.content is None and found.reason in (NOT_PUBLIC, "no answer"), host
        assert found.reason == NOT_PUBLIC or host == "[::1]"
    # urllib undoes these escapes; what it would then ask was never looked at.
    for host in ("127.0.0.%31", "%6cocalhost", "127.0.0.\uff051", "[::1%25lo]"):
        assert fetch(f"http://{host}:{port}/good/1") == FetchResult(reason="no web address"), host
    with monkeypatch.context() as only_here:
        only_here.setattr(web_module, "ALLOWED_INSIDE", frozenset({"127.0.0.1"}))
        assert fetch(f"{web.url}/escaped/3") == FetchResult(reason="no web address") and web.requested == ["/escaped/3"]
        web.requested.clear()
    monkeypatch.setattr(
        web_module.socket, "getaddrinfo", lambda *_: [(2, 1, 6, "", ("93.184.216.34", 80)), (2, 1, 6, "", ("127.0.0.1", port))]
    )
    assert fetch(f"http://two-faced.example:{port}/good/1") == FetchResult(reason=NOT_PUBLIC), "a name with a public and a private address"


def test_a_proxy_may_lie_inside_but_not_what_it_is_asked_for(web, monkeypatch):
    monkeypatch.setattr(web_module, "ALLOWED_INSIDE", frozenset())
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", web.url)
    assert fetch("http://10.1.2.3/good/1") == FetchResult(reason=NOT_PUBLIC) and not web.requested
    fetch("http://93.184.216.34/good/1")
    assert len(web.requested) <= 1
    web.requested.clear()
    for host in ("jenkins.corp.invalid", "127.0.0.%31"):  # only the proxy knows what the first one is
        assert fetch(f"http://{host}/good/1").content is None and not web.requested


TROUBLE = {
    "100 and so on": (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a status line": (b"HTTP/1.1 ", b"2"),
    "a header": (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
    "a body": (b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", b"x"),
    "what is behind a redirect": (b"HTTP/1.1 302 Found\r\nLocation: /y.png\r\nContent-Length: 5000\r\n\r\n", b"x"),
}


@pytest.mark.parametrize("kind", TROUBLE)
def test_a_server_that_never_ends_is_left(kind, monkeypatch):
    monkeypatch.setattr(web_module, "ALLOWED_INSIDE", frozenset({"127.0.0.1"}))
    monkeypatch.setattr(web_module, "IMAGE_SECONDS", 0.5)
    with dripping(*TROUBLE[kind]) as address:
        found = fetch(address)
    if kind.startswith("what"):  # is not waited for; the address leads to itself
        assert found.reason == "HTTP 302"
    else:
        assert found == FetchResult(reason="too slow", lasting=False)


def test_an_answer_with_a_wrong_length_may_be_right_another_time(web):
    for kind in ("lengthless", "short"):
        assert fetch(f"{web.url}/{kind}/1") == FetchResult(reason="no answer", lasting=False)


@pytest.mark.parametrize(
    "address, public",
    [
        ("93.184.216.34", True), ("2606:2800:220:1::1", True), ("127.0.0.1", False), ("10.0.0.1", False), ("192.168.1.1", False),
        ("172.16.0.1", False), ("169.254.169.254", False), ("100.64.0.1", False), ("224.0.0.1", False), ("0.0.0.0", False), ("::1", False),
        ("::", False), ("fe80::1%eth0", False), ("fd00::1", False), ("::ffff:10.0.0.1", False), ("::ffff:93.184.216.34", True),
        ("2002:7f00:1::", False), ("64:ff9b::7f00:1", False), ("64:ff9b::5db8:d822", True), ("ff02::1", False),
        ("fec0::1", False), ("64:ff9b:1::7f00:1", False), ("::7f00:1", False), ("2002:5db8:d822::", True), ("4000::1", False),
    ],
)  # fmt: skip
def test_public_addresses(address, public):
    assert is_public(address) == public
