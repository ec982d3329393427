"""Fetch images behind addresses over HTTP, within limits of time and size; a missing image has a reason.

Addresses come from strangers. Only hosts on the public Internet are contacted: an address, or a redirect, that leads into this machine or
its network is refused, by the numeric address that is then connected to, so that a name can't change its meaning in between.
"""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import IO, Any
from urllib.parse import quote, urlsplit, urlunsplit

from mia_hub import __version__
from mia_hub.system.time_limit import TimeLimit

# Seconds for each answer of a server, and for a whole image: a server that sends a byte now and then would occupy us forever.
ANSWER_SECONDS = 10.0
IMAGE_SECONDS = 60.0
MOST_BYTES = 30 * 2**20
WORKERS = 16
# Statuses worth another attempt: the server was busy, or asks for patience.
TEMPORARY = {408, 425, 429, 500, 502, 503, 504}
# Hosts that are contacted although they are not on the public Internet. Empty; tests add their own server.
ALLOWED_INSIDE: frozenset[str] = frozenset()
NOT_PUBLIC = "no public address"
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
USER_AGENT = f"mia_hub/{__version__} (membership audits of diffusion models; fetches single images)"


@dataclass(frozen=True)
class FetchResult:
    """The result of fetching an address.

    Attributes:
        content: the file, or None.
        reason: why there is none, such as "HTTP 404".
        lasting: whether another attempt would give the same result.
    """

    content: bytes | None = None
    reason: str = ""
    lasting: bool = True


class NotPublicError(OSError):
    """A host in this machine, or in a private network."""


def is_public(address: str) -> bool:
    """Whether a numeric address lies on the public Internet, also where an IPv4 address is wrapped in an IPv6 one."""
    ip = ipaddress.ip_address(address.split("%")[0])
    if ip.version == 6:
        inner = ip.ipv4_mapped or ip.sixtofour or (ipaddress.ip_address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None)
        if inner is None and (ip.is_site_local or ip.is_reserved):
            # Addresses that may lead inside without being private: old forms, and translations that only a network knows.
            return False
        ip = inner or ip
    return ip.is_global and not ip.is_multicast


def _public_addresses(host: str, port: int) -> list[tuple[str, int]]:
    """Return the numeric addresses and ports that a name stands for.

    Raises:
        NotPublicError: if any of them is not public.
    """
    addresses = [(str(address[0]), int(address[1])) for *_, address in socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)]
    if host not in ALLOWED_INSIDE and not all(is_public(ip) for ip, _ in addresses):
        raise NotPublicError(host)
    return addresses


def _connect_to_public(
    limit: TimeLimit, address: tuple[str, int], timeout: float | None = None, source_address: tuple[str, int] | None = None
) -> socket.socket:
    """Connect like `socket.create_connection`, to a public host only."""
    failure: OSError | None = None
    for numeric in _public_addresses(*address):
        try:
            return _connect(limit, numeric, timeout, source_address)
        except OSError as error:
            failure = error
    raise failure or OSError("no address")


def _connect(
    limit: TimeLimit, address: tuple[str, int], timeout: float | None = None, source_address: tuple[str, int] | None = None
) -> socket.socket:
    """Connect like `socket.create_connection`, within a limit."""
    if limit.passed:
        raise TimeoutError("too slow")
    connection = socket.create_connection(address, min(limit.left, timeout or limit.left), source_address)
    connection.settimeout(timeout)
    limit.watch(connection)
    return connection


