"""Pictures behind addresses: fetched over HTTP, with time and size limits; what can't be had is counted by its reason.

Addresses come from strangers. Only hosts on the public Internet are asked: an address, or a redirect, that leads into this machine or its
network is refused, by the numeric address that is then connected to, so that a name can't change its meaning in between.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
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
# Hosts that are asked although they are not on the public Internet. Empty; tests put their own server here.
ALLOWED_INSIDE: frozenset[str] = frozenset()
NOT_PUBLIC = "no public address"
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
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


class NotPublicError(OSError):
    """A host in this machine, or in a private network."""


def is_public(address: str) -> bool:
    """Whether a numeric address lies on the public Internet, also where an IPv4 address is wrapped in an IPv6 one."""
    ip = ipaddress.ip_address(address.split("%")[0])
    inner = None
    if ip.version == 6:
        inner = ip.ipv4_mapped or ip.sixtofour or (ipaddress.ip_address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None)
    return all(each.is_global and not each.is_multicast for each in ([inner] if inner else [ip]))


def _public_addresses(host: str, port: int) -> list[tuple]:
    """What a name stands for.

    Raises:
        NotPublicError: if any of it is not public.
    """
    found = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
    if host not in ALLOWED_INSIDE and not all(is_public(address[0]) for *_, address in found):
        raise NotPublicError(host)
    return found


def _connect(address: tuple[str, int], timeout=None, source_address=None) -> socket.socket:
    """As `socket.create_connection`, to a public host only."""
    failure: OSError | None = None
    for *_, found in _public_addresses(*address):
        try:
            return socket.create_connection(found[:2], timeout, source_address)
        except OSError as error:
            failure = error
    raise failure or OSError("no address")


class _PublicHTTP(http.client.HTTPConnection):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self._create_connection = _connect


class _PublicHTTPS(http.client.HTTPSConnection):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self._create_connection = _connect


class _Opener(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Connects to public hosts only. A proxy, which this machine's owner has chosen, may lie inside; what it is asked for may not."""

    def http_open(self, request):
        return self.do_open(http.client.HTTPConnection if self._by_proxy(request) else _PublicHTTP, request)

    def https_open(self, request):
        return self.do_open(http.client.HTTPSConnection if self._by_proxy(request) else _PublicHTTPS, request)

    def _by_proxy(self, request) -> bool:
        target = urlsplit(request.full_url)
        if request.host == target.netloc:
            return False
        with suppress(socket.gaierror):  # a name that only the proxy can look up
            _public_addresses(target.hostname, target.port or 0)
        return True


class _Web(urllib.request.OpenerDirector):
    """Opens http and https alone: an address that leads to a file or to FTP, directly or by a redirect, is refused."""

    def __init__(self):
        super().__init__()
        request = urllib.request
        for handler in (
            request.ProxyHandler, _Opener, request.HTTPDefaultErrorHandler, request.HTTPRedirectHandler, request.HTTPErrorProcessor,
            request.UnknownHandler,
        ):  # fmt: skip
            self.add_handler(handler())
        self.addheaders = [("User-Agent", USER_AGENT), ("Accept", "image/*,*/*;q=0.5")]


def fetch(address: str) -> Fetched:
    """Fetches one file from a public host, within the limits above."""
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
        if isinstance(error.reason, NotPublicError):
            return Fetched(reason=NOT_PUBLIC)
        known = isinstance(error.reason, OSError)
        return Fetched(reason="no answer" if known else "no web address", lasting=not known)
    except NotPublicError:
        return Fetched(reason=NOT_PUBLIC)
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
