"""Pictures behind addresses: fetched over HTTP, with time and size limits; what can't be had is counted by its reason."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import quote, urlsplit, urlunsplit

from mia_hub import __version__

# Seconds for each answer of a server, and for a whole picture: one that sends a byte now and then would hold us for ever.
ANSWER_SECONDS = 10.0
PICTURE_SECONDS = 60.0
MOST_BYTES = 30 * 2**20
WORKERS = 16
# Worth another try: the server was busy, or asks for patience.
PASSING = {408, 425, 429, 500, 502, 503, 504}
USER_AGENT = f"mia_hub/{__version__} (membership audits of diffusion models; fetches single pictures)"


@dataclass(frozen=True)
class Fetched:
    """What came of an address.

    Attributes:
        content: the file, or None.
        reason: why there is none, such as "HTTP 404".
        lasting: whether another try would find the same.
    """

    content: bytes | None = None
    reason: str = ""
    lasting: bool = True


class _Web(urllib.request.OpenerDirector):
    """Opens http and https alone: an address that leads to a file or to FTP, directly or by a redirect, is refused."""

    def __init__(self):
        super().__init__()
        request = urllib.request
        for handler in (
            request.ProxyHandler, request.HTTPHandler, request.HTTPSHandler, request.HTTPDefaultErrorHandler,
            request.HTTPRedirectHandler, request.HTTPErrorProcessor, request.UnknownHandler,
        ):  # fmt: skip
            self.add_handler(handler())
        self.addheaders = [("User-Agent", USER_AGENT), ("Accept", "image/*,*/*;q=0.5")]


def fetch(address: str) -> Fetched:
    """Fetches one file, within the limits above."""
    deadline = time.monotonic() + PICTURE_SECONDS
    try:
        with _Web().open(_quoted(address), timeout=ANSWER_SECONDS) as answer:
            if int(answer.headers.get("Content-Length") or 0) > MOST_BYTES:
                return Fetched(reason="too large")
            content = bytearray()
            while part := answer.read1(2**16):
                content += part
                if len(content) > MOST_BYTES:
                    return Fetched(reason="too large")
                if time.monotonic() > deadline:
                    return Fetched(reason="too slow", lasting=False)
            return Fetched(bytes(content))
    except urllib.error.HTTPError as error:
        error.close()
        return Fetched(reason=f"HTTP {error.code}", lasting=error.code not in PASSING)
    except urllib.error.URLError as error:
        known = isinstance(error.reason, OSError)
        return Fetched(reason="no answer" if known else "no web address", lasting=not known)
    except (OSError, http.client.HTTPException):
        return Fetched(reason="no answer", lasting=False)
    except ValueError:  # what can't be an address: no host, a bad port, a control character
        return Fetched(reason="no web address")


def _quoted(address: str) -> str:
    """The address as HTTP takes it: what isn't ASCII is escaped, and what is escaped already stays so."""
    parts = urlsplit(str(address).strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not a web address")
    host = parts.hostname.encode("idna").decode()
    port = f":{parts.port}" if parts.port else ""
    safe = "/%:@!$&'()*+,;=~-._"
    return urlunsplit(
        (parts.scheme, f"[{host}]{port}" if ":" in host else host + port, quote(parts.path, safe), quote(parts.query, safe + "?"), "")
    )


def fetch_all(addresses: Sequence[str]) -> list[Fetched]:
    """Fetches several files at once; the answers are in the order of the addresses."""
    with ThreadPoolExecutor(WORKERS) as workers:
        return list(workers.map(fetch, addresses))