class _Opener(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Connects to public hosts only. A proxy, which this machine's owner has chosen, may lie inside; the host behind it may not."""

    def __init__(self, limit: TimeLimit):
        super().__init__()
        self.limit = limit

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connection(http.client.HTTPConnection, request), request)

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connection(http.client.HTTPSConnection, request), request)

    def _connection(self, kind: type[http.client.HTTPConnection], request: urllib.request.Request) -> Any:
        """Return a function that makes a connection of this kind, which connects within the limit and to an allowed host."""
        connect = self._connect_function(request)

        def make(*args: Any, **options: Any) -> http.client.HTTPConnection:
            connection: Any = kind(*args, **options)
            connection._create_connection = connect
            return connection  # type: ignore[no-any-return]  # the attribute is private

        return make

    def _connect_function(self, request: Any) -> Any:
        if not (request.has_proxy() or request._tunnel_host):
            return partial(_connect_to_public, self.limit)
        # A name that only the proxy could look up is refused: it may be one of the network's own.
        target = urlsplit(request.full_url)
        _public_addresses(target.hostname or "", target.port or 0)
        return partial(_connect, self.limit)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect to a well-formed address."""

    def redirect_request(
        self, request: urllib.request.Request, answer: IO[bytes], code: int, message: str, headers: Any, address: str
    ) -> urllib.request.Request | None:
        # The answer's body is not read: it may have no end.
        answer.close()
        return super().redirect_request(request, answer, code, message, headers, _quoted(address))


class _Web(urllib.request.OpenerDirector):
    """Opens http and https only: an address that leads to a file or to FTP, directly or by a redirect, is refused."""

    def __init__(self, limit: TimeLimit):
        super().__init__()
        request = urllib.request
        for handler in (
            request.ProxyHandler(), _Opener(limit), request.HTTPDefaultErrorHandler(), _Redirects(), request.HTTPErrorProcessor(),
            request.UnknownHandler(),
        ):  # fmt: skip
            self.add_handler(handler)
        self.addheaders = [("User-Agent", USER_AGENT), ("Accept", "image/*,*/*;q=0.5")]


def fetch(address: str) -> FetchResult:
    """Fetch one file from a public host, within the limits above."""
    with TimeLimit(IMAGE_SECONDS) as limit:
        result = _fetch(address, limit)
        # A connection that was shut down looks like a short file, or any other failure.
        return FetchResult(reason="too slow", lasting=False) if limit.passed else result


def _fetch(address: str, limit: TimeLimit) -> FetchResult:
    try:
        with _Web(limit).open(_quoted(address), timeout=ANSWER_SECONDS) as answer:
            return _content(answer)
    except urllib.error.HTTPError as error:
        error.close()
        return FetchResult(reason=f"HTTP {error.code}", lasting=error.code not in TEMPORARY)
    except urllib.error.URLError as error:
        if isinstance(error.reason, NotPublicError):
            return FetchResult(reason=NOT_PUBLIC)
        no_answer = isinstance(error.reason, OSError)
        return FetchResult(reason="no answer" if no_answer else "no web address", lasting=not no_answer)
    except NotPublicError:
        return FetchResult(reason=NOT_PUBLIC)
    except (OSError, http.client.HTTPException):
        return FetchResult(reason="no answer", lasting=False)
    except ValueError:  # no address: no host, a bad port, a control character
        return FetchResult(reason="no web address")


def _content(answer: http.client.HTTPResponse) -> FetchResult:
    stated = answer.headers.get("Content-Length") or "0"
    if not (stated.isascii() and stated.strip().isdigit()):
        raise http.client.HTTPException("a length that is no number")
    length = answer.length or 0  # of the body; 0 where it comes in chunks
    if length > MOST_BYTES:
        return FetchResult(reason="too large")
    content = bytearray()
    while part := answer.read1(2**16):
        content += part
        if len(content) > MOST_BYTES:
            return FetchResult(reason="too large")
    if len(content) < length:
        raise http.client.IncompleteRead(bytes(content))
    return FetchResult(bytes(content))


def _quoted(address: str) -> str:
    """Return the address as HTTP takes it: other characters than ASCII are escaped, and existing escapes stay, except in the host.

    Escapes in the host are refused: urllib would undo them, and so contact another host than the one that was checked.
    """
    parts = urlsplit(str(address).strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not a web address")
    host = parts.hostname.encode("idna").decode()
    if ":" in host and "%" not in host:
        host = f"[{ipaddress.IPv6Address(host)}]"
    elif not re.fullmatch(r"[\w.-]+", host, re.ASCII):
        raise ValueError("not a host")
    port = f":{parts.port}" if parts.port else ""
    safe = "/%:@!$&'()*+,;=~-._"
    return urlunsplit((parts.scheme, host + port, quote(parts.path, safe), quote(parts.query, safe + "?"), ""))


def fetch_all(addresses: Iterable[str]) -> Iterator[tuple[int, FetchResult]]:
    """Fetch several files at once, of which at most `WORKERS` are in memory.

    Yields:
        The place of an address and its result, in the order of arrival.
    """
    queue = enumerate(addresses)
    running: dict[Future[FetchResult], int] = {}
    with ThreadPoolExecutor(WORKERS) as workers:
        while True:
            for place, address in islice(queue, WORKERS - len(running)):
                running[workers.submit(fetch, address)] = place
            if not running:
                return
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(done), done.result()
